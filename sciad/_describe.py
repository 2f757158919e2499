"""`describe`: the table of a program's leaves."""

import dataclasses
from collections.abc import Iterator
from typing import Any, NamedTuple

import equinox as eqx
from jaxtyping import PyTree

from sciad._roles import Param, Role, is_param, leaves, role_of
from sciad._spec import Spec
from sciad._text import constraint_text, number_text, prior_text


class Row(NamedTuple):
    """One leaf of a program, in words."""

    path: str
    role: Role
    shape: tuple[int, ...]
    dtype: str
    constraint: str
    prior: str
    unit: str
    value: str
    each: str = ""


@dataclasses.dataclass(frozen=True)
class Description:
    """A table with a row for each array of a program; iterate over the rows, or print it."""

    rows: tuple[Row, ...]

    def __iter__(self) -> Iterator[Row]:
        return iter(self.rows)

    def __len__(self) -> int:
        return len(self.rows)

    def __str__(self) -> str:
        cells = [Row._fields, *([_cell(x) for x in row] for row in self.rows)]
        cells = cells if any(row.each for row in self.rows) else [line[:-1] for line in cells]
        widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
        lines = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) for line in cells]
        return "\n".join(line.rstrip() for line in lines)

    __repr__ = __str__


def _cell(x: Any) -> str:
    return "x".join(map(str, x)) if isinstance(x, tuple) else x


def describe(program: PyTree) -> Description:
    """Return the table of a program's arrays: path, role, shape, dtype, constraint, prior, unit and value.

    A last column tells what has a value of each experiment, where anything has.

    Examples
    --------
    >>> import numpy as np
    >>> from sciad._roles import frozen, param
    >>> describe({"rate": param(np.float32(0.5), unit="1/day"), "gravity": frozen(np.float32(9.81))})
    path     role    shape  dtype    constraint  prior  unit   value
    gravity  frozen         float32                            9.81
    rate     inner          float32  real               1/day  0.5
    """
    return Description(
        tuple(_row(path, leaf) for path, leaf in leaves(program).items() if is_param(leaf) or eqx.is_array(leaf))
    )


def _row(path: str, leaf: Any) -> Row:
    spec = leaf.spec if isinstance(leaf, Param) else Spec(role_of(leaf))
    value = leaf if not isinstance(leaf, Param) else None if leaf.value is None else leaf.array
    return Row(
        path=path,
        role=spec.role,
        shape=() if value is None else value.shape,
        dtype="" if value is None else str(value.dtype),
        constraint="" if spec.role == "frozen" and spec.constraint is None else constraint_text(spec.support),
        prior="" if spec.prior is None else prior_text(spec.prior),
        unit=spec.unit,
        value=number_text(value),
        each=(spec.axis.dim if spec.axis else "") or ("experiment" if spec.each else ""),
    )
