import dataclasses
import json
import re
from html.parser import HTMLParser
from importlib import resources
from types import SimpleNamespace
from typing import Any

import arviz_base
import equinox as eqx
import numpy as np
import numpyro.distributions as dist
import pandas as pd
import pytest
import xarray as xr
from scipy import stats as st

import sciad as sd
import sciad._roles as roles
from sciad._checks import Check, check_posterior
from sciad._errors import InputError
from sciad._posterior import Posterior
from sciad.app import contents as contents_module
from sciad.app import pictures, studies, workflow
from sciad.app import report as report_module
from sciad.app.bands import predictive_bands
from sciad.app.cli import main
from sciad.app.contents import gather
from sciad.app.report import number, report
from sciad.app.run import Run
from sciad.app.verdict import check_agreement, compare, headline, overall

TIMES = np.arange(1900.0, 1921.0)


@dataclasses.dataclass
class Problem:
    data: xr.Dataset
    t0: float = 1899.0

    @property
    def observations(self) -> Any:
        return SimpleNamespace(times=self.data["year"].to_numpy())

    def label(self, path: str) -> str:
        return path


@dataclasses.dataclass
class Fit:
    program: Any
    values: dict[str, float]
    residuals: xr.Dataset
    diagnostics: dict[str, Any] = dataclasses.field(default_factory=lambda: {"converged": True})
    loss: float = 1.5
    result: str = "successful"
    stats: dict[str, Any] = dataclasses.field(default_factory=lambda: {"steps": 12})
    warnings: list[str] = dataclasses.field(default_factory=list)

    def table(self) -> pd.DataFrame:
        rows = {
            n: {"value": v, "standard_error": 0.1, "lower": v - 0.2, "upper": v + 0.2} for n, v in self.values.items()
        }
        return pd.DataFrame.from_dict(rows, orient="index")

    def prediction(self, times: np.ndarray) -> xr.Dataset:
        return waves(times)


def waves(times: np.ndarray) -> xr.Dataset:
    phase = 2 * np.pi * (np.asarray(times) - 1900) / 10
    values = {"hare": 35 + 25 * np.sin(phase), "lynx": 25 + 15 * np.sin(phase - 1.2)}
    return xr.Dataset(
        {name: ("year", value, {"units": "thousands"}) for name, value in values.items()}, {"year": np.asarray(times)}
    )


def results(
    *, draws: int = 250, shift: float = 0.0, divergences: int = 0, count: int = 3
) -> tuple[Problem, Fit, Posterior]:
    rng = np.random.default_rng(0)
    every = {"alpha": 0.55, "beta": 0.028, "gamma": 0.8, "delta": 0.024, "initial.hare": 34.0, "initial.lynx": 5.9,
              "noise.hare.sigma": 0.25, "noise.lynx.sigma": 0.25}  # fmt: skip
    centre = dict(list(every.items())[-count:])
    common = rng.normal(size=(4, draws)) + shift * np.arange(4)[:, None]
    posterior = {n: v * (1 + 0.08 * common + 0.08 * rng.normal(size=(4, draws))) for n, v in centre.items()}
    truth = waves(TIMES)
    noise = {n: np.exp(0.25 * rng.normal(size=TIMES.size)) for n in truth}
    data = truth.copy(data={n: truth[n].to_numpy() * noise[n] for n in truth})
    predictive = {n: truth[n].to_numpy() * np.exp(0.25 * rng.normal(size=(4, draws, TIMES.size))) for n in truth}
    diverging = np.zeros((4, draws), bool)
    diverging.flat[:divergences] = True
    none = np.zeros((4, draws), bool)
    stats = {"diverging": diverging, "failed_solve": none, "reached_max_treedepth": none,
             "energy": rng.normal(size=(4, draws)), "acceptance_rate": 0.8 + none, "n_steps": 7 + none}  # fmt: skip
    tree = arviz_base.from_dict(
        {"posterior": posterior, "posterior_predictive": predictive, "sample_stats": stats,
         "observed_data": {n: data[n].to_numpy() for n in data}},
        coords={"year": TIMES}, dims={n: ["year"] for n in truth},
    )  # fmt: skip
    diagnostics = {"divergences": divergences, "failed_solves": 0, "ebfmi": [0.9, 1.0, 0.95, 1.1],
                   "tree_depth_saturated": 0, "step_size": [0.4] * 4, "sample_seconds": 1.2}  # fmt: skip
    fit = Fit(
        _program(centre), centre, xr.Dataset({n: ("year", np.log(noise[n]) / 0.25) for n in truth}, {"year": TIMES})
    )
    return Problem(data), fit, Posterior(tree, diagnostics)


