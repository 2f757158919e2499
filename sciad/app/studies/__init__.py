"""Studies: data, a problem, a program and settings under one name. A built-in one and a user's file look the same.

A study is a Python file. Its docstring's first line is the title, the rest the description. It has

* ``settings``: a dict of the study's own settings with their defaults (may be empty);
* ``data(path)``: the data as an xarray.Dataset; ``path`` is a file of the user's choice, or None for the study's own;
* ``problem(data, settings)``: the problem that joins the data to a model;
* ``program(settings)``: the model at the guess where the fit starts;
* ``solver(settings)`` (optional): the solver of the fit, with settings of the study's own;
* ``derived(draws)`` (optional): quantities that follow from the parameters, name to array, from their draws;
* ``reference()`` (optional): published means and standard deviations to compare the posterior with.
"""

import ast
import contextlib
import dataclasses
import importlib
import importlib.util
import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType, ModuleType
from typing import Any

from sciad._errors import InputError, did_you_mean

BUILT_IN: Mapping[str, str] = MappingProxyType(
    {
        "hudson-bay": "sciad.app.studies.hudson_bay",
        "boarding-school": "sciad.app.studies.boarding_school",
        "burgers": "sciad.app.studies.burgers",
    }
)
"""Names of the studies that come with sciad, and the modules they are in."""

COMMON: Mapping[str, Any] = MappingProxyType(
    {"seed": 0, "chains": 4, "draws": 1000, "warmup": None, "target_accept": 0.8, "starts": None}
)
"""Settings that every study has. ``None`` leaves the choice to the verb."""

_COUNTS = ("chains", "draws", "warmup", "starts")
_NEEDED = ("settings", "data", "problem", "program")


@dataclasses.dataclass(frozen=True)
class Study:
    """What a study file says, loaded and checked.

    Parameters
    ----------
    name : str
        Its name in commands and the name of its runs.
    title, description : str
        The docstring's first line and the rest of it.
    settings : mapping of str to object
        All settings with their defaults: the common ones and the study's own.
    data, problem, program : callable
        As in the module's docstring.
    solver : callable, optional
        Gives the solver of the fit, or None where the verb's default is taken.
    derived : callable, optional
        Gives what follows from the draws, or None where nothing is asked for.
    reference : callable, optional
        Gives the published posterior, or None where there is none.
    """

    name: str
    title: str
    description: str
    settings: Mapping[str, Any]
    data: Callable[[str | None], Any]
    problem: Callable[[Any, Mapping[str, Any]], Any]
    program: Callable[[Mapping[str, Any]], Any]
    solver: Callable[[Mapping[str, Any]], Any] | None = None
    derived: Callable[[Any], Mapping[str, Any]] | None = None
    reference: Callable[[], Mapping[str, Any]] | None = None


def titles() -> dict[str, str]:
    """Title of each built-in study, read without importing it, hence at once.

    Examples
    --------
    >>> sorted(titles())
    ['boarding-school', 'burgers', 'hudson-bay']
    """
    here = Path(__file__).parent
    return {name: _docstring(here / f"{module.rpartition('.')[2]}.py")[0] for name, module in BUILT_IN.items()}


def find(name: str) -> str:
    """Check that a study exists, without running it, and give its short name.

    Parameters
    ----------
    name : str
        A built-in name, or the path of a Python file.

    Raises
    ------
    InputError
        When there is neither; the message gives the nearest name.

    Examples
    --------
    >>> find("hudson-bay")
    'hudson-bay'
    """
    if name in BUILT_IN:
        return name
    if Path(name).is_file() and name.endswith(".py"):
        return Path(name).stem.replace("_", "-")
    if name.endswith(".py"):
        message = f"study file {name} does not exist. `sciad new NAME` writes one to start from."
    elif (file := Path(f"{name.replace('-', '_')}.py")).is_file():
        message = f"{name!r} is no built-in study, but there is a file {file}: give that name."
    else:
        message = (
            f"unknown study {name!r}. {did_you_mean(name, BUILT_IN)} "
            "A file of your own is given as path/to/study.py; `sciad list` shows what is built in."
        )
    raise InputError(message)


