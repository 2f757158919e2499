import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import xarray as xr

from sciad._errors import InputError
from sciad.app import studies
from sciad.app.cli import main
from sciad.app.template import write_study


def sciad(*words: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "sciad", *words], capture_output=True, text=True, cwd=cwd, check=False, timeout=300
    )


@pytest.mark.parametrize("words", [["--help"], ["fit", "--help"], ["list"]])
def test_quick_commands_import_nothing_heavy(words):
    script = (
        "import sys\nfrom sciad.app.cli import main\n"
        "try:\n    main(sys.argv[1:])\nexcept SystemExit as end:\n    assert end.code == 0\n"
        "heavy = {'jax', 'numpy', 'xarray', 'pandas', 'matplotlib', 'equinox'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    done = subprocess.run([sys.executable, "-c", script, *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "hudson-bay" in done.stdout or "usage: sciad" in done.stdout


def test_list_names_every_study(capsys):
    assert main(["list"]) == 0
    shown = capsys.readouterr().out
    assert all(name in shown for name in studies.BUILT_IN)
    assert main(["list", "--json"]) == 0
    assert set(json.loads(capsys.readouterr().out)["studies"]) == set(studies.BUILT_IN)


def test_version(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("sciad ")


@pytest.mark.parametrize("name", ["my-study", "my_study"])
def test_a_study_named_without_its_ending_is_pointed_at(name, workplace, capsys):
    (workplace / "my_study.py").write_text("")
    assert main(["fit", name]) == 2
    said = capsys.readouterr().err
    assert f"{name!r} is no built-in study, but there is a file my_study.py: give that name." in said


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["fit", "hudson-by"], "unknown study 'hudson-by'. Did you mean 'hudson-bay'?"),
        (["fit", "absent.py"], "study file absent.py does not exist. `sciad new NAME` writes one"),
        (["sample", "hudson-bay", "--set", "draws"], "--set draws: expected KEY=VALUE"),
        (["report", "absent"], "absent is not a run: it does not exist."),
        (["resume", "absent"], "absent is not a run: it does not exist."),
        (["new", "Bad name"], "study name 'Bad name': expected a lower-case letter"),
    ],
)
def test_bad_input_ends_in_2_and_one_line(words, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(words) == 2
    said = capsys.readouterr()
    assert said.err.startswith(f"sciad: {message}")
    assert said.err.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_json_reports_an_error_too(capsys):
    assert main(["fit", "nothing", "--json"]) == 2
    line = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert line["status"] == 2
    assert "unknown study" in line["error"]


def test_usage_error_ends_in_2():
    with pytest.raises(SystemExit, match="2"):
        main(["frobnicate"])


def test_unwritable_folder_is_found_before_any_computing(tmp_path):
    (tmp_path / "file").write_text("")
    done = sciad("demo", "--runs", str(tmp_path / "file" / "runs"))
    assert done.returncode == 2
    assert "cannot make the run folder" in done.stderr
    assert "Traceback" not in done.stderr


def test_settings_take_the_type_of_their_default():
    settings = {"draws": 1000, "alpha": 2.0, "method": "a", "fast": False, "warmup": None}
    changes = {"draws": "500", "alpha": "3", "method": "7", "fast": "true", "warmup": "150"}
    assert studies.choose(settings, changes) == {
        "draws": 500, "alpha": 3.0, "method": "7", "fast": True, "warmup": 150,
    }  # fmt: skip
    assert isinstance(studies.choose(settings, changes)["alpha"], float)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"drwas": "1"}, "unknown setting 'drwas'. Did you mean 'draws'?"),
        ({"draws": "many"}, "setting draws is 'many': expected a value like its default, 1000"),
        ({"draws": "0"}, "setting draws is '0': expected a whole number of at least 1"),
        ({"draws": "1.5"}, "setting draws is '1.5': expected a value like its default"),
        ({"draws": "true"}, "setting draws is 'true': expected a value like its default"),
        ({"alpha": "x"}, "setting alpha is 'x': expected a value like its default, 2.0"),
        ({"warmup": "soon"}, "setting warmup is 'soon': expected a whole number of at least 1"),
    ],
)
def test_settings_that_do_not_fit_are_refused(changes, message):
    with pytest.raises(InputError, match=message.replace("?", r"\?")):
        studies.choose({"draws": 1000, "alpha": 2.0, "warmup": None}, changes)


def test_new_study_loads_and_is_not_overwritten(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["new", "my-cup"]) == 0
    assert "sciad sample my_cup.py" in capsys.readouterr().out
    study = studies.load("my_cup.py")
    assert study.name == "my-cup"
    assert study.title == "My cup: a cup of coffee cools in a room"
    assert study.data(None).sizes == {"minute": 16}
    before = (tmp_path / "my_cup.py").read_bytes()
    with pytest.raises(InputError, match="nothing is overwritten, and there is already"):
        write_study(tmp_path, "my-cup")
    assert (tmp_path / "my_cup.py").read_bytes() == before


def test_study_file_that_lacks_parts_or_is_no_python(tmp_path):
    (tmp_path / "part.py").write_text("settings = {}\ndef data(path): ...\n")
    with pytest.raises(InputError, match="lacks problem, program"):
        studies.load(str(tmp_path / "part.py"))
    (tmp_path / "torn.py").write_text("def data(:\n")
    with pytest.raises(InputError, match=r"torn\.py, line 1: invalid syntax"):
        studies.load(str(tmp_path / "torn.py"))


