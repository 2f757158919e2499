"""What a parameter means: its role, where it may lie, what is believed about it, and the checks that these agree."""

import functools
from typing import Any, Literal, NamedTuple, TypeAlias, get_args

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array
from numpyro.distributions import Distribution, biject_to, constraints
from numpyro.distributions.constraints import Constraint

from sciad._errors import InputError
from sciad._text import constraint_text, is_concrete, prior_text

Role: TypeAlias = Literal["inner", "outer", "frozen"]
ROLES: tuple[Role, ...] = get_args(Role)


class Axis(NamedTuple):
    """What a parameter of each experiment has along its first axis: the dimension's name, empty if none, and labels."""

    dim: str
    labels: tuple[Any, ...]


def entry_name(name: str, index: tuple[int, ...], axis: Axis | None = None) -> str:
    """Name one number of an array; along an axis of experiments, by the experiment's label.

    Examples
    --------
    >>> entry_name("w", (3, 2)), entry_name("rate", (1,), Axis("run", ("a", "b"))), entry_name("rate", ())
    ('w[3,2]', 'rate[run=b]', 'rate')
    """
    places = [str(i) for i in index]
    if axis and axis.dim:
        label = axis.labels[index[0]]
        places[0] = f"{axis.dim}={label:.15g}" if isinstance(label, float) else f"{axis.dim}={label}"
    return name + (f"[{','.join(places)}]" if places else "")


class Spec:
    """The static half of a `Param`.

    NumPyro distributions compare by identity and its constraints do not hash, so neither can be a static field: the
    one would retrace at every new instance, the other raise. As dynamic children their arrays would be leaves, moved
    by optimisers and seen by `jax.grad`. So they stand here, and two specs are equal when their contents are.
    """

    def __init__(
        self,
        role: Role,
        constraint: Constraint | None = None,
        prior: Distribution | None = None,
        unit: str = "",
        each: bool | Axis = False,
    ) -> None:
        self.role: Role = role
        self.constraint = constraint
        self.prior = prior
        self.unit = unit
        self.each: bool | Axis = each  # an axis once a problem has laid the value out over its experiments

    @functools.cached_property
    def _identity(self) -> tuple[Any, ...]:
        leaves, structure = jax.tree_util.tree_flatten((self.constraint, self.prior))
        return self.role, self.unit, self.each, tuple(_content(leaf) for leaf in leaves), structure

    @functools.cached_property
    def _hash(self) -> int:
        return hash(self._identity)

    def __eq__(self, other: object) -> bool:
        return self is other or (isinstance(other, Spec) and self._identity == other._identity)

    def __hash__(self) -> int:
        return self._hash

    def __repr__(self) -> str:
        prior = None if self.prior is None else prior_text(self.prior)
        return f"Spec({', '.join(filter(None, [self.role, constraint_text(self.support), prior, self.unit]))})"

    @property
    def axis(self) -> Axis | None:
        """The experiments along the value's first axis, where it is laid out over them."""
        return self.each if isinstance(self.each, Axis) else None

    @property
    def support(self) -> Constraint:
        """Where values may lie: the constraint, else the prior's support, else the real line."""
        if self.constraint is not None:
            return self.constraint
        return constraints.real if self.prior is None else support_of(self.prior)


def _content(leaf: Any) -> Any:
    if not is_concrete(leaf):  # a prior built from traced values equals only itself
        return id(leaf)
    if isinstance(leaf, np.ndarray | jax.Array):
        array = np.asarray(leaf)
        return array.dtype.str, array.shape, array.tobytes()
    return type(leaf), leaf


def support_of(prior: Distribution) -> Constraint:
    """Return the support of a prior, which it must declare."""
    if prior.support is None:
        msg = f"The prior {type(prior).__name__} declares no support. Expected a distribution that has one."
        raise InputError(msg)
    return prior.support


def _elementwise(constraint: Constraint) -> Constraint:
    while isinstance(constraint, constraints.independent):  # only counts event dimensions
        constraint = constraint.base_constraint
    return constraint


