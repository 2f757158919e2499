"""The inner parameters of a program as one unconstrained vector, and back."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray, PyTree
from numpyro.distributions import Distribution, biject_to
from numpyro.distributions.transforms import IdentityTransform, Transform

from sciad._errors import InputError
from sciad._roles import Param, fill, is_param, leaves, role_of
from sciad._spec import Axis, Spec, entry_name
from sciad._text import constraint_text, is_concrete


class Site(NamedTuple):
    """One inner leaf: its prior, broadcast to its shape, its bijection from the reals, and its natural shape.

    Where each experiment has its own value, these are along `axis`, the first of the shape.
    """

    prior: Distribution | None
    bijection: Transform
    shape: tuple[int, ...]
    axis: Axis | None


class _Slot(NamedTuple):
    """Where a leaf stands in the vector; hashable, so that it may be static."""

    path: str
    spec: Spec
    shape: tuple[int, ...]
    dtype: np.dtype
    start: int
    stop: int

    @property
    def bijection(self) -> Transform:
        return biject_to(self.spec.support)

    @property
    def prior(self) -> Distribution | None:
        prior = self.spec.prior
        if prior is None or prior.shape() == self.shape:
            return prior
        return prior.expand(self.shape[: len(self.shape) - prior.event_dim])

    def unconstrained(self, vector: Array) -> Array:
        return vector[self.start : self.stop].reshape(self.bijection.inverse_shape(self.shape)).astype(self.dtype)


class Vectorized(eqx.Module):
    """The inner leaves of a program as a vector in unconstrained space; made by `vectorize`.

    Attributes
    ----------
    vector
        The present values, shape (d,).
    """

    vector: Float[Array, " d"]
    _program: PyTree
    _slots: tuple[_Slot, ...] = eqx.field(static=True)

    @property
    def names(self) -> tuple[str, ...]:
        """A name for each entry of the vector, such as ``"alpha"`` or ``"layers.0.weight[3,2]"``.

        Where a bijection changes the shape, as for a simplex, the indices are those of the unconstrained array.
        """
        return tuple(
            entry_name(slot.path, index, slot.spec.axis)
            for slot in self._slots
            for index in np.ndindex(slot.bijection.inverse_shape(slot.shape))
        )

    @property
    def sites(self) -> Mapping[str, Site]:
        """The prior, bijection and shape of each inner leaf, by path."""
        return MappingProxyType({s.path: Site(s.prior, s.bijection, s.shape, s.spec.axis) for s in self._slots})

    @property
    def places(self) -> Mapping[str, slice]:
        """Where in the vector each inner leaf stands, by path."""
        return MappingProxyType({slot.path: slice(slot.start, slot.stop) for slot in self._slots})

    def values(self, vector: Float[Array, " d"]) -> dict[str, Array]:
        """Return the natural values of the inner leaves, by path."""
        return {slot.path: jnp.asarray(slot.bijection(slot.unconstrained(vector))) for slot in self._slots}

    def program(self, vector: Float[Array, " d"]) -> PyTree:
        """Return the program with the values that the vector stands for, in natural space.

        Differentiable, and works under `jax.jit` and `jax.vmap`.
        """
        return self.filled(self.values(vector))

    def filled(self, values: Mapping[str, Array]) -> PyTree:
        """Return the program with other natural values of the leaves that `values` names by path."""
        return with_values(self._program, values)

    def slopes(self, vector: Float[Array, " d"]) -> dict[str, Float[Array, "natural unconstrained"] | None]:
        """Return the derivative of each leaf's natural values by its part of the vector; None where they are equal."""

        def of(slot: _Slot) -> Array | None:
            if isinstance(slot.bijection, IdentityTransform):
                return None
            part = vector[slot.start : slot.stop]
            return jax.jacfwd(
                lambda part: jnp.ravel(slot.bijection(part.reshape(slot.bijection.inverse_shape(slot.shape))))
            )(part)

        return {slot.path: of(slot) for slot in self._slots}

    def draw(self, key: PRNGKeyArray) -> Float[Array, " d"]:
        """Draw a vector from the priors; leaves without prior are drawn normally about their present numbers."""
        keys = jax.random.split(key, len(self._slots))
        return jnp.concatenate([_draw(slot, self.vector, k) for slot, k in zip(self._slots, keys, strict=True)])

    def log_prior(self, vector: Float[Array, " d"]) -> Float[Array, ""]:
        r"""Return the log-density of the prior over unconstrained space.

        .. math:: \log p(u) = \sum_i \log p_i(x_i) + \log\lvert\det \partial x_i / \partial u_i\rvert,
                  \quad x_i = T_i(u_i)

        Raises
        ------
        InputError
            If an inner leaf has no prior; its name is in the message.
        """
        bare = [slot.path for slot in self._slots if slot.spec.prior is None]
        if bare:
            msg = f"No prior on {', '.join(bare)}. Give each a prior, or freeze it, with `sciad.mark`."
            raise InputError(msg)
        return sum((_log_density(slot, vector) for slot in self._slots), start=jnp.zeros((), vector.dtype))


