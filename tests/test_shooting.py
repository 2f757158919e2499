# ruff: noqa: ARG001, ARG002  (a right-hand side takes t and y, whatever it uses)

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr
from numpyro.distributions import constraints

import sciad as sd
from sciad._roles import unwrap
from sciad._vector import vectorize
from sciad.models.physics import Lorenz, LotkaVolterra
from sciad.problems.shooting import _Shots

SOLVER = sd.ODE(rtol=1e-8, atol=1e-8)
BOX = constraints.interval(0.0, 10.0)
TRUE = {"alpha": 1.5, "beta": 1.0, "gamma": 3.0, "delta": 1.0}


def predators(values):
    return LotkaVolterra(**{name: sd.param(value, constraint=BOX) for name, value in zip(TRUE, values, strict=True)})


def observed(model, times, start, relative, states):
    solve = sd.ODE(rtol=1e-10, atol=1e-10)
    exact = np.array(jax.jit(lambda: solve(lambda t, y, _: unwrap(model)(t, y), jnp.array(start), ts=times).ys)())
    sizes = relative * np.abs(exact).mean(axis=0)
    seen = exact + sizes * np.random.default_rng(0).standard_normal(exact.shape)
    data = xr.Dataset({name: ("t", seen[:, i]) for i, name in enumerate(states)}, coords={"t": times})
    return data, {name: sd.Normal(float(size)) for name, size in zip(states, sizes, strict=True)}


@pytest.fixture(scope="module")
def hunted():
    times = np.linspace(0.0, 30.0, 61)
    data, noise = observed(predators(TRUE.values()), times, [1.0, 1.0], 0.1, ("prey", "predator"))
    return sd.ODEProblem(data, noise=noise, initial={"prey": 1.0, "predator": 1.0}, solver=SOLVER)


def test_with_closed_gaps_the_residuals_are_those_of_the_problem(hunted):
    program = hunted.complete(predators((1.4, 0.9, 2.8, 1.1)))
    shots = _Shots(hunted, vectorize(program), 7)
    location, _ = shots.first()
    nodes = jnp.asarray(hunted.states_at(program, shots.ends[:-1]))
    found = eqx.filter_jit(shots.residuals)((location, nodes), jnp.asarray(50.0))
    wanted = jax.jit(lambda: hunted.residuals(program)[0])()[hunted.observations.observed]
    np.testing.assert_allclose(found[: wanted.size], wanted, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(found[wanted.size :], 0.0, atol=50 * 1e-6)


def test_derivatives_are_those_of_finite_differences(hunted):
    shots = _Shots(hunted, vectorize(hunted.complete(predators((1.4, 0.9, 2.8, 1.1)))), 5)
    unknowns, rng = shots.first(), np.random.default_rng(1)
    direction = jax.tree.map(lambda x: jnp.asarray(rng.standard_normal(x.shape)), unknowns)
    residuals = jax.jit(lambda u: shots.residuals(u, jnp.asarray(3.0)))
    _, pushed = jax.jit(lambda u, d: jax.jvp(residuals, (u,), (d,)))(unknowns, direction)
    ahead, behind = (residuals(jax.tree.map(lambda x, d, h=h: x + h * d, unknowns, direction)) for h in (1e-4, -1e-4))
    np.testing.assert_allclose(pushed, (ahead - behind) / 2e-4, atol=1e-4 * np.abs(pushed).max())


def test_oscillations_are_found_where_a_single_descent_fails(hunted):
    guess = predators((8.0, 8.0, 5.0, 3.0))
    alone = sd.fit(hunted, guess, solver=sd.LeastSquares(starts=0, paths=0))
    shot = sd.multiple_shooting(hunted, guess)
    found = np.array([float(value) for value in jax.tree.leaves(unwrap(shot).model)])
    np.testing.assert_allclose(found, list(TRUE.values()), rtol=0.05)
    polished = sd.fit(hunted, shot, solver=sd.LeastSquares(starts=0, paths=0))
    assert polished.loss < alone.loss - 100
    assert np.all(np.abs(polished.values - list(TRUE.values())) < 4 * polished.standard_errors)


@pytest.mark.slow
def test_chaos_is_found_from_the_published_start():
    times, names = np.linspace(0.0, 15.0, 301), ("sigma", "rho", "beta")
    boxes = [constraints.interval(0.0, end) for end in (22.0, 60.0, 6.0)]

    def lorenz(values):
        return Lorenz(**{n: sd.param(v, constraint=b) for n, v, b in zip(names, values, boxes, strict=True)})

    data, noise = observed(lorenz((10.0, 28.0, 2.66)), times, [1.0, 0.0, 0.0], 0.02, ("x", "y", "z"))
    problem = sd.ODEProblem(data, noise=noise, initial={"x": 1.0, "y": 0.0, "z": 0.0}, solver=SOLVER)
    shot = unwrap(sd.multiple_shooting(problem, lorenz((0.1, 0.5, 0.1)))).model
    np.testing.assert_allclose([shot.sigma, shot.rho, shot.beta], [10.0, 28.0, 2.66], rtol=0.02)


@pytest.mark.slow
def test_a_hidden_state_and_unknown_starts_of_several_experiments():
    class Chain(eqx.Module):
        first: sd.Param = sd.param(3.0, constraint=constraints.positive)
        second: sd.Param = sd.param(0.1, constraint=constraints.positive)

        def __call__(self, t, y, inputs):
            return jnp.stack([inputs["feed"] - self.first * y[0], self.first * y[0] - self.second * y[1]])

    times, feeds = np.linspace(0.0, 10.0, 41), np.array([1.0, 2.0])
    data = xr.Dataset(
        {"product": (("run", "t"), np.zeros((2, 41))), "feed": ("run", feeds)}, coords={"t": times, "run": ["a", "b"]}
    )
    options = {
        "fields": "product", "states": ("substrate", "product"), "inputs": "feed", "solver": SOLVER,
        "noise": sd.Normal(0.01), "initial": {"substrate": 4.0, "product": sd.param([0.5, 1.0])},
    }  # fmt: skip
    truth = sd.ODEProblem(data, **options).predict(Chain(*(sd.param(v) for v in (0.8, 0.5)))).mean[..., 0]
    data["product"][:] = np.asarray(truth) + 0.01 * np.random.default_rng(2).standard_normal(truth.shape)
    shot = unwrap(sd.multiple_shooting(sd.ODEProblem(data, **options), Chain()))
    np.testing.assert_allclose([shot.model.first, shot.model.second], [0.8, 0.5], rtol=0.03)
    np.testing.assert_allclose(shot.initial["product"], [0.5, 1.0], atol=0.03)


def test_what_cannot_be_cut_into_segments_is_told(hunted, unchecked):
    with pytest.raises(sd.InputError, match="segments=99\\): expected 1 to 60"):
        sd.multiple_shooting(hunted, predators(TRUE.values()), segments=99)
    dosed = sd.ODEProblem(
        hunted.data, initial={"prey": 1.0, "predator": 1.0}, doses=sd.Doses("prey", time=1.0, amount=1.0)
    )
    with pytest.raises(sd.InputError, match="knows no doses, stepwise inputs, resets, delay or start at rest"):
        sd.multiple_shooting(dosed, predators(TRUE.values()))
