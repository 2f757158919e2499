"""Studies of fields on the command line: their folder, their page, and going on."""

import json

import numpy as np
import pytest
import xarray as xr

import sciad as sd
from sciad.app import contents, studies
from sciad.app.cli import main
from sciad.app.report import render
from sciad.app.run import Run

STUDY = '''"""Cooling of a cup: a rate from few readings.

A field over time alone, so that it is quick.
"""

import functools
from pathlib import Path

import equinox as eqx
import sciad as sd

settings = {"rate": 1.0, "budget": 60.0, "steps": 400}


class Cooling(eqx.Module):
    """Newton's law of cooling."""

    rate: sd.Param

    def __call__(self, u, p):
        return sd.d(u, "t")(p) + self.rate * u(p)


def data(path=None):
    return sd.read(path or "cup.csv", coords="t", rows=True)


def problem(data, settings):
    small = functools.partial(sd.models.networks.MLP, width=8, depth=1)
    return sd.PDEProblem(sd.Box(t=(0, 1)), data=data, network=small)


def program(settings):
    return Cooling(sd.param(settings["rate"], unit="1/h"))


def watch(program):
    if Path("stop").exists():
        raise KeyboardInterrupt


def solver(settings):
    return sd.Collocation(points=60, budget=settings["budget"], max_steps=settings["steps"], watch=watch)
'''


@pytest.fixture
def cup(workplace):
    t = np.random.default_rng(0).uniform(0, 1, 40)
    u = np.exp(-2 * t) + 0.01 * np.random.default_rng(1).standard_normal(40)
    rows = "\n".join(f"{a:.5f},{b:.5f}" for a, b in zip(t, u, strict=True))
    (workplace / "cup.csv").write_text(f"t,u\n{rows}\n")
    (workplace / "cup.py").write_text(STUDY)
    return workplace


@pytest.mark.usefixtures("cup")
def test_a_field_is_fitted_kept_shown_and_loaded(capsys):
    assert main(["fit", "cup.py", "--json"]) == 0
    told = json.loads(capsys.readouterr().out.splitlines()[-1])
    rate = told["fit"]["rate"]
    assert abs(rate["value"] - 2) < 4 * rate["standard_error"]
    run = Run.open("runs/cup")
    page = run.path("report.html").read_text()
    for words in ("Newton&#39;s law of cooling", "equation missed by", "standard error of u", "Standardised residuals"):
        assert words in page, words
    again = contents.load(run)
    assert render(again) == page
    assert set(again.field) == {"field", "rounds", "seen"}
    study = studies.load("cup.py")
    problem = study.problem(study.data(None), study.settings)
    kept = sd.load(run.path("program.npz"), problem.complete(study.program(study.settings)))
    assert float(kept.equation.rate.array) == rate["value"]


def test_an_interrupted_fit_goes_on_from_what_is_kept(cup, capsys):
    (cup / "stop").touch()
    assert main(["fit", "cup.py"]) == 130
    assert "sciad resume runs/cup" in capsys.readouterr().err
    assert not (cup / "runs/cup/fit.json").exists()
    (cup / "stop").unlink()
    assert main(["resume", "runs/cup"]) == 0
    assert "going on from" in capsys.readouterr().err


@pytest.mark.usefixtures("cup")
def test_a_fit_that_is_cut_short_does_not_pass(capsys):
    assert main(["fit", "cup.py", "--set", "steps=2"]) == 1
    said = capsys.readouterr()
    assert "Do not use these numbers yet: fit did not pass." in said.out + said.err
    assert "Give the fit more time" in said.out + said.err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["sample", "burgers"], "`sciad sample` draws the parameters of an ODEProblem; burgers is of a field."),
        (["fit", "burgers", "--data", "wrong.csv"], "wrong.csv: "),
        (["fit", "burgers", "--set", "points=none"], "setting points is 'none': expected a value like its default"),
        (["fit", "burgers", "--set", "starts=3"], "fit(starts=...) is of an ODEProblem"),
    ],
)
def test_what_a_field_cannot_use_is_told(workplace, capsys, words, message):
    (workplace / "wrong.csv").write_text("x,time,u\n0,0,1\n")
    assert main(words) == 2
    assert message in capsys.readouterr().err


def test_rows_are_places(tmp_path):
    file = tmp_path / "seen.csv"
    file.write_text("x [m],t,u [K]\n0.5,2,1.0\n0.1,1,2.0\n0.5,2,1.5\n")
    data = sd.read(file, coords=("x", "t"), rows=True)
    assert data["u"].dims == ("row",)
    assert data["x"].to_numpy().tolist() == [0.5, 0.1, 0.5]
    assert data["x"].attrs["units"] == "m"
    file.write_text("x,t,u\n0.5,2,1.0\n0.1,,2.0\n")
    with pytest.raises(sd.InputError, match="'t' is missing in row 2"):
        sd.read(file, coords=("x", "t"), rows=True)
    file.write_text("x,t,u\n0.5,2026-01-02,1.0\n0.1,2026-01-01,2.0\n")
    dated = sd.read(file, coords=("x", "t"), rows=True, time_unit="hour")
    assert dated["t"].to_numpy().tolist() == [24.0, 0.0]
    arrays = tmp_path / "seen.nc"
    xr.Dataset({"u": ("x", [1.0])}, {"x": [0.0]}).to_netcdf(arrays, engine="h5netcdf")
    with pytest.raises(sd.InputError, match="rows=True is of tables"):
        sd.read(arrays, coords="x", rows=True)


@pytest.mark.slow
@pytest.mark.usefixtures("workplace")
def test_the_study_of_burgers_finds_the_truth(capsys):
    assert main(["fit", "burgers", "--json"]) == 0
    told = json.loads(capsys.readouterr().out.splitlines()[-1])["fit"]
    for name, truth in {"advection": 1.0, "viscosity": 0.01 / np.pi, "noise.u.scale": 0.00624}.items():
        assert abs(told[name]["value"] - truth) < 3 * told[name]["standard_error"], name
