"""First-order descent by Optax, many steps at a time in one compiled loop."""

import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int, PyTree

from sciad._errors import InputError, OptionError
from sciad.solvers.rounds import AbstractRounds, Made, Posed, check_settings
from sciad.solvers.weighting import AbstractBalance, Causal, Seen, Weights, chosen, equal

FIRST, SECONDS = 10, 0.3  # steps of the first compiled loops, and how long later ones take


class Descent(AbstractRounds):
    r"""First-order descent on the weighted mean squares of the residuals, by any transformation of Optax.

    .. math:: L = \tfrac12 \sum_g \lambda_g w_g^2 \frac1{n_g} \sum_k \rho_{gk}^2

    for points k of group g (equation, conditions, data), with w one by the residuals' size at the start, and λ one
    unless `weighting` says otherwise. Each step costs little, and there must be many: for networks too large for
    `Collocation`, or before it.

    Parameters
    ----------
    optimiser
        ``optax.adam(1e-3)`` by default; whatever makes steps of gradients: ``optax.contrib.muon``, schedules, clipping,
        ``optax.lbfgs``. It sees a dictionary of arrays, one for each leaf of the program by its path
        (``network.layers.0.weight``), in unconstrained space.
    points
        How many inside the domain are drawn for a round.
    batch
        How many of them each step sees, one set after the other; None: all. Data are seen all by each step. With as
        many points as ``batch * hold`` no point is seen twice.
    hold
        Steps of a round, after which points are drawn anew.
    weighting
        How much the groups count, and when: ``"relobralo"``, ``"gradient_norm"`` or ``"ntk"``, with or without
        ``"causal"``, by name or as what `sciad.solvers.weighting` has of these; two in a list.
    budget, max_steps, adaptive, growing, tolerance, patience, watch
        As in `Collocation`.
    """

    batch: int | None = eqx.field(static=True)
    optimiser: optax.GradientTransformation = eqx.field(static=True)
    balance: AbstractBalance | None
    causal: Causal | None

    def __init__(
        self,
        optimiser: optax.GradientTransformation | None = None,
        *,
        points: int = 3000,
        batch: int | None = 500,
        hold: int = 500,
        budget: float = 120.0,
        max_steps: int = 100_000,
        adaptive: bool = True,
        growing: int = 0,
        tolerance: float = 0.0,
        patience: int = 10,
        watch: Callable[[Any], object] | None = None,
        weighting: Any = None,
    ) -> None:
        positive = {"points": points, "hold": hold, "max_steps": max_steps, "patience": patience, "budget": budget}
        check_settings("Descent", positive | ({} if batch is None else {"batch": batch}), growing)
        if optimiser is not None and not (hasattr(optimiser, "init") and hasattr(optimiser, "update")):
            msg = f"Descent({type(optimiser).__name__}): expected a transformation of Optax, such as optax.adam(1e-3)."
            raise OptionError(msg)
        if batch is not None and batch > points:
            msg = f"Descent(batch={batch}): there are {points} points in a round. Give no more, or raise `points`."
            raise OptionError(msg)
        self.optimiser = optax.adam(1e-3) if optimiser is None else optimiser
        self.points, self.batch, self.hold, self.growing = points, batch, hold, growing
        self.budget, self.max_steps, self.watch = float(budget), max_steps, watch
        self.adaptive, self.tolerance, self.patience = adaptive, float(tolerance), patience
        self.balance, self.causal = chosen(weighting)

    @property
    def sets(self) -> int:
        """How many sets of points a round's points make."""
        return 1 if self.batch is None else self.points // self.batch

    def memory(self, rows: int, parameters: int) -> float:
        """Return the bytes of some vectors: there are no matrices."""
        return 8.0 * 10 * (rows + parameters)

    def descend(
        self, posed: Posed, location: Float[Array, " p"], setting: PyTree, steps: tuple[int, int], kept: Any
    ) -> Iterator[Made]:
        """Make the steps of a round; the optimiser's state and the weights are kept."""
        if kept is None:
            self._check(posed, location, setting)
        rule = _Rule(self.optimiser, self.sets, self.balance, self.causal)
        state = _begun(rule, posed, location, setting) if kept is None else kept
        state = state._replace(leaves=posed.leaves(location))
        made, number, left = 0, FIRST, min(steps)
        while made < left:
            began, now = time.perf_counter(), min(number, left - made)
            state, square = _chunk(rule, posed, state, setting, jnp.asarray(now))
            trained = float(np.sqrt(2 * float(square)))
            made += now
            if made > FIRST:  # compiled by then
                number = max(int(now * SECONDS / (time.perf_counter() - began)), 1)
            yield Made(posed.flat(state.leaves), trained, made, state)

    def _check(self, posed: Posed, location: Array, setting: PyTree) -> None:
        """Refuse rules that have nothing to rule."""
        groups = jax.eval_shape(posed.parts, location, setting)
        if self.balance is not None and len(groups) < 2:
            name = type(self.balance).__name__
            msg = f"{name} balances groups of residuals, and there is one: the {next(iter(groups))}. Leave it out."
            raise InputError(msg)
        if self.causal is not None and posed.times(setting) is None:
            msg = "Causal weights need a first time, and there are no initial values (sd.Initial). Leave them out."
            raise InputError(msg)