def test_error_of_a_study_is_one_line_and_logged(tmp_path):
    write_study(tmp_path, "cup")
    text = (tmp_path / "cup.py").read_text()
    (tmp_path / "cup.py").write_text(text.replace("return sd.ODEProblem(", "return undefined(\n"))
    done = sciad("fit", "cup.py", cwd=tmp_path)
    assert done.returncode == 2
    assert "NameError: name 'undefined' is not defined (--debug shows where)" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "runs" / "cup").exists()


@pytest.mark.slow
def test_a_killed_run_resumes_to_the_same_bits(tmp_path):
    write_study(tmp_path, "cup")
    words = ["sample", "cup.py", "--draws", "20000", "--quiet", "--name"]
    assert sciad(*words, "whole", cwd=tmp_path).returncode in (0, 1)
    torn, whole = tmp_path / "runs" / "torn", tmp_path / "runs" / "whole"
    with subprocess.Popen([sys.executable, "-m", "sciad", *words, "torn"], cwd=tmp_path) as running:
        until = time.monotonic() + 120
        while not (torn / "checkpoint.npz").exists() and time.monotonic() < until:
            time.sleep(0.01)
        running.kill()
    assert not (torn / "posterior.nc").exists()
    assert sciad("resume", "runs/torn", cwd=tmp_path).returncode in (0, 1)
    assert not (torn / "checkpoint.npz").exists()
    first, again = (xr.open_datatree(run / "posterior.nc", engine="h5netcdf") for run in (whole, torn))
    for group in ("posterior", "sample_stats", "posterior_predictive", "log_likelihood"):
        assert first[group].to_dataset().drop_attrs().identical(again[group].to_dataset().drop_attrs())
    first.close()
    again.close()


def test_cache_that_cannot_be_made_is_said(tmp_path):
    (tmp_path / "file").write_text("")
    script = "from sciad.app.environment import prepare; print(prepare(devices=1))"
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path / "file")}
    environment.pop("JAX_COMPILATION_CACHE_DIR", None)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, env=environment)
    assert "No compilation cache" in done.stdout


CACHED = """
from sciad.app.environment import prepare
notes = prepare(devices=1)
import jax, jax.numpy as jnp
missed = []
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)  # how fast this machine compiles is not tested
jax.monitoring.register_event_listener(lambda name, **_: missed.append(name) if name.endswith("cache_misses") else None)
import sciad as sd
solve = lambda k: sd.ODE()(lambda t, y, k: -k * y, jnp.ones(3), args=k, t0=0.0, t1=1.0).y1.sum()
jax.block_until_ready(jax.jit(jax.value_and_grad(solve))(0.5))
print(notes, len(missed))
"""


def test_second_process_finds_what_the_first_compiled(tmp_path):
    """A solve with its gradient holds no callback, so that JAX keeps it on the disk."""
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path)}
    environment.pop("JAX_COMPILATION_CACHE_DIR", None)
    command = [sys.executable, "-c", CACHED]
    said = [subprocess.run(command, capture_output=True, text=True, check=True, env=environment) for _ in range(2)]
    first, second = (done.stdout.split() for done in said)
    assert first[0] == second[0] == "[]"
    assert int(first[1]) > 0
    assert int(second[1]) == 0


def test_cache_is_private(tmp_path):
    script = (
        "from sciad.app.environment import prepare; notes = prepare(devices=2); import jax, os; "
        "print(notes, jax.config.jax_enable_x64, jax.local_device_count(), os.environ['EQX_ON_ERROR'], "
        "oct(os.stat(jax.config.jax_compilation_cache_dir).st_mode & 0o777))"
    )
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path)}
    for name in ("JAX_COMPILATION_CACHE_DIR", "EQX_ON_ERROR", "XLA_FLAGS"):
        environment.pop(name, None)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, env=environment)
    assert done.stdout.split() == ["[]", "True", "2", "nan", "0o700"]
    assert os.listdir(tmp_path) == ["sciad"]


def test_words_that_nobody_reads_do_not_stop_the_work(tmp_path):
    write_study(tmp_path, "cup")
    shell = f"{sys.executable} -m sciad fit cup.py --name pipe | true; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", shell], capture_output=True, text=True, check=False, cwd=tmp_path, timeout=300)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "runs" / "pipe" / "report.html").exists()
    assert "BrokenPipe" not in done.stderr


@pytest.mark.parametrize("default", ["float('inf')", "object()"])
def test_defaults_that_a_run_cannot_store_are_refused(tmp_path, default):
    write_study(tmp_path, "cup")
    file = tmp_path / "cup.py"
    file.write_text(f"{file.read_text()}\nsettings['odd'] = {default}\n")
    with pytest.raises(InputError, match=r"setting odd has the default .*: expected a finite number, text"):
        studies.load(str(file))


def test_defaults_of_numpy_and_tuples_are_stored_as_what_comes_back(tmp_path):
    write_study(tmp_path, "cup")
    file = tmp_path / "cup.py"
    more = "import numpy\nsettings['pair'], settings['one'] = (1, 2), numpy.float64(2.0)\n"
    file.write_text(f"{file.read_text()}\n{more}")
    settings = studies.load(str(file)).settings
    assert studies.choose(settings, {name: settings[name] for name in ("pair", "one")}) == settings
    assert studies.choose(settings, {"one": "3"})["one"] == 3.0
