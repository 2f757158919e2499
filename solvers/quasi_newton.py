r"""Self-scaled Broyden: a quasi-Newton method for sums of squares of very different sizes, as an Optimistix minimiser.

With s the step, y the change of the gradient, H the approximate inverse Hessian, :math:`\rho = 1/y^\top s`,

.. math::
    H_+ = \frac1\tau \Bigl(H - \frac{H y y^\top H}{y^\top H y} + \varphi\, y^\top H y\, v v^\top\Bigr)
    + \rho\, s s^\top, \quad v = \rho s - \frac{H y}{y^\top H y}, \quad \varphi = \frac{1 - \theta}{1 + a \theta},

    h = \rho\, y^\top H y, \quad b = \rho\, s^\top H^{-1} s, \quad a = b h - 1, \quad
    \varrho = \min\bigl(1, h (1 - \sqrt{a / (1 + a)})\bigr),

    \theta = \max\Bigl(\frac{\varrho - 1}{a}, \min\bigl(\frac1\varrho, \frac{1 - b}{b}\bigr)\Bigr), \quad
    \sigma = 1 + a \theta, \quad
    \tau = \begin{cases}
    \min\bigl(\min(1, 1/b)\, \sigma^{1/(1-n)}, \sigma\bigr) & \theta \le 0 \\
    \min(1, 1/b) \min\bigl(\sigma^{1/(1-n)}, 1/\theta\bigr) & \theta > 0
    \end{cases}

for n parameters; :math:`\tau = h / \sigma` in the first update, which gives H its size. θ = 0 and τ = 1 is BFGS.

Source: M. Al-Baali, *Numerical experience with a class of self-scaling quasi-Newton algorithms*, J. Optim. Theory
Appl. 96 (1998); J. F. Urbán, P. Stefanou and J. A. Pons, *Unveiling the optimization process of physics informed neural
networks: how accurate and competitive can PINNs be?*, J. Comput. Phys. 523 (2025).
"""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
import optimistix as optx
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Bool, Float, Int, PyTree, Scalar

from sciad._errors import InputError, OptionError

SLACK = 1e-12  # of the loss, by which rounding may make it seem to rise


class _State(eqx.Module):
    """The loss and its slope at the point reached, the inverse Hessian there, and the line search's own state.

    A `fresh` inverse Hessian is a multiple of the identity.
    """

    first: Bool[Array, ""]
    fresh: Bool[Array, ""]
    loss: Scalar
    slope: Float[Array, " p"]
    inverse: Float[Array, "p p"]
    aux: PyTree
    accepted: Int[Array, ""]
    evaluations: Int[Array, ""]
    done: Bool[Array, ""]
    result: optx.RESULTS