class _Rule(eqx.Module):
    """What the steps depend on, so that nothing is compiled anew for another budget."""

    optimiser: optax.GradientTransformation = eqx.field(static=True)
    sets: int = eqx.field(static=True)
    balance: AbstractBalance | None
    causal: Causal | None


class _State(NamedTuple):
    """Where a descent stands."""

    leaves: PyTree
    optimiser: Any
    weights: Weights
    steps: Int[Array, ""]


@eqx.filter_jit
def _begun(rule: _Rule, posed: Posed, location: Array, setting: PyTree) -> _State:
    leaves = posed.leaves(location)
    losses = _losses(rule, posed, posed.parts(location, setting), setting)
    return _State(leaves, rule.optimiser.init(leaves), equal(losses), jnp.zeros((), int))


@eqx.filter_jit
def _chunk(rule: _Rule, posed: Posed, state: _State, setting: PyTree, number: Int[Array, ""]) -> tuple[_State, Array]:
    """Make so many steps; also return the mean of the loss without λ."""

    def once(_: Any, carry: tuple[_State, Array]) -> tuple[_State, Array]:
        state, total = carry
        state, loss = _step(rule, posed, state, _batch(rule, setting, state.steps))
        return state, total + loss

    state, total = jax.lax.fori_loop(0, number, once, (state, jnp.zeros((), jax.tree.leaves(state.leaves)[0].dtype)))
    return state, total / number


def _step(rule: _Rule, posed: Posed, state: _State, setting: PyTree) -> tuple[_State, Array]:
    weights = _weighed(rule, posed, state, setting)

    def loss(leaves: PyTree) -> tuple[Array, Any]:
        parts = posed.parts(posed.flat(leaves), setting)
        losses = _losses(rule, posed, parts, setting)
        square = 0.5 * sum((jnp.sum(part**2) for part in parts.values()), start=jnp.zeros(()))
        return sum((weights.factors[name] * losses[name] for name in losses), start=jnp.zeros(())), square

    (value, square), slope = jax.value_and_grad(loss, has_aux=True)(state.leaves)
    more = {"value": value, "grad": slope, "value_fn": lambda leaves: loss(leaves)[0]}
    with jax.numpy_dtype_promotion("standard"):  # Optax raises floats to whole powers
        transformation = optax.with_extra_args_support(rule.optimiser)
        updates, optimiser = transformation.update(slope, state.optimiser, state.leaves, **more)
        leaves = optax.apply_updates(state.leaves, updates)
    return _State(leaves, optimiser, weights, state.steps + 1), square


def _losses(rule: _Rule, posed: Posed, parts: dict[str, Array], setting: PyTree) -> dict[str, Array]:
    """Return half the sum of squares of each group's residuals, weighted in time."""
    if rule.causal is not None:
        parts = parts | {"equation": rule.causal(parts["equation"], posed.times(setting))}
    return {name: 0.5 * jnp.sum(part**2) for name, part in parts.items()}


def _weighed(rule: _Rule, posed: Posed, state: _State, setting: PyTree) -> Weights:
    """Return the groups' factors, anew where it is time for it."""
    balance = rule.balance
    if balance is None:
        return state.weights

    def anew(leaves: PyTree) -> Weights:
        def losses(leaves: PyTree) -> dict[str, Array]:
            return _losses(rule, posed, posed.parts(posed.flat(leaves), setting), setting)

        def slopes() -> dict[str, Array]:
            found = jax.jacrev(losses)(leaves)
            return {name: jnp.sqrt(sum(jnp.sum(x**2) for x in jax.tree.leaves(found[name]))) for name in found}

        return balance.update(state.weights, Seen(losses(leaves), slopes, lambda: _traces(posed, leaves, setting)))

    return jax.lax.cond(state.steps % balance.every == 0, anew, lambda _: state.weights, state.leaves)


def _traces(posed: Posed, leaves: PyTree, setting: PyTree) -> dict[str, Array]:
    """Return the sum of squares of each group's rows of the Jacobian."""
    location = posed.flat(leaves)
    jacobian, _ = posed.linearised(location, setting)
    sizes = {name: part.size for name, part in posed.parts(location, setting).items()}
    ends = np.cumsum([*sizes.values()])[:-1].tolist()
    return {name: jnp.sum(rows**2) for name, rows in zip(sizes, jnp.split(jacobian, ends), strict=True)}


def _batch(rule: _Rule, setting: PyTree, step: Array) -> PyTree:
    """Return the setting with the set of points that a step sees: they are quasi-random, and so is a run of them."""
    if rule.sets == 1:
        return setting

    def some(rows: Any) -> Any:
        whole = len(rows.points)
        each = max(whole // rule.sets, 1)
        first = step % (whole // each) * each
        return jax.tree.map(lambda x: jax.lax.dynamic_slice_in_dim(x, first, each), rows)

    return setting._replace(rows={name: rows if name == "data" else some(rows) for name, rows in setting.rows.items()})