def _program(centre: dict[str, float]) -> dict[str, Any]:
    prior = {name: roles.param(value, prior=dist.LogNormal(np.log(value), 0.5)) for name, value in centre.items()}
    tree: dict[str, Any] = {}
    for name, leaf in prior.items():
        *path, last = name.split(".")
        node = tree
        for part in path:
            node = node.setdefault(part, {})
        node[last] = leaf
    return tree


REFERENCE = json.loads((resources.files("sciad.app.studies") / "hudson_bay_reference.json").read_text())


class Page(HTMLParser):
    void = frozenset({"meta", "br", "img", "hr", "input", "link"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.targets: list[str] = []
        self.figures = self.labelled = 0
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        if tag not in self.void:
            self.open.append(tag)
        self.ids += [given["id"]] if given.get("id") else []
        self.targets += [value for name, value in attrs if name in ("href", "xlink:href", "src") and value]
        self.figures += tag == "figure"
        self.labelled += tag == "figure" and bool(given.get("aria-label"))

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in self.void:
            self.open.pop()

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    problem, fit, posterior = results(count=8)
    folder = tmp_path_factory.mktemp("report") / "new"
    settings = {"seed": 0, "note": "<script>alert(1)</script>"}
    return report(
        folder,
        problem=problem,
        fit=fit,
        posterior=posterior,
        reference=REFERENCE,
        settings=settings,
        title="Hare & lynx",
    ).read_text()


def test_page_is_well_formed_and_holds_everything(whole):
    page = Page(whole)
    assert not page.open
    assert len(page.ids) == len(set(page.ids))
    assert page.figures == page.labelled
    assert page.figures == 2 + 8 + 16 + 1 + 6
    inside = {f"#{name}" for name in page.ids}
    assert all(target in inside or target.startswith("data:image/png") for target in page.targets)
    assert set(re.findall(r"url\((#[^)]*)\)", whole)) <= inside


def test_page_needs_no_network_and_no_script(whole):
    assert not re.search(r"(src|href)=[\"']?(https?:)?//", whole.replace("http://www.w3.org/1999/xlink", ""))
    assert "<script" not in whole
    assert "&lt;script&gt;" in whole
    assert "Hare &amp; lynx" in whole


def test_page_shows_names_verdict_and_colours_of_the_page(whole):
    for text in ("noise.hare.sigma", "R-hat", "posteriordb", "observations lie in the 90 % band", "var(--c0)"):
        assert text in whole
    assert "Do not use these numbers yet: published reference did not pass." in whole


def test_same_results_give_the_same_page(tmp_path):
    problem, fit, posterior = results(draws=60)
    pages = [report(tmp_path, problem=problem, fit=fit, posterior=posterior).read_bytes() for _ in range(2)]
    assert pages[0] == pages[1]


def test_chains_that_disagree_are_told_apart():
    problem, fit, posterior = results(shift=2.0, divergences=7)
    contents = gather(problem=problem, fit=fit, posterior=posterior)
    states = {check.name: check.state for check in contents.checks}
    assert states["R-hat"] == states["bulk ESS"] == states["divergences"] == "fail"
    assert headline(contents.checks).startswith("Do not use these numbers yet: R-hat, bulk ESS")
    assert "The chains disagree about" in report_module.render(contents)


def test_parts_may_be_absent(tmp_path):
    problem, fit, posterior = results(draws=60)
    assert "Residuals of the fit" in report(tmp_path, fit=fit).read_text()
    assert "Residuals of the fit" not in report(tmp_path, posterior=posterior).read_text()
    assert "Data and predictions" in report(tmp_path, problem=problem, fit=fit).read_text()
    with pytest.raises(InputError, match="a report needs a fit or a posterior: got neither"):
        report(tmp_path)


def test_run_gives_the_same_page_again(tmp_path):
    problem, fit, posterior = results(draws=60, count=8)
    first = gather(problem=problem, fit=fit, posterior=posterior, reference=REFERENCE, title="t", settings={"seed": 0})
    run = Run.create(tmp_path, "pelts")
    run.write("settings.json", {"title": "t", "settings": first.settings})
    run.write("environment.json", first.environment)
    run.write("data.json", first.data_facts)
    run.write("data.nc", first.data)
    contents_module.save_fit(run, first)
    run.write("posterior.nc", posterior.tree)
    contents_module.save_posterior(run, first)
    assert report_module.render(contents_module.load(run)) == report_module.render(first)


def test_run_without_results_has_no_report(tmp_path):
    run = Run.create(tmp_path, "pelts")
    run.write("settings.json", {})
    with pytest.raises(InputError, match="holds neither a fit nor a posterior"):
        contents_module.load(run)


def test_curve_of_the_fit_starts_where_the_solve_does():
    problem, fit, _ = results(draws=60)
    curve = gather(problem=problem, fit=fit).curve
    assert curve is not None
    assert float(curve["year"][0]) == problem.t0
    assert float(curve["year"][-1]) == TIMES[-1]


def test_warnings_that_a_check_gives_are_not_given_twice():
    problem, fit, posterior = results(shift=2.0)
    posterior = Posterior.of(posterior.tree, {}, ["three modes"])
    contents = gather(problem=problem, fit=fit, posterior=posterior)
    assert len(posterior.warnings) > 1
    assert contents.warnings == ["three modes"]


def test_many_parameters_and_experiments_are_cut_with_a_word(monkeypatch):
    monkeypatch.setattr(pictures, "_MOST_PARAMETERS", 4)
    monkeypatch.setattr(pictures, "_MOST_PAIRED", 3)
    rng = np.random.default_rng(1)
    draws = {"w": rng.normal(size=(2, 30, 5, 6))}
    tree = arviz_base.from_dict({"posterior": draws, "posterior_predictive": {"y": rng.normal(size=(2, 30, 9, 4))}})
    names = [f"w[{i},{j}]" for i in range(5) for j in range(6)]
    table = pd.DataFrame(1.0, index=names, columns=SUMMARY)
    page = report_module.render(gather(posterior=Fixed(tree, table)))
    assert "Pictures are of the 4 of 30 parameters that mix least." in page
    assert "Shown are the 3 that mix least." in page
    assert page.count("Data and predictions of y (") == 6


SUMMARY = ["mean", "sd", "mcse_mean", "mcse_sd", "ess_bulk", "ess_tail", "r_hat", "q5", "q50", "q95"]


@dataclasses.dataclass
class Fixed:
    tree: xr.DataTree
    table: pd.DataFrame
    diagnostics: dict[str, Any] = dataclasses.field(default_factory=dict)
    warnings: list[str] = dataclasses.field(default_factory=list)

    def summary(self) -> pd.DataFrame:
        return self.table

    @classmethod
    def of(cls, tree: xr.DataTree, _: Any) -> "Fixed":
        return cls(tree, pd.DataFrame())


def good() -> pd.DataFrame:
    return pd.DataFrame({"mean": 1.0, "sd": 1.0, "mcse_mean": 0.01, "mcse_sd": 0.01, "ess_bulk": 900.0,
                         "ess_tail": 900.0, "r_hat": 1.0}, index=["a", "b"])  # fmt: skip


@pytest.mark.parametrize(
    ("column", "value", "name"),
    [
        ("r_hat", 1.02, "R-hat"),
        ("r_hat", np.nan, "R-hat"),
        ("ess_bulk", 300.0, "bulk ESS"),
        ("ess_tail", np.nan, "tail ESS"),
    ],
)
def test_each_bad_figure_fails_its_check(column, value, name):
    table = good()
    table.loc["b", column] = value
    failed = [check for check in check_posterior(table, {}, draws=4000) if check.state == "fail"]
    assert [check.name for check in failed] == [name]
    assert "b" in failed[0].measured


@pytest.mark.parametrize(
    ("diagnostics", "state"),
    [
        ({"divergences": 0, "ebfmi": [0.9], "failed_solves": 0, "tree_depth_saturated": 0}, "pass"),
        ({"divergences": 4}, "note"),
        ({"divergences": 5}, "fail"),
        ({"ebfmi": [0.9, 0.25]}, "note"),
        ({"ebfmi": [0.9, 0.1]}, "fail"),
        ({"failed_solves": 40}, "pass"),
        ({"failed_solves": 41}, "note"),
        ({"tree_depth_saturated": 40}, "pass"),
        ({"tree_depth_saturated": 41}, "note"),
        ({"chains": 9}, "pass"),
        ({"chains": 10}, "fail"),
    ],
)
def test_diagnostics_have_their_limits(diagnostics, state):
    found = check_posterior(good(), diagnostics, draws=4000)
    assert overall(found) == state
    assert all(bool(check.words) == (check.state != "pass") for check in found)


def test_reference_of_another_model_is_refused():
    published = {"parameters": {"c": {"mean": 1.0, "sd": 1.0, "mcse_mean": 0.1, "mcse_sd": 0.1}}}
    with pytest.raises(InputError, match=r"the reference has \['c'\], which the posterior lacks; it has \['a', 'b'\]"):
        compare(good(), published)


def test_distance_from_the_reference_decides():
    exact = {"sd": 1.0, "mcse_mean": 0.0, "mcse_sd": 0.0}
    near, far = ({"parameters": {"a": {"mean": mean, **exact}}} for mean in (1.035, 1.045))
    assert check_agreement(compare(good(), near)).state == "pass"
    assert check_agreement(compare(good(), far)).state == "fail"


def test_headline_lists_what_failed():
    failed = [Check("R-hat", "fail", "", ""), Check("fit", "fail", "", "")]
    assert headline(failed).endswith("R-hat and fit did not pass.")
    assert headline([Check("fit", "pass", "", "")]) == "The result can be used: the one check passed."


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0, "0.0"), (0.02774731, "0.02775"), (-12.3456, "-12.35"), (1e-9, "1.000e-09"), (np.nan, "–"), (7, "7")],
)
def test_numbers_have_four_digits(value, text):
    assert number(value) == text


