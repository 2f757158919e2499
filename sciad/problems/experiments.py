"""Parameters of each experiment: laid out over a problem's experiments, and taken apart again for one of them."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from jaxtyping import Array, PyTree

from sciad._errors import InputError
from sciad._roles import Param, is_param, leaves, unwrap
from sciad._spec import Axis


def axis_of(data: xr.Dataset, experiment: str | None, number: int) -> Axis:
    """Return the name and the labels of the experiments of a dataset; these are numbers from 0 where it has none."""
    if experiment is None or experiment not in data.coords:
        return Axis(experiment or "", tuple(range(number)))
    values = data[experiment].to_numpy()
    return Axis(experiment, tuple(values.tolist() if values.dtype.kind in "biufOUT" else map(str, values)))


def laid_out(program: PyTree, axis: Axis) -> PyTree:
    """Return the program with each parameter of each experiment as an array with a first axis over these.

    One value is taken for all; a program that is laid out already comes back as it is.

    Raises
    ------
    InputError
        If a value has another number of experiments.
    """
    if not any(isinstance(leaf, Param) and leaf.each for leaf in leaves(program).values()):
        return program
    if len(set(axis.labels)) < len(axis.labels):
        msg = f"Experiments along {axis.dim!r} share a name: {', '.join(map(str, axis.labels))}. Parameters of each "
        msg += "need names that differ."
        raise InputError(msg)
    flat, structure = jax.tree.flatten(program, is_leaf=is_param)
    return structure.unflatten([_laid_out(path, x, axis) for path, x in zip(leaves(program), flat, strict=True)])


def _laid_out(path: str, leaf: Any, axis: Axis) -> Any:
    if not isinstance(leaf, Param) or not leaf.each:
        return leaf
    value, number = leaf.array, len(axis.labels)
    if leaf.spec.axis is None and value.ndim == leaf.constraint.event_dim:
        value = jnp.broadcast_to(value, (number, *value.shape))
    have = leaf.spec.axis
    if have is not None and have != axis and have.dim == axis.dim and _named(have):
        value = value[_places(path, have, axis)]
    if not value.ndim or len(value) != number:
        msg = f"{path} has a value of each experiment, of shape {value.shape}, and the problem has {number} "
        msg += f"experiment{'s' if number > 1 else ''}. Expected one value for all, or a first axis of length {number}."
        raise InputError(msg)
    if leaf.spec.axis == axis:
        return leaf
    spec = leaf.spec
    return Param(value, prior=spec.prior, constraint=spec.constraint, role=spec.role, unit=spec.unit, each=axis)


def _named(axis: Axis) -> bool:
    """Whether experiments have names, and not merely places."""
    return axis.labels != tuple(range(len(axis.labels)))


def _places(path: str, have: Axis, wanted: Axis) -> np.ndarray:
    """Return where the values of the wanted experiments stand among those there are."""
    lost = [str(label) for label in wanted.labels if label not in have.labels]
    if lost:
        msg = f"{path} has a value of each of {', '.join(map(str, have.labels))}, and none of {', '.join(lost)}: the "
        msg += "program is of other experiments. Give the model alone, with one value for all."
        raise InputError(msg)
    return np.array([have.labels.index(label) for label in wanted.labels])


def parted(model: PyTree) -> tuple[PyTree, PyTree]:
    """Split a laid-out model, roles taken off, into the part with an axis over experiments and what they share.

    `equinox.combine` of one experiment's values and the shared part is the model of that experiment.
    """
    own = jax.tree.map(lambda leaf: isinstance(leaf, Param) and leaf.each, model, is_leaf=is_param)
    return eqx.partition(unwrap(model), own)


def model_of(model: PyTree, experiment: int | Array) -> PyTree:
    """Return a laid-out model as one experiment sees it, without roles."""
    own, shared = parted(model)
    return eqx.combine(jax.tree.map(lambda x: x[experiment], own), shared)


def over_times(noise: PyTree) -> PyTree:
    """Return noise models without roles, each experiment's values along the first of the axes (experiment, time)."""

    def one(leaf: Any) -> Any:
        return leaf.array[:, None] if isinstance(leaf, Param) and leaf.each else unwrap(leaf)

    return jax.tree.map(one, noise, is_leaf=is_param)
