"""A study from its settings to its report, saving each result as soon as it is there."""

import contextlib
import dataclasses
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import xarray as xr

import sciad as sd
from sciad._atomic import plain
from sciad._errors import InputError
from sciad.app import report, studies
from sciad.app.console import Console
from sciad.app.contents import Contents, add_posterior, gather, load, notes, save_fit, save_posterior
from sciad.app.environment import describe, prepare
from sciad.app.run import Run, data_facts
from sciad.app.verdict import headline, overall


@dataclasses.dataclass(frozen=True)
class Task:
    """What a run is to do.

    Parameters
    ----------
    study : str
        A built-in name or a Python file.
    data : str, optional
        File of other data than the study's own.
    changes : mapping of str to str
        Settings that the user wants otherwise.
    sample : bool
        Whether to sample after the fit.
    """

    study: str
    data: str | None
    changes: Mapping[str, Any]
    sample: bool


class _Loaded(NamedTuple):
    """A study with its settings chosen and its problem made."""

    study: studies.Study
    settings: dict[str, Any]
    observations: xr.Dataset
    problem: Any
    program: Any
    notes: list[str]
    seconds: float


def run_study(task: Task, *, name: str, root: str, console: Console) -> dict[str, Any]:
    """Fit a study, sample it if asked, compare, and write the run's folder.

    Parameters
    ----------
    task : Task
        What to do.
    name, root : str
        The run's folder is ``root/name``; an earlier one is kept beside it.
    console : Console
        Where to say what is happening.

    Returns
    -------
    dict
        ``passed``, ``run``, ``report`` and the metrics, ready for JSON.

    Raises
    ------
    InputError
        When the folder, the study, a setting or the data cannot be used; nothing has been computed or moved then.
    """
    Run.require_room(root, name)
    loaded = _load(task, console)
    run = Run.create(root, name)
    with contextlib.closing(run):
        _save_setting(run, task, loaded)
        return _go(run, task, loaded, console)


def resume_run(folder: str, *, console: Console) -> dict[str, Any]:
    """Go on with a run that was killed or interrupted, to the results that it would have had.

    The fit is done again, in seconds and to the same bits; sampling goes on from its last checkpoint. A field goes on
    from the last round of points, with the whole budget again.

    Raises
    ------
    InputError
        When the folder is no run, another process is writing it, or the data are no longer the same.
    """
    run = Run.open(folder, to_write=True)
    with contextlib.closing(run):
        done = run.has("metrics.json") and run.has("report.html")
        if done and not run.read("metrics.json")["interrupted"]:
            console.say(f"{folder} is complete: there is nothing left to do")
            return _outcome(run, load(run))
        stored = run.read("settings.json")
        task = Task(stored["source"], stored["data"], stored["settings"], stored["sample"])
        loaded = _load(task, console)
        if data_facts(loaded.observations)["sha256"] != run.read("data.json")["sha256"]:
            message = f"{folder}: the data are not those that the run began with, which data.nc keeps. Start a new run."
            raise InputError(message)
        return _go(run, task, loaded, console)


def _load(task: Task, console: Console) -> _Loaded:
    began = time.perf_counter()
    with console.busy("loading JAX"), _warnings_to(console):
        notes = prepare()
        study = studies.load(task.study)
        settings = studies.choose(study.settings, task.changes)
        with _naming(task.data):
            observations = study.data(task.data)
            problem = study.problem(observations, settings)
        program = study.program(settings)
    if task.sample and isinstance(problem, sd.PDEProblem):
        message = f"`sciad sample` draws the parameters of an ODEProblem; {study.name} is of a field. Say `sciad fit`: "
        message += "it gives errors of all that is unknown."
        raise InputError(message)
    return _Loaded(study, settings, observations, problem, program, notes, time.perf_counter() - began)


def _go(run: Run, task: Task, loaded: _Loaded, console: Console) -> dict[str, Any]:
    console.attach(run.log, str(run.folder))
    for note in loaded.notes:
        console.warn(note)
    timings = {"loading": loaded.seconds}
    with _warnings_to(console):
        console.say(loaded.study.title)
        contents = _fit(run, loaded, timings, console)
        if task.sample:
            _sample(run, contents, task, loaded, timings, console)
        _conclude(run, contents, console)
    return _outcome(run, contents)


@contextlib.contextmanager
def _naming(file: str | None) -> Iterator[None]:
    """Put the name of the user's file before what is wrong with it."""
    try:
        yield
    except InputError as error:
        if file is None or file in str(error):
            raise
        message = f"{file}: {error}"
        raise InputError(message) from error


def _save_setting(run: Run, task: Task, loaded: _Loaded) -> None:
    study = loaded.study
    facts = {"study": study.name, "title": study.title, "description": study.description, "source": task.study}
    run.write("environment.json", describe())
    run.write("data.nc", loaded.observations)
    run.write("data.json", data_facts(loaded.observations))
    # Last, since a folder without it is no run.
    run.write("settings.json", {**facts, "data": task.data, "sample": task.sample, "settings": loaded.settings})


def _fit(run: Run, loaded: _Loaded, timings: dict[str, float], console: Console) -> Contents:
    settings, study = loaded.settings, loaded.study
    key, _ = _keys(settings)
    console.say("fitting …")
    with _timed(timings, "fit"):
        options = _fit_options(run, loaded)
        fit = sd.fit(loaded.problem, loaded.program, key=key, progress=not console.quiet, **options)
        if "interrupted" in fit.stats:  # a run that is resumed fits again, to the end
            raise KeyboardInterrupt
        contents = gather(problem=loaded.problem, fit=fit, settings=settings, timings=timings, title=study.title)
    contents.timings, contents.description = timings, study.description
    save_fit(run, contents)
    console.say(f"fitted in {report.seconds(timings['fit'])}: {contents.checks[0].measured}")
    return contents