STUDY = '''"""Made-up pelts: nothing but numbers."""

settings = {"rate": 1.0}
data = problem = program = lambda *arguments: None
'''


@pytest.fixture
def bench(monkeypatch, tmp_path):
    """A study whose verbs answer at once with the stand-ins; gives a function that runs the command line on it."""
    problem, fit, posterior = results(draws=60)
    (tmp_path / "pelts.py").write_text(STUDY)
    verbs = {"fit": lambda: fit, "sample": lambda: posterior}
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(workflow, "prepare", lambda **_: ["a note of the machine"])
    for name in verbs:
        monkeypatch.setattr(workflow.sd, name, lambda *_, name=name, **__: verbs[name](), raising=False)
    load = studies.load

    def load_with_data(name):
        return dataclasses.replace(load(name), data=lambda _: problem.data, problem=lambda *_: problem)

    monkeypatch.setattr(studies, "load", load_with_data)
    return lambda *words, **changed: verbs.update(changed) or main(list(words))


def test_command_leaves_a_whole_run(bench, tmp_path, capsys):
    status = bench("sample", "pelts.py", "--set", "rate=2", "--seed", "3", "--draws", "60", "--json")
    said = capsys.readouterr()
    outcome = json.loads(said.out)
    run = tmp_path / "runs" / "pelts"
    assert status == outcome["status"] == 1  # 240 draws are fewer than the effective draws asked for
    assert {entry.name for entry in run.iterdir()} == {
        ".lock", "settings.json", "environment.json", "data.json", "data.nc", "log.txt", "fit.json", "fit.nc",
        "posterior.nc", "posterior.json", "priors.nc", "timings.json", "metrics.json", "report.html",
    }  # fmt: skip
    settings = json.loads((run / "settings.json").read_text())
    assert settings["settings"] == {
        "seed": 3, "chains": 4, "draws": 60, "warmup": None, "target_accept": 0.8, "starts": None, "rate": 2.0,
    }  # fmt: skip
    assert settings["title"] == "Made-up pelts: nothing but numbers"
    assert "warning: a note of the machine" in said.err
    assert "noise.hare.sigma" in said.err
    log = (run / "log.txt").read_text()
    assert "fitted in" in log
    assert "sampled 60 draws of each chain in" in log
    page = (run / "report.html").read_text()
    assert main(["report", str(run)]) == 0
    assert (run / "report.html").read_text() == page


