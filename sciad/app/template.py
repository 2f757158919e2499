"""Writing a new study: a commented file and its data, which run as they are."""

import importlib.resources
import re
from pathlib import Path

from sciad._errors import InputError

_NAME = re.compile(r"[a-z][a-z0-9_\-]*")


def write_study(folder: Path, name: str) -> tuple[Path, Path]:
    """Write ``<name>.py`` and ``<name>.csv`` into a folder.

    Parameters
    ----------
    folder : pathlib.Path
        Where to write.
    name : str
        Lower-case letters, digits, dashes and underscores.

    Returns
    -------
    tuple of pathlib.Path
        The study and its data.

    Raises
    ------
    InputError
        When the name cannot be used, or one of the files is there already: nothing is overwritten.
    """
    if not _NAME.fullmatch(name):
        message = f"study name {name!r}: expected a lower-case letter, then such letters, digits, '-' or '_'."
        raise InputError(message)
    stem = name.replace("-", "_")
    study, data = folder / f"{stem}.py", folder / f"{stem}.csv"
    taken = [str(path) for path in (study, data) if path.exists()]
    if taken:
        message = f"nothing is overwritten, and there is already {' and '.join(taken)}. Choose another name."
        raise InputError(message)
    files = importlib.resources.files("sciad.app.studies")
    text = (files / "template.py.txt").read_text(encoding="utf-8")
    title = name.replace("-", " ").replace("_", " ").capitalize()
    try:
        data.write_text((files / "template.csv").read_text(encoding="utf-8"), encoding="utf-8")
        study.write_text(text.format(title=title, name=stem), encoding="utf-8")
    except OSError as error:
        message = f"cannot write {study}: {error.strerror or error}. Go to a folder that you may write to."
        raise InputError(message) from error
    return study, data
