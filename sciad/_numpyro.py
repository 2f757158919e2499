"""Any NumPyro model as a target for the samplers."""

import inspect
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, PRNGKeyArray
from numpyro import handlers
from numpyro.distributions import biject_to
from numpyro.infer import init_to_sample
from numpyro.infer.util import constrain_fn, potential_energy

from sciad._errors import InputError
from sciad._target import Target


def model_target(model: Any, args: tuple[Any, ...], kwargs: dict[str, Any], key: PRNGKeyArray) -> Target:
    """Return the posterior of a NumPyro model over the unconstrained values of its latent sites.

    Raises
    ------
    InputError
        If `model` is not callable, or has no continuous latent site, or a discrete one.
    """
    if not callable(model):
        msg = f"Cannot sample a {type(model).__name__}: expected a sciad problem or a NumPyro model function."
        raise InputError(msg)

    try:
        inspect.signature(model).bind(*args, **kwargs)
    except TypeError as error:
        msg = f"The model cannot be called with what it was given: {error}. Give `model_args=(...)` or `model_kwargs=`."
        raise InputError(msg) from error

    def latent(key: PRNGKeyArray) -> dict[str, Any]:
        drawn = handlers.substitute(handlers.seed(model, key), substitute_fn=init_to_sample())
        trace = handlers.trace(drawn).get_trace(*args, **kwargs)
        return {name: s for name, s in trace.items() if s["type"] == "sample" and not s["is_observed"]}

    def unconstrained(key: PRNGKeyArray) -> dict[str, Array]:
        sites = _continuous(latent(key))
        return {name: biject_to(site["fn"].support).inv(site["value"]) for name, site in sites.items()}

    shapes = jax.eval_shape(unconstrained, key)
    _, unravel = ravel_pytree({name: np.zeros(x.shape, x.dtype) for name, x in shapes.items()})
    seeded = handlers.seed(model, key)  # for what a model draws beside its sites
    return Target(
        log_density=lambda vector: jnp.negative(potential_energy(seeded, args, kwargs, unravel(vector))),
        draw_prior=lambda key: ravel_pytree(unconstrained(key))[0],
        values=lambda vector: constrain_fn(seeded, args, kwargs, unravel(vector), return_deterministic=True),
        start=None,
        names=tuple(
            name + (f"[{','.join(map(str, index))}]" if index else "")
            for name, x in sorted(shapes.items())
            for index in np.ndindex(x.shape)
        ),
        in_step=True,
    )


def _continuous(latent: dict[str, Any]) -> dict[str, Any]:
    discrete = [name for name, site in latent.items() if site["fn"].support.is_discrete]
    if discrete:
        msg = f"Sites {', '.join(discrete)} are discrete: Hamiltonian samplers need continuous ones. Sum them out."
        raise InputError(msg)
    if not latent:
        msg = "The model has no latent site: nothing to sample."
        raise InputError(msg)
    return latent