class SSBroyden(optx.AbstractMinimiser):
    """Self-scaled Broyden with a line search for the strong Wolfe conditions, for `optimistix.minimise`.

    Parameters
    ----------
    rtol, atol
        The minimisation ends when a step moves each parameter ``v`` and the loss by less than ``atol + rtol |v|``, or
        when no decrease above rounding is predicted. If the line search fails along the steepest slope too, it ends
        with ``RESULTS.nonlinear_divergence``.
    norm
        Of these changes, in units of that bound.
    search_steps
        Evaluations of a line search at most.

    Notes
    -----
    One step is one line search, of a few evaluations with the gradient each. The inverse Hessian is dense: p² numbers.
    The line search is Optax's (`optax.scale_by_zoom_linesearch`). It takes no ``options``.

    Examples
    --------
    >>> jax.config.update("jax_enable_x64", True)
    >>> def rosenbrock(y, args):
    ...     return 100 * (y[1] - y[0] ** 2) ** 2 + (1 - y[0]) ** 2
    >>> optx.minimise(rosenbrock, SSBroyden(), jnp.array([-1.2, 1.0])).value.round(9).tolist()
    [1.0, 1.0]
    """

    rtol: float
    atol: float
    norm: Callable[[PyTree], Scalar]
    search_steps: int = eqx.field(static=True)

    def __init__(
        self,
        rtol: float = 1e-10,
        atol: float = 1e-10,
        *,
        norm: Callable[[PyTree], Scalar] = optx.max_norm,
        search_steps: int = 20,
    ) -> None:
        for name, value in {"rtol": rtol, "atol": atol, "search_steps": search_steps}.items():
            if not value > 0:
                msg = f"SSBroyden({name}={value}): expected a positive number."
                raise OptionError(msg)
        self.rtol, self.atol, self.norm, self.search_steps = rtol, atol, norm, search_steps

    def init(
        self,
        fn: Callable,
        y: PyTree,
        args: PyTree,
        options: dict[str, Any],
        f_struct: jax.ShapeDtypeStruct,
        aux_struct: PyTree[jax.ShapeDtypeStruct],
        tags: frozenset[object],
    ) -> _State:
        """Return a state that has seen nothing."""
        del fn, args, tags
        if options:
            msg = f"SSBroyden takes no options; got {', '.join(sorted(options))}."
            raise OptionError(msg)
        flat, _ = ravel_pytree(y)
        if flat.dtype != f_struct.dtype:
            msg = f"SSBroyden: parameters are of dtype {flat.dtype}, the loss of {f_struct.dtype}. Give both the same."
            raise InputError(msg)
        return _State(
            first=jnp.array(True),
            fresh=jnp.array(True),
            loss=jnp.zeros((), flat.dtype),
            slope=jnp.zeros_like(flat),
            inverse=jnp.eye(flat.size, dtype=flat.dtype),
            aux=jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), aux_struct),
            accepted=jnp.zeros((), int),
            evaluations=jnp.zeros((), int),
            done=jnp.array(False),
            result=optx.RESULTS.successful,
        )

    def step(
        self, fn: Callable, y: PyTree, args: PyTree, options: dict[str, Any], state: _State, tags: frozenset[object]
    ) -> tuple[PyTree, _State, PyTree]:
        """Search along the quasi-Newton direction, and update the inverse Hessian."""
        del options, tags
        flat, unravel = ravel_pytree(y)

        def loss(flat: Array) -> Array:
            return fn(unravel(flat), args)[0]

        value, slope = jax.lax.cond(
            state.first, lambda: jax.value_and_grad(loss)(flat), lambda: (state.loss, state.slope)
        )
        unit = jnp.eye(flat.size, dtype=flat.dtype) / jnp.maximum(jnp.linalg.norm(slope), jnp.finfo(flat.dtype).tiny)
        inverse = jnp.where(state.first & state.fresh, unit, state.inverse)
        direction = -inverse @ slope
        length, new, evaluations = self._search(loss, flat, direction, (value, slope))
        change = length * direction
        found, gradient = new
        accept = jnp.isfinite(found) & jnp.all(jnp.isfinite(gradient)) & (found <= value + SLACK * jnp.abs(value))
        accept = accept & (length > 0) & jnp.isfinite(value)
        updated = _updated(inverse, change, gradient - slope, -length * slope, state.fresh)
        spent = -0.5 * jnp.dot(direction, slope) <= jnp.finfo(flat.dtype).eps * jnp.abs(value)
        still = accept & self._still(flat, change, value, found - value)
        lost = ~accept & ~spent & state.fresh
        reached = jnp.where(accept, flat + change, flat)
        aux = jax.tree.map(
            lambda a, b: jnp.where(accept | state.first, a, b), self._aux(fn, unravel, reached, args, state), state.aux
        )
        state = _State(
            first=jnp.array(False),
            fresh=~accept | (state.fresh & jnp.all(updated == inverse)),
            loss=jnp.where(accept, found, value),
            slope=jnp.where(accept, gradient, slope),
            inverse=jnp.where(accept, updated, unit),
            aux=aux,
            accepted=state.accepted + accept.astype(int),
            evaluations=state.evaluations + evaluations.astype(int) + state.first.astype(int),
            done=still | spent | lost,
            result=optx.RESULTS.where(lost, optx.RESULTS.nonlinear_divergence, optx.RESULTS.successful),
        )
        return unravel(reached), state, state.aux

    def terminate(
        self, fn: Callable, y: PyTree, args: PyTree, options: dict[str, Any], state: _State, tags: frozenset[object]
    ) -> tuple[Bool[Array, ""], optx.RESULTS]:
        """Return whether to stop, and why."""
        del fn, y, args, options, tags
        return state.done, state.result

    def postprocess(
        self,
        fn: Callable,
        y: PyTree,
        aux: PyTree,
        args: PyTree,
        options: dict[str, Any],
        state: _State,
        tags: frozenset[object],
        result: optx.RESULTS,
    ) -> tuple[PyTree, PyTree, dict[str, Any]]:
        """Return the solution, with the evaluations that the line searches made in ``stats``."""
        del fn, aux, args, options, tags, result
        return y, state.aux, {"num_evaluations": state.evaluations, "num_accepted_steps": state.accepted}

    def _search(
        self, loss: Callable[[Array], Array], flat: Array, direction: Array, at: tuple[Array, Array]
    ) -> tuple[Array, tuple[Array, Array], Array]:
        """Return the length of the step, loss and slope at its end, and how often these were evaluated."""
        search: Any = optax.scale_by_zoom_linesearch(self.search_steps, initial_guess_strategy="one")
        more = {"value": at[0], "grad": at[1], "value_fn": loss}
        with jax.numpy_dtype_promotion("standard"):  # Optax mixes whole numbers with floats
            _, found = search.update(direction, search.init(flat), flat, **more)
        return found.learning_rate, (found.value, found.grad), found.info.num_linesearch_steps

    def _aux(self, fn: Callable, unravel: Callable, flat: Array, args: PyTree, state: _State) -> PyTree:
        """Return what the function says beside its value, if it says anything: the line search does not keep it."""
        return fn(unravel(flat), args)[1] if jax.tree.leaves(state.aux) else state.aux

    def _still(self, flat: Array, step: Array, value: Array, change: Array) -> Array:
        """Whether parameters and loss moved less than the tolerances."""

        def small(value: Array, change: Array) -> Array:
            return self.norm(change / (self.atol + self.rtol * jnp.abs(value))) < 1

        return small(flat, step) & small(value, change)