def test_second_run_keeps_the_first(bench, tmp_path):
    bench("fit", "pelts.py", "--quiet")
    first = (tmp_path / "runs" / "pelts" / "fit.json").read_bytes()
    assert bench("fit", "pelts.py", "--quiet") == 0
    assert (tmp_path / "runs" / "pelts.1" / "fit.json").read_bytes() == first


def test_interruption_keeps_what_is_finished(bench, tmp_path, capsys):
    def interrupt():
        raise KeyboardInterrupt

    assert bench("sample", "pelts.py", sample=interrupt) == 130
    assert "interrupted; what was finished is kept: `sciad resume runs/pelts` goes on" in capsys.readouterr().err
    assert main(["report", "runs/pelts"]) == 0
    assert "Residuals of the fit" in (tmp_path / "runs" / "pelts" / "report.html").read_text()


def test_a_fit_that_was_stopped_is_not_sampled(bench, capsys):
    _, fit, _ = results(draws=60)
    fit.stats = {"interrupted": True}
    assert bench("sample", "pelts.py", fit=lambda: fit) == 130
    assert "`sciad resume runs/pelts` goes on" in capsys.readouterr().err


def test_an_interrupted_run_is_resumed_and_a_whole_one_left_alone(bench, tmp_path, capsys):
    def interrupt():
        raise KeyboardInterrupt

    _, _, posterior = results(draws=60)
    assert bench("sample", "pelts.py", "--draws", "60", "--set", "rate=2", sample=interrupt) == 130
    assert bench("resume", "runs/pelts", "--json", sample=lambda: posterior) == 1
    outcome = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert outcome["run"] == "runs/pelts"
    assert json.loads((tmp_path / "runs/pelts/settings.json").read_text())["settings"]["rate"] == 2.0
    assert bench("resume", "runs/pelts", sample=interrupt) == 1
    assert "runs/pelts is complete: there is nothing left to do" in capsys.readouterr().out
    (tmp_path / "runs/pelts/report.html").unlink()  # as if killed before the page was written
    assert bench("resume", "runs/pelts", sample=lambda: posterior) == 1
    assert (tmp_path / "runs/pelts/report.html").exists()


