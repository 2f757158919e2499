"""Roles: who finds each array of a program.

A *program* is a PyTree of Equinox modules. Its arrays are `Param`s, or plain arrays, which count as `inner` with the
real line as constraint if they are floating-point, and as `frozen` otherwise. Whatever is no array is frozen too, and
numbers are no arrays, NumPy's included: arithmetic makes these of Python's, unasked.
"""

from collections.abc import Callable, Sequence
from fnmatch import fnmatchcase
from typing import Any, NamedTuple, TypeVar

import equinox as eqx
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np
from jaxtyping import ArrayLike, PyTree
from numpyro.distributions import Distribution
from numpyro.distributions.constraints import Constraint

from sciad._errors import InputError, choose, did_you_mean
from sciad._param import FromPrior, Param, param, positive
from sciad._spec import ROLES, Role

__all__ = [
    "Param",
    "Role",
    "Roles",
    "frozen",
    "is_param",
    "join",
    "leaves",
    "mark",
    "outer",
    "param",
    "positive",
    "split",
    "unwrap",
]

T = TypeVar("T")


def outer(
    value: ArrayLike | Sequence[Any] | None = None,
    *,
    prior: Distribution | None = None,
    constraint: Constraint | None = None,
    unit: str = "",
) -> Param:
    """Declare a parameter that hypergradients find, on validation data; see `Param`."""
    return Param(value, prior=prior, constraint=constraint, role="outer", unit=unit)


def frozen(value: ArrayLike | Sequence[Any], *, constraint: Constraint | None = None, unit: str = "") -> Param:
    """Declare a known constant, which gets no update and no weight decay; see `Param`."""
    return Param(value, constraint=constraint, role="frozen", unit=unit)


def is_param(x: Any) -> bool:
    """Whether `x` is a `Param`."""
    return isinstance(x, Param)


def _is_array(leaf: Any) -> bool:
    return eqx.is_inexact_array(leaf) and not isinstance(leaf, np.generic)


def role_of(leaf: Any) -> Role:
    """Return the role of a `Param` or of any other leaf."""
    if isinstance(leaf, Param):
        return leaf.role
    return "inner" if _is_array(leaf) else "frozen"


def leaves(program: PyTree) -> dict[str, Any]:
    """Return every leaf, a `Param` counting as one, by its dotted path.

    Examples
    --------
    >>> leaves({"rate": frozen(2.0), "layers": [1, "tanh"]}).keys()
    dict_keys(['layers.0', 'layers.1', 'rate'])
    """
    found, _ = jtu.tree_flatten_with_path(program, is_leaf=is_param)
    return {jtu.keystr(path, simple=True, separator="."): leaf for path, leaf in found}


def fill(program: T) -> T:
    """Return a program whose values are there: a `Param` without one takes its prior's centre.

    Floating-point arrays become JAX arrays, and NumPy's numbers Python's.
    """

    def one(leaf: Any) -> Any:
        if isinstance(leaf, Param):
            return eqx.tree_at(lambda p: p.value, leaf, leaf.array, is_leaf=lambda x: isinstance(x, FromPrior))
        if isinstance(leaf, np.floating):
            return float(leaf)
        return jnp.asarray(leaf) if _is_array(leaf) else leaf

    return jtu.tree_map(one, program, is_leaf=is_param)


def unwrap(program: PyTree) -> PyTree:
    """Return the program with each `Param` replaced by its array, which is what user code computes with.

    Examples
    --------
    >>> float(jnp.exp(unwrap({"rate": param(0.0)})["rate"]))
    1.0
    """
    return jtu.tree_map(lambda leaf: leaf.array if isinstance(leaf, Param) else leaf, program, is_leaf=is_param)


class Roles(NamedTuple):
    """The three parts of a program: trees of its structure, each with None where the leaf belongs to another part."""

    inner: PyTree
    outer: PyTree
    frozen: PyTree


def split(program: PyTree) -> Roles:
    r"""Split a program by role into three parts that join back to it.

    Every leaf is in exactly one part, so an optimiser that is given ``inner`` cannot touch the others, not even by
    weight decay. Differentiable. Values that a prior is to supply are filled in first; floating-point arrays become
    JAX arrays.

    Examples
    --------
    >>> parts = split({"rate": param(0.5), "gravity": frozen(9.81)})
    >>> parts.inner["gravity"].value is None, parts.frozen["rate"].value is None
    (True, True)
    >>> float(join(*parts)["rate"])
    0.5
    """
    program = fill(program)

    def part(role: Role) -> PyTree:
        spec = jtu.tree_map(lambda leaf: role_of(leaf) == role, program, is_leaf=is_param)
        return eqx.filter(program, spec)

    return Roles(part("inner"), part("outer"), part("frozen"))