def load(name: str) -> Study:
    """Import a study, built-in or from a file, and check that it has what a study needs.

    Raises
    ------
    InputError
        When there is no such study or it lacks one of its parts.
    """
    short = find(name)
    module = importlib.import_module(BUILT_IN[name]) if name in BUILT_IN else _import_file(Path(name))
    missing = [part for part in _NEEDED if not hasattr(module, part)]
    if missing:
        message = f"study {name} lacks {', '.join(missing)}. A study has {', '.join(_NEEDED)}; see `sciad new NAME`."
        raise InputError(message)
    title, description = _split(module.__doc__)
    return Study(
        name=short,
        title=title or short,
        description=description,
        settings={**COMMON, **_storable(module.settings)},
        data=module.data,
        problem=module.problem,
        program=module.program,
        solver=getattr(module, "solver", None),
        derived=getattr(module, "derived", None),
        reference=getattr(module, "reference", None),
    )


def _storable(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Give the defaults as a run's folder stores them, so that it gives them back unchanged."""
    from sciad._atomic import plain  # NumPy, which `sciad list` can do without

    kept = {name: plain(value) for name, value in settings.items()}
    lost = next((name for name, value in kept.items() if value is None and settings[name] is not None), None)
    lost = lost or next((n for n, v in kept.items() if isinstance(v, str) and not isinstance(settings[n], str)), None)
    if lost is not None:
        message = f"setting {lost} has the default {settings[lost]!r}: expected a finite number, text, true or false, "
        message += "a list of them, or None."
        raise InputError(message)
    return kept


def choose(settings: Mapping[str, Any], changes: Mapping[str, str | int]) -> dict[str, Any]:
    """Give the settings with the user's changes made, each of the type of its default.

    Parameters
    ----------
    settings : mapping of str to object
        Every setting with its default.
    changes : mapping of str to str or int
        What the user wants, as typed.

    Raises
    ------
    InputError
        When a name is unknown or a value does not fit.

    Examples
    --------
    >>> choose({"draws": 1000, "alpha": 2.0}, {"draws": "500"})
    {'draws': 500, 'alpha': 2.0}
    """
    unknown = [name for name in changes if name not in settings]
    if unknown:
        message = f"unknown setting {unknown[0]!r}. {did_you_mean(unknown[0], settings, limit=20)}"
        raise InputError(message)
    return {**settings, **{name: _value(name, text, settings[name]) for name, text in changes.items()}}


def _value(name: str, text: Any, default: Any) -> Any:
    """Read a typed value as JSON where it is JSON (numbers, true, null, lists) and as text where it is not."""
    if isinstance(default, str):
        return str(text)
    value: Any = text
    with contextlib.suppress(ValueError, TypeError):
        value = json.loads(text)
    kinds: dict[type, tuple[type, ...]] = {float: (float, int), type(None): (int, float, str, list, type(None))}
    fits = isinstance(value, kinds.get(type(default), (type(default),)))
    if not fits or (isinstance(value, bool) and not isinstance(default, bool)):
        message = f"setting {name} is {text!r}: expected a value like its default, {default!r}."
        raise InputError(message)
    if name in _COUNTS and value is not None and not (_whole(value) and value > 0):
        message = f"setting {name} is {text!r}: expected a whole number of at least 1."
        raise InputError(message)
    return float(value) if isinstance(default, float) and value is not None else value


def _whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _docstring(path: Path) -> tuple[str, str]:
    return _split(ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))))


def _split(docstring: str | None) -> tuple[str, str]:
    first, _, rest = (docstring or "").strip().partition("\n")
    return first.strip().rstrip("."), rest.strip()


def _import_file(path: Path) -> ModuleType:
    name = f"sciad_study_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        message = f"{path} cannot be loaded as Python. Give a file that ends in .py."
        raise InputError(message)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses and Equinox look their module up by name
    try:
        spec.loader.exec_module(module)
    except SyntaxError as error:
        message = f"{path}, line {error.lineno}: {error.msg}."
        raise InputError(message) from error
    return module