def _draw(slot: _Slot, vector: Array, key: PRNGKeyArray) -> Array:
    present = vector[slot.start : slot.stop]
    if slot.prior is None:
        return present + jax.random.normal(key, present.shape, present.dtype)
    u = jnp.ravel(slot.bijection.inv(jnp.asarray(slot.prior.sample(key), slot.dtype))).astype(vector.dtype)
    return jnp.where(jnp.isfinite(u), u, present)  # a draw that rounding put on the boundary


def _log_density(slot: _Slot, vector: Array) -> Array:
    u = slot.unconstrained(vector)
    x = slot.bijection(u)
    assert slot.prior is not None
    log_jacobian = slot.bijection.log_abs_det_jacobian(u, x)
    return (jnp.sum(slot.prior.log_prob(x)) + jnp.sum(log_jacobian)).astype(vector.dtype)


def vectorize(program: PyTree) -> Vectorized:
    """Return the inner leaves of a program as one vector of unconstrained numbers, with the way back.

    Each leaf passes through the inverse of the bijection from the real line onto its constraint: the logarithm for a
    positive one, stick-breaking for a simplex. Outer and frozen leaves stay in the program as they are.

    Raises
    ------
    InputError
        If there is no inner leaf, or a value lies on or outside the boundary of its constraint, or is not real.

    Examples
    --------
    >>> import numpyro.distributions as dist
    >>> from sciad._roles import param
    >>> v = vectorize({"rate": param(1.0, prior=dist.LogNormal(0.0, 1.0))})
    >>> v.names, v.vector.tolist()
    (('rate',), [0.0])
    >>> float(v.program(jnp.log(jnp.array([3.0])))["rate"])
    3.0
    """
    program = fill(program)
    inner = {path: leaf for path, leaf in leaves(program).items() if role_of(leaf) == "inner"}
    if not inner:
        msg = "The program has no inner parameter. Mark at least one leaf as inner with `sciad.mark`."
        raise InputError(msg)
    pieces, slots, start = [], [], 0
    for path, leaf in inner.items():
        spec, value = (leaf.spec, leaf.array) if isinstance(leaf, Param) else (Spec("inner"), leaf)
        piece = jnp.ravel(_unconstrain(path, spec, value))
        slots.append(_Slot(path, spec, value.shape, value.dtype, start, start + piece.size))
        pieces.append(piece)
        start += piece.size
    dtype = jnp.result_type(*pieces)
    return Vectorized(jnp.concatenate([piece.astype(dtype) for piece in pieces]), program, tuple(slots))


def _unconstrain(path: str, spec: Spec, value: Array) -> Array:
    if not jnp.issubdtype(value.dtype, jnp.floating):
        msg = f"{path} has dtype {value.dtype}. Expected real numbers: make real and imaginary part two parameters."
        raise InputError(msg)
    u = biject_to(spec.support).inv(value)
    if is_concrete(u) and not np.all(np.isfinite(u)):
        limits = constraint_text(spec.support)
        msg = f"{path}: the value {value} is not inside its constraint {limits}. Move it off the boundary."
        raise InputError(msg)
    return u


def with_values(program: PyTree, values: Mapping[str, Array]) -> PyTree:
    """Return the program with other natural values of the leaves that `values` names by path."""

    def one(leaf: Any, value: Array | None) -> Any:
        if value is None:
            return leaf
        return eqx.tree_at(lambda p: p.value, leaf, value) if isinstance(leaf, Param) else value

    flat, structure = jtu.tree_flatten(program, is_leaf=is_param)
    return jtu.tree_unflatten(structure, [one(x, values.get(p)) for p, x in zip(leaves(program), flat, strict=True)])