def _fit_options(run: Run, loaded: _Loaded) -> dict[str, Any]:
    options = _given(loaded.settings, "starts")
    if loaded.study.solver is not None:
        options["solver"] = loaded.study.solver(loaded.settings)
    if isinstance(loaded.problem, sd.PDEProblem):
        options["checkpoint"] = run.path("program.npz")
    return options


def _sample(
    run: Run, contents: Contents, task: Task, loaded: _Loaded, timings: dict[str, float], console: Console
) -> None:
    study, settings, (_, key) = loaded.study, loaded.settings, _keys(loaded.settings)
    console.say(f"sampling {settings['chains']} chains of {settings['draws']} draws, after compiling them …")
    options = _given(settings, "chains", "draws", "warmup")
    options["solver"] = sd.NUTS(settings["target_accept"])
    checkpoint = run.path("checkpoint.npz")
    with _timed(timings, "sample"):
        posterior = sd.sample(
            loaded.problem, contents.program, key=key, checkpoint=checkpoint, progress=not console.quiet, **options
        )
    posterior.save(run.path("posterior.nc"))  # before anything that may fail
    if study.derived is not None:
        posterior = _with_derived(posterior, study.derived)
        posterior.save(run.path("posterior.nc"))
    drawn = posterior.tree["posterior"].sizes["draw"]
    contents.interrupted = drawn < settings["draws"]
    console.say(f"sampled {drawn} draws of each chain in {report.seconds(timings['sample'])}")
    reference = _reference(study, task.data, console)
    add_posterior(contents, posterior, problem=loaded.problem, reference=reference)
    save_posterior(run, contents)


def _with_derived(posterior: Any, derived: Callable[[Any], Mapping[str, Any]]) -> Any:
    """Put what a study derives from the parameters beside them, so that it gets errors and pictures as they do."""
    groups = {name: group.to_dataset() for name, group in posterior.tree.children.items()}
    groups["posterior"] = groups["posterior"].assign(derived(groups["posterior"]))
    return type(posterior).of(xr.DataTree.from_dict(groups), posterior.diagnostics, notes(posterior))


def _keys(settings: Mapping[str, Any]) -> tuple[Any, Any]:
    """Give a key to each verb, so that the fit's draws do not depend on whether sampling follows."""
    import jax

    fit_key, sample_key = jax.random.split(jax.random.key(settings["seed"]))
    return fit_key, sample_key


def _reference(study: studies.Study, data: str | None, console: Console) -> Mapping[str, Any] | None:
    if study.reference is None:
        return None
    if data is not None:
        console.say("the published reference is not of these data, so there is no comparison with it")
        return None
    return study.reference()


def _conclude(run: Run, contents: Contents, console: Console) -> None:
    run.write("timings.json", contents.timings)
    with console.busy("drawing the report"):
        report.write(run.folder, contents)
    run.write("metrics.json", _metrics(contents))
    if not contents.interrupted:
        run.path("checkpoint.npz").unlink(missing_ok=True)
    for line in report.table(contents):
        console.say(line)
    for warning in contents.warnings:
        console.warn(warning)
    for check in contents.checks:
        if check.words:
            console.say(f"{check.state}: {check.words}")
    console.say(headline(contents.checks))
    console.say(str(run.path("report.html")))


def _metrics(contents: Contents) -> dict[str, Any]:
    distances = None if contents.comparison is None else contents.comparison["z"].abs().to_numpy(float)
    return {
        "passed": overall(contents.checks) != "fail",
        "interrupted": contents.interrupted,
        "headline": headline(contents.checks),
        "checks": [dataclasses.asdict(check) for check in contents.checks],
        "largest_z": None if distances is None else float(distances.max()),
        "comparison": None if contents.comparison is None else contents.comparison.to_dict(orient="records"),
        "diagnostics": contents.diagnostics,
        "timings": contents.timings,
        "warnings": contents.warnings,
    }


def _outcome(run: Run, contents: Contents) -> dict[str, Any]:
    table = {} if contents.summary is None else contents.summary.to_dict(orient="index")
    places = {"run": str(run.folder), "report": str(run.path("report.html"))}
    fitted = contents.fit["table"] if contents.fit else {}
    return plain({**places, **_metrics(contents), "fit": fitted, "posterior": table})


def _given(settings: Mapping[str, Any], *names: str) -> dict[str, Any]:
    """Give the settings that are set; None leaves the choice to the verb."""
    return {name: settings[name] for name in names if settings[name] is not None}


@contextlib.contextmanager
def _timed(timings: dict[str, float], name: str) -> Iterator[None]:
    began = time.perf_counter()
    yield
    timings[name] = time.perf_counter() - began


@contextlib.contextmanager
def _warnings_to(console: Console) -> Iterator[None]:
    """Say Python's warnings as sentences, once each, in the log too."""
    with warnings.catch_warnings():
        told: set[str] = set()

        def show(message: Warning | str, *rest: Any, **more: Any) -> None:  # noqa: ARG001
            if str(message) not in told:
                told.add(str(message))
                console.warn(str(message))

        warnings.showwarning = show
        yield