def test_a_run_is_not_resumed_with_other_data(bench, monkeypatch, capsys):
    def interrupt():
        raise KeyboardInterrupt

    bench("sample", "pelts.py", "--draws", "60", sample=interrupt)
    load = studies.load

    def load_with_other_data(name):
        study = load(name)
        return dataclasses.replace(study, data=lambda path: study.data(path) * 2)

    monkeypatch.setattr(studies, "load", load_with_other_data)
    assert bench("resume", "runs/pelts") == 2
    assert "the data are not those that the run began with" in capsys.readouterr().err


def test_draws_of_an_interrupted_run_are_reported(bench, tmp_path, capsys):
    assert bench("sample", "pelts.py", "--draws", "61", "--json") == 130
    outcome = json.loads(capsys.readouterr().out)
    assert outcome["interrupted"]
    assert outcome["status"] == 130
    assert "Do the chains agree?" in (tmp_path / "runs" / "pelts" / "report.html").read_text()


DERIVING = (
    STUDY
    + """

def derived(draws):
    return {"twice": 2 * draws["noise.hare.sigma"]}
"""
)


def test_derived_quantities_get_rows_and_pictures(bench, tmp_path, capsys):
    (tmp_path / "pelts.py").write_text(DERIVING)
    bench("sample", "pelts.py", "--draws", "60", "--json")
    table = json.loads(capsys.readouterr().out)["posterior"]
    assert list(table)[-1] == "twice"
    assert table["twice"]["mean"] == pytest.approx(2 * table["noise.hare.sigma"]["mean"], rel=1e-12)
    assert table["twice"]["ess_bulk"] == pytest.approx(table["noise.hare.sigma"]["ess_bulk"], rel=1e-12)
    warnings = json.loads((tmp_path / "runs" / "pelts" / "posterior.json").read_text())["warnings"]
    assert not [warning for warning in warnings if "ESS" in warning]
    assert "Traces of twice" in (tmp_path / "runs" / "pelts" / "report.html").read_text()


def test_error_of_a_study_that_derives_keeps_the_draws(bench, tmp_path):
    (tmp_path / "pelts.py").write_text(DERIVING.replace("noise.hare.sigma", "no.such"))
    assert bench("sample", "pelts.py", "--draws", "60") == 2
    stored = xr.open_datatree(tmp_path / "runs" / "pelts" / "posterior.nc", engine="h5netcdf")
    assert stored["posterior"].sizes["draw"] == 60
    stored.close()


def test_error_inside_a_verb_is_one_line_and_its_trace_is_in_the_log(bench, tmp_path, capsys):
    def fail():
        raise ArithmeticError("no luck")  # noqa: EM101

    assert bench("fit", "pelts.py", fit=fail) == 2
    assert "sciad: ArithmeticError: no luck (--debug shows where)" in capsys.readouterr().err
    assert "Traceback" in (tmp_path / "runs" / "pelts" / "log.txt").read_text()