def check_spec(spec: Spec) -> None:
    """Check that role, constraint and prior are what they should be, and agree."""
    for name, given, kind in (("prior", spec.prior, Distribution), ("constraint", spec.constraint, Constraint)):
        if given is not None and not isinstance(given, kind):
            example = "numpyro.distributions.LogNormal(0.0, 1.0)" if name == "prior" else "constraints.positive"
            msg = f"A parameter's {name} is {given!r}; expected one of NumPyro's, such as {example}."
            raise InputError(msg)
    if not isinstance(spec.each, bool | Axis):
        msg = f"A parameter's `each` is {spec.each!r}; expected True, for a value of each experiment, or False."
        raise InputError(msg)
    prior, support = spec.prior, spec.support
    if prior is not None and spec.role == "frozen":
        msg = "A prior on a frozen leaf has no effect. Remove the prior (`prior=None`) or make the leaf inner."
        raise InputError(msg)
    if prior is not None and _elementwise(support) != _elementwise(support_of(prior)):
        msg = (
            f"The constraint {constraint_text(support)} differs from the prior's support "
            f"{constraint_text(support_of(prior))}. "
            "Remove the constraint, which then follows the prior, or choose a prior with that support."
        )
        raise InputError(msg)
    if spec.role == "frozen":
        return
    if support.is_discrete:
        msg = f"A parameter with role {spec.role!r} is discrete ({constraint_text(support)}). Expected continuous."
        raise InputError(msg)
    try:
        biject_to(support)
    except NotImplementedError as error:
        msg = f"The constraint {support} has no bijection from the real line. Use one that NumPyro's biject_to knows."
        raise InputError(msg) from error


def check_value(value: np.ndarray | jax.Array, spec: Spec) -> None:
    """Check a value, as far as it can be seen, against its constraint and the shape of its prior."""
    shape = () if spec.prior is None else spec.prior.shape()
    if len(shape) > value.ndim or any(n not in (1, m) for n, m in zip(shape[::-1], value.shape[::-1], strict=False)):
        msg = (
            f"A parameter's value has shape {value.shape} and its prior {shape}. Expected it to broadcast to the value."
        )
        raise InputError(msg)
    if not is_concrete(value) or (spec.role == "frozen" and not jnp.issubdtype(value.dtype, jnp.floating)):
        return
    array = np.asarray(value)
    if np.any(np.isnan(array)):
        msg = f"A parameter's value is {array}. Expected numbers, not NaN."
        raise InputError(msg)
    if spec.role == "frozen" and spec.constraint is None:
        return
    with jax.ensure_compile_time_eval():
        inside = np.all(np.isfinite(array)) and np.all(spec.support(array))
    if not inside:
        limits = constraint_text(spec.support)
        source = "" if spec.prior is None else f", where its prior {prior_text(spec.prior)} has its support"
        msg = f"A parameter's value {array} is outside its constraint {limits}{source}. Change the one or the other."
        raise InputError(msg)


def as_value(value: Any, role: Role) -> np.ndarray | jax.Array:
    """Return numbers as an array, JAX's own untouched and all others as NumPy, so that no device is asked."""
    array = value if isinstance(value, jax.Array) else np.asarray(value)
    if jnp.issubdtype(array.dtype, jnp.floating):
        return array
    if role == "frozen" and (array.dtype == bool or jnp.issubdtype(array.dtype, jnp.number)):
        return array
    if jnp.issubdtype(array.dtype, jnp.integer):
        return array.astype(float)
    msg = f"A parameter's value has dtype {array.dtype}. Expected real numbers for the role {role!r}."
    raise InputError(msg)


def central(prior: Distribution) -> Array:
    """Return a prior's mean; else its median; else the image of 0 under the bijection onto its support.

    Each is taken where the one before is not known, or not finite, or outside the support.
    """
    with jax.ensure_compile_time_eval():  # so that under jit, too, the value can be looked at
        return _central(prior, support_of(prior))


def _central(prior: Distribution, support: Constraint) -> Array:
    for find in (lambda: prior.mean, lambda: prior.icdf(jnp.full(prior.shape(), 0.5))):
        try:
            value = jnp.asarray(find(), dtype=float)
        except (NotImplementedError, AttributeError, ValueError):
            continue
        if not is_concrete(value) or bool(jnp.all(support(value)) & jnp.all(jnp.isfinite(value))):
            return jnp.broadcast_to(value, prior.shape())
    bijection = biject_to(support)
    return bijection(jnp.zeros(bijection.inverse_shape(prior.shape())))
