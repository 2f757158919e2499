# ruff: noqa: ARG001, ARG002, ARG005  (conditions and changes take model, t and y, whatever they use)

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr
from numpyro.distributions import constraints

import sciad as sd

TIMES = np.linspace(0.0, 3.0, 31)
SOLVER = sd.ODE(rtol=1e-10, atol=1e-10)


class Ball(eqx.Module):
    """Falls from rest, and keeps a share of its speed at each bounce."""

    gravity: sd.Param = sd.param(9.81, constraint=constraints.positive)
    bounce: sd.Param = sd.param(0.8, constraint=constraints.unit_interval)

    def __call__(self, t, y):
        return jnp.stack([y[1], -self.gravity])


BOUNCE = sd.Reset(
    when=lambda model, t, y: y[0], then=lambda model, t, y: jnp.stack([jnp.zeros_like(y[0]), -model.bounce * y[1]])
)


def heights(times, gravity, bounce, start):
    """Parabola by parabola: the time of fall, then of each flight, is known."""
    begin, speed = jnp.sqrt(2 * start / gravity), bounce * jnp.sqrt(2 * start * gravity)
    found = start - gravity * times**2 / 2
    for _ in range(20):
        since = times - begin
        found = jnp.where(since > 0, speed * since - gravity * since**2 / 2, found)
        begin, speed = begin + 2 * speed / gravity, bounce * speed
    return found


def fallen(height, times=TIMES, **options):
    data = xr.Dataset({"height": (("drop", "t"), np.broadcast_to(height, (2, times.size)))}, coords={"t": times})
    options = {"resets": BOUNCE, "solver": SOLVER, "noise": sd.Normal(0.02)} | options
    return sd.ODEProblem(
        data, states=("height", "speed"), initial={"height": np.array([2.0, 5.0]), "speed": 0.0}, **options
    )


def predicted(problem, gravity, bounce):
    model = Ball(sd.param(gravity, constraint=constraints.positive), sd.param(bounce))
    return problem.predict(model).mean[..., 0]


def test_a_ball_bounces_as_its_parabolas_say_each_from_its_own_height():
    problem = fallen(np.nan_to_num(TIMES))
    found = jax.jit(lambda g, e: predicted(problem, g, e))(9.81, 0.8)
    for row, start in zip(found, (2.0, 5.0), strict=True):
        np.testing.assert_allclose(row, heights(TIMES, 9.81, 0.8, start), atol=1e-7)


@pytest.mark.parametrize("kind", [pytest.param("forward", marks=pytest.mark.slow), "reverse"])
def test_derivatives_go_through_the_times_of_resets(kind):
    solver = sd.ODE(rtol=1e-10, atol=1e-10, sensitivity=kind)
    weights = jnp.sin(jnp.arange(2.0 * TIMES.size)).reshape(2, -1)

    def ours(x):
        return jnp.sum(weights * predicted(fallen(np.zeros(TIMES.size), solver=solver), x[0], x[1]))

    def exact(x):
        return jnp.sum(weights * jnp.stack([heights(TIMES, x[0], x[1], start) for start in (2.0, 5.0)]))

    x = jnp.array([9.81, 0.8])
    np.testing.assert_allclose(jax.jit(jax.grad(ours))(x), jax.grad(exact)(x), rtol=1e-6)
    if kind == "forward":
        np.testing.assert_allclose(jax.jit(jax.hessian(ours))(x), jax.hessian(exact)(x), rtol=1e-5)


@pytest.mark.slow
def test_a_fit_finds_gravity_and_what_a_bounce_keeps():
    rng = np.random.default_rng(0)
    exact = np.stack([heights(TIMES, 9.81, 0.8, start) for start in (2.0, 5.0)])
    problem = fallen(exact + 0.02 * rng.standard_normal(exact.shape), solver=None)
    fit = sd.fit(problem, Ball(sd.param(8.0, constraint=constraints.positive)))
    assert fit.diagnostics["converged"]
    assert not fit.warnings
    assert np.all(np.abs(fit.values - [9.81, 0.8]) < 4 * fit.standard_errors)
    assert np.all(fit.standard_errors < [0.05, 0.01])


