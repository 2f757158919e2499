"""Exceptions of the library, and the words its messages share."""

import difflib
from collections.abc import Iterable
from typing import Any, TypeVar

S = TypeVar("S", bound=str)


class SciadError(Exception):
    """Anything that sciad itself raises on purpose."""


class InputError(SciadError, ValueError):
    """Data, a parameter or a program that cannot be used as given."""


class OptionError(SciadError, TypeError):
    """An option that does not exist, or that cannot be combined with another."""


def did_you_mean(name: str, options: Iterable[str], *, limit: int = 8) -> str:
    """Return the end of a message about an unknown name: the nearest option, or what there is.

    Parameters
    ----------
    name
        What was asked for.
    options
        What exists.
    limit
        How many options to list when none is near.

    Examples
    --------
    >>> did_you_mean("haer", ["hare", "lynx"])
    "Did you mean 'hare'?"
    >>> did_you_mean("wolf", ["hare", "lynx"])
    'There is: hare, lynx.'
    """
    options = list(options)
    near = difflib.get_close_matches(name, options, n=1)
    if near:
        return f"Did you mean {near[0]!r}?"
    if not options:
        return "There is none."
    shown = ", ".join(options[:limit])
    return f"There is: {shown}" + (f", and {len(options) - limit} more." if len(options) > limit else ".")


def counted(number: int, noun: str) -> str:
    """Return a number with its noun.

    Examples
    --------
    >>> counted(1, "warning"), counted(3, "warning")
    ('1 warning', '3 warnings')
    """
    return f"{number} {noun}" + ("" if number == 1 else "s")


def choose(name: str, value: str, options: Iterable[S]) -> S:
    """Return `value` if it is one of `options`; otherwise say which options there are.

    Raises
    ------
    OptionError
        If `value` is not one of `options`.
    """
    options = list(options)
    if value in options:
        return options[options.index(value)]  # pyright: ignore[reportArgumentType]
    listed = ", ".join(repr(option) for option in options)
    msg = f"{name}={value!r} is not an option. Expected one of {listed}. {did_you_mean(str(value), options)}"
    raise OptionError(msg)


def check_names(option: str, wanted: Iterable[str], have: Iterable[Any], what: str = "not in the data") -> None:
    """Raise an `InputError` for the first of the wanted names that is not one of those there are."""
    have = [str(name) for name in have]
    for name in wanted:
        if name not in have:
            msg = f"`{option}` names {name!r}, which is {what}. {did_you_mean(str(name), have)}"
            raise InputError(msg)
