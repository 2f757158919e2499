"""`Param`: an array together with what a study needs to know about it."""

import operator
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike
from numpyro.distributions import Distribution, constraints
from numpyro.distributions.constraints import Constraint

from sciad._errors import InputError, choose
from sciad._spec import ROLES, Axis, Role, Spec, as_value, central, check_spec, check_value


def _binary(function: Callable[[Any, Any], Any]) -> Callable[["Param", Any], Any]:
    return lambda self, other: function(self.array, _plain(other))


def _reflected(function: Callable[[Any, Any], Any]) -> Callable[["Param", Any], Any]:
    return lambda self, other: function(_plain(other), self.array)


def _plain(x: Any) -> Any:
    return x.array if isinstance(x, Param) else x


class FromPrior(eqx.Module):
    """Stands for a value that the prior supplies when it is first needed; no leaf, and not the None of a split part."""


class Param(eqx.Module):
    """An array with a role, a constraint, a prior and a unit.

    It is a PyTree with one leaf, `value`, in natural (constrained) space; all else is static, compared by content.
    In arithmetic, comparison and indexing it acts as its array. JAX's functions do not take it (`jnp.exp(p)` raises):
    write `jnp.exp(p.array)`, or leave it to `sciad.unwrap`, which the verbs apply before they call a model.

    Parameters
    ----------
    value
        Real numbers of any shape. None takes the prior's mean, when it is first needed, or the median where there is
        no finite mean. Python's numbers are kept as NumPy arrays, so that a default in a class body asks no device.
    prior
        A NumPyro distribution, whose shape broadcasts to the value's.
    constraint
        A NumPyro constraint; by default the prior's support, else the real line.
    role
        ``"inner"`` (found by the solve), ``"outer"`` (found by hypergradients) or ``"frozen"`` (found by nobody).
    unit
        The unit, in words, for tables and pictures.
    each
        Whether each experiment of a problem (subject, batch, site) has a value of its own. The value is then one
        number, from which all start, or has a first axis over the experiments; a prior holds for each. A model that is
        called sees the value of the experiment at hand, without that axis.

    Raises
    ------
    InputError
        If there is neither value nor prior; if the value is NaN, outside the constraint, or not of the prior's shape;
        if constraint and prior's support differ; if a frozen leaf has a prior.

    Examples
    --------
    >>> import numpyro.distributions as dist
    >>> rate = Param(0.5, prior=dist.LogNormal(0.0, 1.0), unit="1/year")
    >>> float(2 * rate)
    1.0
    >>> rate.constraint
    Positive(lower_bound=0.0)
    """

    value: Any
    spec: Spec = eqx.field(static=True)

    def __init__(
        self,
        value: ArrayLike | Sequence[Any] | None = None,
        *,
        prior: Distribution | None = None,
        constraint: Constraint | None = None,
        role: Role | str = "inner",
        unit: str = "",
        each: bool | Axis = False,
    ) -> None:
        if isinstance(value, Distribution):
            msg = "A distribution was given as a parameter's value. Write it as its prior: `prior=...`."
            raise InputError(msg)
        role = choose("role", role, ROLES)
        self.spec = Spec(role, constraint, prior, unit, each)
        check_spec(self.spec)
        if value is None and prior is None:
            msg = "A parameter has neither a value nor a prior to take one from. Give one of them."
            raise InputError(msg)
        self.value = FromPrior() if value is None else as_value(value, role)
        if value is not None:
            check_value(self.value, self.spec)

    @property
    def role(self) -> Role:
        """Who finds the value: ``"inner"``, ``"outer"`` or ``"frozen"``."""
        return self.spec.role

    @property
    def constraint(self) -> Constraint:
        """Where the value may lie."""
        return self.spec.support

    @property
    def prior(self) -> Distribution | None:
        """The prior distribution, or None."""
        return self.spec.prior

    @property
    def unit(self) -> str:
        """The unit, in words."""
        return self.spec.unit

    @property
    def each(self) -> bool:
        """Whether each experiment has a value of its own."""
        return bool(self.spec.each)

    @property
    def array(self) -> Array:
        """The value as a JAX array, in natural space."""
        if self.value is None:
            msg = "This parameter holds no value: it is in one part of a split program. Join the parts first."
            raise InputError(msg)
        if isinstance(self.value, FromPrior):
            assert self.prior is not None  # `__init__` saw to it
            return central(self.prior)
        return jnp.asarray(self.value)

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the value."""
        return jnp.shape(self.array)

    @property
    def ndim(self) -> int:
        """The number of dimensions of the value."""
        return len(self.shape)

    @property
    def dtype(self) -> np.dtype:
        """The dtype of the value as a JAX array."""
        return self.array.dtype

    def __jax_array__(self) -> Array:
        return self.array

    __array_ufunc__ = None  # so that `numpy_array * param` comes to __rmul__

    def __float__(self) -> float:
        return float(self.array)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.array(self.array, dtype=dtype, copy=copy)

    def __len__(self) -> int:
        return len(self.array)

    def __iter__(self) -> Iterator[Array]:
        return iter(self.array)  # by `__getitem__` it would not end: JAX's indices stop at the last entry

    def __getitem__(self, index: Any) -> Array:
        return self.array[index]

    def __neg__(self) -> Array:
        return -self.array

    def __abs__(self) -> Array:
        return abs(self.array)

    __add__, __radd__ = _binary(operator.add), _reflected(operator.add)
    __sub__, __rsub__ = _binary(operator.sub), _reflected(operator.sub)
    __mul__, __rmul__ = _binary(operator.mul), _reflected(operator.mul)
    __truediv__, __rtruediv__ = _binary(operator.truediv), _reflected(operator.truediv)
    __pow__, __rpow__ = _binary(operator.pow), _reflected(operator.pow)
    __matmul__, __rmatmul__ = _binary(operator.matmul), _reflected(operator.matmul)
    __lt__, __le__ = _binary(operator.lt), _binary(operator.le)
    __gt__, __ge__ = _binary(operator.gt), _binary(operator.ge)


def param(
    value: ArrayLike | Sequence[Any] | None = None,
    *,
    prior: Distribution | None = None,
    constraint: Constraint | None = None,
    role: Role | str = "inner",
    unit: str = "",
    each: bool = False,
) -> Param:
    """Declare a parameter, as the default of a module's field or in a constructor; see `Param`.

    Examples
    --------
    >>> import equinox as eqx, numpyro.distributions as dist
    >>> class Decay(eqx.Module):
    ...     rate: Param = param(prior=dist.HalfNormal(1.0), unit="1/day")
    ...     def __call__(self, t, y):
    ...         return -self.rate * y
    >>> float(Decay(rate=param(0.5))(0.0, 2.0))
    -1.0
    """
    return Param(value, prior=prior, constraint=constraint, role=role, unit=unit, each=each)


def positive(value: float, *, unit: str = "", each: bool = False) -> Param:
    """Declare a parameter that is positive, without prior; see `Param`."""
    return Param(value, constraint=constraints.positive, unit=unit, each=each)