def test_a_thermostat_switches_between_two_levels():
    class Room(eqx.Module):
        rate: sd.Param = sd.param(0.5)

        def __call__(self, t, y):
            return jnp.stack([self.rate * (30.0 * y[1] - y[0]), 0.0 * y[1]])

    on = sd.Reset(when=lambda m, t, y: y[0] - 18.0, then=lambda m, t, y: y.at[1].set(1.0), most=8)
    off = sd.Reset(when=lambda m, t, y: y[0] - 22.0, then=lambda m, t, y: y.at[1].set(0.0), falling=False, most=8)
    cooling, heating = np.log(22.0 / 18.0) / 0.5, np.log(12.0 / 8.0) / 0.5
    since = np.array([0.3, 0.9]) * cooling
    times = np.concatenate([[0.0], since, cooling + heating + since, 2 * (cooling + heating) + since])
    data = xr.Dataset({"warmth": ("t", 20.0 + times)}, coords={"t": times})
    problem = sd.ODEProblem(
        data, states=("warmth", "heater"), initial={"warmth": 22.0, "heater": 0.0}, resets=[on, off], solver=SOLVER
    )
    found = jax.jit(lambda: problem.predict(Room()).mean[0, 1:, 0])()
    np.testing.assert_allclose(found, np.tile(22.0 * np.exp(-0.5 * since), 3), rtol=1e-8)


def test_a_state_saved_at_a_reset_is_the_one_before():
    data = xr.Dataset({"level": ("t", [2.0, 1.0, 1.0])}, coords={"t": [0.0, 1.0, 2.0]})
    refilled = sd.Reset(when=lambda m, t, y: y[0] - 1.0, then=lambda m, t, y: y + 1.0)
    problem = sd.ODEProblem(data, initial={"level": 2.0}, resets=refilled, solver=SOLVER)
    found = jax.jit(lambda: problem.predict(lambda t, y: -jnp.ones(1)).mean[0, :, 0])()
    np.testing.assert_allclose(found, [2.0, 1.0, 1.0], rtol=1e-9)


def test_more_resets_than_there_may_be_are_a_failed_solve():
    few = sd.Reset(BOUNCE.when, BOUNCE.then, most=2)
    short, long = (fallen(np.zeros(4), np.linspace(0.0, end, 4), resets=few) for end in (1.5, 3.0))
    assert jax.jit(lambda: short.predict(Ball()).ok)().tolist() == [True, True]
    assert jax.jit(lambda: long.predict(Ball()).ok)().tolist() == [False, True]


def test_without_a_reset_the_solution_is_that_of_the_equation():
    never = sd.Reset(when=lambda m, t, y: y[0] + 1e6, then=BOUNCE.then)
    with_it, without = (fallen(np.zeros(TIMES.size), resets=r) for r in (never, None))
    found, wanted = (jax.jit(lambda p=p: p.predict(Ball()).mean)() for p in (with_it, without))
    np.testing.assert_allclose(found, wanted, atol=1e-8)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"resets": "bounce"}, "`resets` holds a str; expected sd.Reset"),
        ({"resets": BOUNCE.when}, "`resets` holds a function; expected sd.Reset"),
        ({"solver": sd.ODE(sensitivity="backsolve")}, "sensitivities other than 'backsolve'"),
        ({"doses": sd.Doses("speed", time=1.0, amount=1.0)}, "Resets cannot be combined with doses"),
        ({"delay": 0.1}, "Resets cannot be combined with doses, stepwise inputs or a delay"),
    ],
)
def test_resets_that_do_not_fit(options, message, unchecked):
    with pytest.raises(sd.InputError, match=message):
        fallen(np.zeros(TIMES.size), **options)


@pytest.mark.parametrize(
    ("reset", "message"),
    [
        (lambda: sd.Reset(when=lambda m, t, y: y[0] < 0, then=BOUNCE.then), "not a comparison"),
        (lambda: sd.Reset(when=lambda m, t, y: y, then=BOUNCE.then), "returned shape \\(2,\\)"),
        (lambda: sd.Reset(when=BOUNCE.when, then=lambda m, t, y: y[0]), "returned shape \\(\\) for the 2 states"),
        (lambda: sd.Reset(when=0.0, then=BOUNCE.then), "Reset\\(when=...\\) is a float"),
        (lambda: sd.Reset(BOUNCE.when, BOUNCE.then, most=0), "expected a whole number, at least 1"),
        (lambda: sd.Reset(BOUNCE.when, BOUNCE.then, most=2.5), "expected a whole number, at least 1"),
    ],
)
def test_functions_of_resets_are_checked(reset, message, unchecked):
    with pytest.raises(sd.InputError, match=message):
        fallen(np.zeros(TIMES.size), resets=reset()).complete(Ball())


