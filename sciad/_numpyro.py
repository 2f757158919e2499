"""Any NumPyro model as a target for the samplers."""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, PRNGKeyArray
from numpyro import handlers
from numpyro.distributions import biject_to
from numpyro.infer.util import initialize_model

from sciad._errors import InputError
from sciad._target import Target


def model_target(model: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], key: PRNGKeyArray) -> Target:
    """Return the posterior of a NumPyro model over the unconstrained values of its latent sites.

    Raises
    ------
    InputError
        If `model` is not callable, or has no continuous latent site, or a discrete one.
    """
    if not callable(model):
        msg = f"Cannot sample a {type(model).__name__}: expected a sciad problem or a NumPyro model function."
        raise InputError(msg)
    sites = _latent(model, args, kwargs, key)
    info = initialize_model(key, model, model_args=args, model_kwargs=kwargs, dynamic_args=False, validate_grad=False)
    flat, unravel = ravel_pytree(info.param_info.z)

    def draw_prior(key: PRNGKeyArray) -> Array:
        trace = handlers.trace(handlers.seed(model, key)).get_trace(*args, **kwargs)
        drawn = {name: biject_to(trace[name]["fn"].support).inv(trace[name]["value"]) for name in sites}
        vector, _ = ravel_pytree({name: drawn[name] for name in info.param_info.z})
        return jnp.where(jnp.isfinite(vector), vector, flat)

    names = tuple(
        name + (f"[{','.join(map(str, index))}]" if index else "")
        for name, value in sorted(info.param_info.z.items())
        for index in np.ndindex(np.shape(value))
    )
    return Target(
        log_density=lambda vector: -info.potential_fn(unravel(vector)),
        draw_prior=draw_prior,
        values=lambda vector: info.postprocess_fn(unravel(vector)),
        start=flat,
        names=names,
        in_step=True,
    )


def _latent(model: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], key: PRNGKeyArray) -> list[str]:
    trace = handlers.trace(handlers.seed(model, key)).get_trace(*args, **kwargs)
    latent = {name: s for name, s in trace.items() if s["type"] == "sample" and not s["is_observed"]}
    discrete = [name for name, site in latent.items() if site["fn"].support.is_discrete]
    if discrete:
        msg = f"Sites {', '.join(discrete)} are discrete: Hamiltonian samplers need continuous ones. Sum them out."
        raise InputError(msg)
    if not latent:
        msg = "The model has no latent site: nothing to sample."
        raise InputError(msg)
    return list(latent)
