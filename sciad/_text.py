"""Constraints, distributions and values in few words, for tables and messages."""

from typing import Any

import numpy as np
from jax.core import Tracer
from numpyro.distributions import Distribution, constraints
from numpyro.distributions.constraints import Constraint


def is_concrete(value: Any) -> bool:
    """Whether a value can be looked at now, that is, it is not being traced."""
    return not isinstance(value, Tracer)


def number_text(value: Any) -> str:
    """Return a number, or an array in brief, with four significant digits.

    Examples
    --------
    >>> number_text(0.123456), number_text(np.arange(3)), number_text(np.ones((8, 8)))
    ('0.1235', '[0, 1, 2]', 'mean 1, sd 0')
    """
    if value is None:
        return ""
    if not is_concrete(value):
        return "traced"
    array = np.asarray(value)
    if array.ndim == 0:
        return f"{array:.4g}" if array.dtype.kind in "iuf" else str(array)
    if array.ndim == 1 and array.size <= 4:
        return "[" + ", ".join(number_text(x) for x in array) + "]"
    if array.size == 0:
        return "empty"
    return f"mean {array.mean():.4g}, sd {array.std():.4g}"


def constraint_text(constraint: Constraint) -> str:
    """Return a constraint as an inequality, an interval or a name.

    Examples
    --------
    >>> constraint_text(constraints.positive), constraint_text(constraints.interval(0, 2))
    ('> 0', '0 .. 2')
    """
    while isinstance(constraint, constraints.independent):
        constraint = constraint.base_constraint
    if isinstance(constraint, constraints.greater_than):
        sign = ">=" if isinstance(constraint, constraints.greater_than_eq) else ">"
        return f"{sign} {number_text(constraint.lower_bound)}"
    if isinstance(constraint, constraints.less_than):
        sign = "<=" if isinstance(constraint, constraints.less_than_eq) else "<"
        return f"{sign} {number_text(constraint.upper_bound)}"
    if isinstance(constraint, constraints.interval):
        return f"{number_text(constraint.lower_bound)} .. {number_text(constraint.upper_bound)}"
    return repr(constraint).split("(")[0].lower()


def prior_text(prior: Distribution) -> str:
    """Return a distribution by name and arguments.

    Examples
    --------
    >>> import numpyro.distributions as dist
    >>> prior_text(dist.LogNormal(0, 0.5)), prior_text(dist.TruncatedNormal(1.0, 0.5, low=0))
    ('LogNormal(loc=0, scale=0.5)', 'Normal(loc=1, scale=0.5) on >= 0')
    """
    name = type(prior).__name__
    base = getattr(prior, "base_dist", None)
    if isinstance(base, Distribution) and "Truncated" in name and prior.support is not None:
        return f"{prior_text(base)} on {constraint_text(prior.support)}"
    if isinstance(base, Distribution) and name in ("ExpandedDistribution", "Independent"):
        return prior_text(base)
    arguments = ", ".join(f"{key}={number_text(value)}" for key, value in prior.get_args().items())
    return f"{name}({arguments})"