@pytest.mark.parametrize("words", [["--set", "rote=1"], ["--set", "rate=fast"], ["--chains", "0"]])
def test_bad_setting_moves_and_writes_nothing(bench, tmp_path, words, capsys):
    assert bench("fit", "pelts.py", *words) == 2
    assert "setting" in capsys.readouterr().err
    assert not list((tmp_path / "runs").iterdir())


# --- what was assumed, and what the data determine --------------------------------------------------------------------


class Decay(eqx.Module):
    """Decay at a rate :math:`k`."""

    rate: sd.Param = sd.param(0.5, prior=dist.LogNormal(0.0, 1.0), unit="1/h")
    gravity: sd.Param = sd.frozen(9.81, unit="m/s²")

    def __call__(self, t, y):  # noqa: ARG002
        return -self.rate * y


@pytest.fixture(scope="module")
def equation():
    hours = np.linspace(0.0, 4.0, 9)
    scatter = np.exp(0.1 * np.random.default_rng(2).standard_normal((2, 9)))
    values = np.array([[8.0], [4.0]]) * np.exp(-0.5 * hours) * scatter
    drug = ("subject", "hour"), values, {"units": "mg"}
    data = xr.Dataset({"drug": drug}, {"subject": ["Ann", "Bo"], "hour": hours})
    return sd.ODEProblem(data, noise=sd.LogNormal(0.1), initial={"drug": sd.param(np.array([8.0, 4.0]))}, time="hour")


@pytest.fixture(scope="module")
def page(equation, tmp_path_factory):
    fit = sd.fit(equation, Decay(), solver=sd.LeastSquares(starts=0, paths=0))
    run = Run.create(tmp_path_factory.mktemp("report"), "decay")
    contents = gather(problem=equation, fit=fit, title="Decay")
    run.write("settings.json", {"title": "Decay"})
    run.write("environment.json", contents.environment)
    run.write("data.json", contents.data_facts)
    run.write("data.nc", contents.data)
    contents_module.save_fit(run, contents)
    text = report_module.render(contents)
    assert report_module.render(contents_module.load(run)) == text
    return text


def test_a_page_says_what_was_assumed_and_what_the_data_determine(page):
    assert not Page(page).open
    for text in (
        "Decay: Decay at a rate k.",
        "multiplicative: the logarithm is normal about that of the prediction",
        "sigma = 0.1 (known)",
        "(estimated)",
        "LogNormal(loc=0, scale=1)",
        "known: 9.81",
        "95 % confidence limits",
        "1/h",
        "What the data determine",
        "Data and predictions of drug (subject Ann)",
        "subject Bo)",
        "AIC",
    ):
        assert text in page, text


def test_a_fit_of_several_descents_shows_their_waterfall():
    problem, fit, _ = results(draws=60)
    fit.stats = {"polished_losses": [3.0, 9.0, 3.001, float("inf")]}
    rendered = report_module.render(gather(problem=problem, fit=fit))
    assert "2 of 4 descents ended at the best." in rendered
    assert "Where the descents ended" in rendered


def test_bands_between_the_data_have_the_quantiles_of_the_noise(equation):
    program = equation.complete(Decay())
    shape = (2, 200)
    draws = {"rate": np.full(shape, 0.5), "initial.drug": np.broadcast_to([8.0, 4.0], (*shape, 2))}
    tree = arviz_base.from_dict({"posterior": draws})["posterior"].to_dataset()
    times = np.linspace(0.0, 4.0, 33)
    found = predictive_bands(equation, program, tree, times, (0.05, 0.5, 0.95))
    above = np.log(found["drug"] / (np.array([[8.0], [4.0]]) * np.exp(-0.5 * times))).to_numpy()
    # The error of a quantile q of n draws is √(q (1 - q) / n) over the density there; four of these are allowed.
    for level, row in zip((0.05, 0.5, 0.95), above, strict=True):
        z = st.norm.ppf(level)
        np.testing.assert_allclose(row, 0.1 * z, atol=0.1 * 4 * np.sqrt(level * (1 - level) / 400) / st.norm.pdf(z))
    np.testing.assert_allclose(above, above[..., :1] + 0 * above, atol=1e-5)  # as smooth as the curve
    assert list(found["subject"]) == ["Ann", "Bo"]