def join(*parts: PyTree) -> PyTree:
    """Join parts of a split program; where two hold a leaf, the first wins."""
    return eqx.combine(*parts)


_KEEP: Any = object()


def mark(
    program: T,
    where: str | Callable[[T], Any],
    role: Role | str | None = None,
    *,
    prior: Distribution | None = _KEEP,
    constraint: Constraint | None = _KEEP,
    unit: str = _KEEP,
    each: bool = _KEEP,
) -> T:
    """Return the program with another role, prior, constraint or unit on some of its leaves.

    Plain arrays become instances of `Param`; what is no array, or cannot have the role, is passed over.

    Parameters
    ----------
    program
        Any PyTree.
    where
        Which leaves: a dotted path such as ``"layers.*.weight"``, in which ``*`` stands for any characters and which
        stands for all that is under it; or a function from the program to a node or a tuple of nodes, as in
        `equinox.tree_at`.
    role
        The new role; None keeps the present one.
    prior, constraint, unit, each
        Replaced where given; ``prior=None`` removes the prior.

    Raises
    ------
    InputError
        If `where` selects nothing that can be marked, or the outcome does not agree with itself; see `Param`.

    Examples
    --------
    >>> program = mark({"a": param(1.0), "b": jnp.ones(2)}, "b", "frozen")
    >>> program["b"].role
    'frozen'
    """
    if role is not None:
        role = choose("role", role, ROLES)
    changes = {"role": role or _KEEP, "prior": prior, "constraint": constraint, "unit": unit, "each": each}
    changes = {name: value for name, value in changes.items() if value is not _KEEP}
    found = leaves(program)
    chosen = {path for path in _chosen(program, where) if _can_hold(found[path], role)}
    if not chosen:
        msg = f"Nothing that {_shown(where)} selects can be {role or 'inner'!r}. Expected floating-point arrays."
        raise InputError(msg)
    marked = [_marked(path, leaf, changes) if path in chosen else leaf for path, leaf in found.items()]
    return jtu.tree_unflatten(jtu.tree_structure(program, is_leaf=is_param), marked)


def _shown(where: Any) -> str:
    return repr(where) if isinstance(where, str) else "`where`"


def _can_hold(leaf: Any, role: Role | None) -> bool:
    return is_param(leaf) or _is_array(leaf) or (role == "frozen" and eqx.is_array(leaf))


def _marked(path: str, leaf: Any, changes: dict[str, Any]) -> Param:
    if not isinstance(leaf, Param):
        leaf = Param(leaf, role=role_of(leaf))
    spec = leaf.spec
    old = {"role": spec.role, "prior": spec.prior, "constraint": spec.constraint, "unit": spec.unit, "each": spec.each}
    if changes.get("each") is True and spec.axis:
        changes = changes | {"each": spec.axis}  # it is laid out already
    unset = isinstance(leaf.value, FromPrior) and "prior" not in changes
    try:
        return Param(None if unset else leaf.array, **(old | changes))
    except InputError as error:
        msg = f"{path}: {error}"
        raise InputError(msg) from error


def _chosen(program: PyTree, where: str | Callable[[Any], Any]) -> set[str]:
    paths = [path for path, leaf in leaves(program).items() if is_param(leaf) or eqx.is_array(leaf)]
    if callable(where):
        chosen = _selected(program, where, paths)
    else:
        chosen = {path for path in paths if any(fnmatchcase(name, where) for name in _ancestry(path))}
    if not chosen:
        msg = f"{_shown(where)} selects no array of the program. {did_you_mean(str(where), paths)}"
        raise InputError(msg)
    return chosen


def _selected(program: PyTree, where: Callable[[Any], Any], paths: list[str]) -> set[str]:
    structure = jtu.tree_structure(program, is_leaf=is_param)
    names = jtu.tree_unflatten(structure, [_Name(path) for path in leaves(program)])
    try:
        nodes = where(names)
    except (AttributeError, KeyError, IndexError) as error:
        msg = f"`where` failed: {error}. {did_you_mean(str(error), paths)}"
        raise InputError(msg) from error
    return {name.path for name in jtu.tree_leaves(nodes) if isinstance(name, _Name)} & set(paths)


class _Name:
    """Stands in a program for the leaf at `path`."""

    def __init__(self, path: str) -> None:
        self.path = path


def _ancestry(path: str) -> list[str]:
    parts = path.split(".")
    return [".".join(parts[: i + 1]) for i in range(len(parts))]