def _updated(
    inverse: Float[Array, "p p"],
    s: Float[Array, " p"],
    y: Float[Array, " p"],
    hessian_s: Float[Array, " p"],
    first: Bool[Array, ""],
) -> Float[Array, "p p"]:
    """Return the next inverse Hessian, or the old one where the loss did not curve upwards along the step.

    `hessian_s` is the old Hessian times s, which is the step's length times the slope before it, and less than zero.
    """
    eps = jnp.finfo(s.dtype).eps
    curved = jnp.dot(s, y)
    upwards = curved > eps * jnp.linalg.norm(s) * jnp.linalg.norm(y)
    rho = 1 / jnp.where(upwards, curved, 1.0)
    hy = inverse @ y
    yhy = jnp.where(upwards, jnp.dot(y, hy), 1.0)
    theta, tau, a = _scales(h=rho * yhy, b=rho * jnp.dot(s, hessian_s), n=s.size, first=first)
    v = rho * s - hy / yhy
    phi = (1 - theta) / (1 + a * theta)
    new = (inverse - jnp.outer(hy, hy / yhy) + jnp.outer(v, phi * yhy * v)) / tau + jnp.outer(s, rho * s)
    return jnp.where(upwards & jnp.all(jnp.isfinite(new)), new, inverse)


def _scales(*, h: Scalar, b: Scalar, n: int, first: Bool[Array, ""]) -> tuple[Scalar, Scalar, Scalar]:
    """Return θ, τ and a; by the Cauchy-Schwarz inequality ``a >= 0``."""
    a = jnp.maximum(b * h - 1, jnp.finfo(h.dtype).eps)
    low = jnp.minimum(1.0, h * (1 - jnp.sqrt(a / (1 + a))))
    theta = jnp.maximum((low - 1) / a, jnp.minimum(1 / low, (1 - b) / b))
    sigma = 1 + a * theta
    power, largest = sigma ** (1 / (1 - max(n, 2))), jnp.minimum(1.0, 1 / b)
    above = largest * jnp.minimum(power, 1 / jnp.where(theta > 0, theta, 1.0))
    tau = jnp.where(theta > 0, above, jnp.minimum(largest * power, sigma))
    return theta, jnp.where(first, h / sigma, tau), a