def test_gradient_matching_knows_no_resets():
    with pytest.raises(sd.InputError, match="resets make them jump"):
        sd.gradient_matching(fallen(np.ones(TIMES.size)), Ball())


# --- what happens first, and what happens again -----------------------------------------------------------------------


def falling(starts, order):
    """Two balls, each with a reset of its own; steps of the solver are long, and both strike within one."""

    def bounce(i):
        return sd.Reset(lambda m, t, y: y[i], lambda m, t, y: y.at[i].set(0.0).at[2 + i].multiply(-0.8), most=12)

    data = xr.Dataset({"a": ("t", np.zeros(31)), "b": ("t", np.zeros(31))}, coords={"t": TIMES})
    initial = {"a": starts[0], "b": starts[1], "va": 0.0, "vb": 0.0}
    problem = sd.ODEProblem(
        data, states=tuple(initial), initial=initial, resets=[bounce(i) for i in order], solver=SOLVER,
        noise=sd.Normal(1.0),
    )  # fmt: skip
    return jax.jit(lambda: problem.predict(lambda t, y: jnp.stack([y[2], y[3], -9.81, -9.81])).mean[0])()


@pytest.mark.loose_promotion
@pytest.mark.parametrize(
    "starts", [(2.0, 1.9), *(pytest.param(s, marks=pytest.mark.slow) for s in [(1.9, 2.0), (2.0, 2.0)])]
)
def test_of_several_resets_the_first_in_time_happens_first(starts):
    for order in ((0, 1), (1, 0)):
        found = falling(starts, order)
        for i, start in enumerate(starts):
            np.testing.assert_allclose(found[:, i], heights(TIMES, 9.81, 0.8, start), atol=1e-7)


@pytest.mark.parametrize("falling", [True, False])
def test_a_reset_that_leaves_its_condition_at_zero_happens_once(falling):
    sign = -1.0 if falling else 1.0
    data = xr.Dataset({"size": ("t", np.zeros(5))}, coords={"t": np.array([0.0, 1.0, 2.0, 3.0, 4.0])})
    therapy = sd.Reset(lambda m, t, y: sign * (y[0] - 1.1), lambda m, t, y: y.at[1].add(1.0), falling=falling)
    problem = sd.ODEProblem(
        data, states=("size", "given"), initial={"size": 0.3, "given": 0.0}, resets=therapy, noise=sd.Normal(1.0)
    )
    states = jax.jit(lambda: problem.states_at(lambda t, y: jnp.stack([0.7 * y[0], 0.0 * y[1]])))()
    np.testing.assert_allclose(states[0, :, 1], [0.0, 0.0, 1.0, 1.0, 1.0], atol=1e-12)


@pytest.mark.parametrize("scale", [1e-9, 1e9])
def test_units_of_the_condition_do_not_matter(scale):
    data = xr.Dataset({"cells": ("t", np.zeros(9))}, coords={"t": np.linspace(0.0, 4.0, 9)})
    divided = sd.Reset(lambda m, t, y: y[0] - 2.0 * scale, lambda m, t, y: 0.5 * y, falling=False)
    problem = sd.ODEProblem(
        data, initial={"cells": scale}, resets=divided, solver=sd.ODE(rtol=1e-9, atol=1e-9 * scale), noise=sd.Normal()
    )
    found = jax.jit(lambda: problem.predict(lambda t, y: jnp.log(2.0) / 0.73 * y).mean[0, :, 0])()
    np.testing.assert_allclose(found, scale * 2.0 ** ((data["t"].values / 0.73) % 1.0), rtol=1e-6)


@pytest.mark.loose_promotion
def test_resets_in_single_precision():
    with jax.enable_x64(False):
        problem = fallen(np.zeros(TIMES.size), solver=sd.ODE(rtol=1e-5, atol=1e-5))
        found = jax.jit(lambda: problem.predict(Ball()).mean[..., 0])()
        assert found.dtype == np.float32
    np.testing.assert_allclose(found[0], heights(TIMES, 9.81, 0.8, 2.0), atol=2e-3)


@pytest.mark.slow
def test_the_number_of_resets_is_named_where_a_fit_cannot_begin():
    fit = sd.fit(fallen(np.ones(TIMES.size), resets=sd.Reset(BOUNCE.when, BOUNCE.then, most=1)), Ball(), starts=0)
    assert "more of them than `most` are a failed solve too" in fit.message
