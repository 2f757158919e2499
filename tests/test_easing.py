"""Easier problems on the way: between one-step prediction and simulation, and what they find."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr
from numpyro.distributions import constraints

import sciad as sd
from sciad.models.physics import Lorenz, LotkaVolterra
from sciad.problems.easing import KNOTS, gains, horizons, nudged, shortened, thinned

TRUE = {"alpha": 1.5, "beta": 1.0, "gamma": 3.0, "delta": 1.0}
ACCURATE = sd.ODE(rtol=1e-9, atol=1e-9, max_steps=20_000)


def simulated(model, y0, ts):
    plain = sd.unwrap(model)
    return np.array(jax.jit(lambda: ACCURATE(lambda t, y, _: plain(t, y), jnp.array(y0), ts=ts, t0=0.0).ys)())


def predation(**values):
    return LotkaVolterra(**{name: sd.param(values.get(name, true)) for name, true in TRUE.items()})


def problem(y, ts, **options):
    data = xr.Dataset({f"y{i}": ("t", y[:, i]) for i in range(y.shape[1])}, coords={"t": ts})
    initial = {f"y{i}": value for i, value in enumerate(y[0])}
    return sd.ODEProblem(data, initial=initial, **({"noise": sd.Normal(1.0), "solver": ACCURATE} | options))


@pytest.fixture(scope="module")
def noisy():
    ts = np.linspace(0.0, 3.0, 13)
    y = simulated(predation(), [1.0, 1.0], ts)
    return problem(y + 0.1 * np.random.default_rng(1).standard_normal(y.shape) * (ts[:, None] > 0), ts)


@pytest.mark.slow
def test_without_gain_it_is_the_problem_itself_and_with_a_great_one_prediction_from_each_datum_to_the_next(noisy):
    program = noisy.complete(predation(alpha=1.3))
    eased = jax.jit(lambda gain: nudged(thinned(noisy), program, gain))
    residuals, _ = jax.jit(noisy.residuals)(program)
    np.testing.assert_allclose(eased(0.0)[0], residuals, atol=1e-6)
    data, ts = noisy.observations.values[0], noisy.observations.times
    expected = [
        simulated(predation(alpha=1.3), y, np.array([gap]))[0] for y, gap in zip(data, np.diff(ts), strict=False)
    ]
    np.testing.assert_allclose(eased(1e6)[1].mean[0, 1:], expected, rtol=1e-6)


def test_a_horizon_holds_the_residuals_before_it_and_the_longest_is_the_problem_itself(noisy):
    program, easy = noisy.complete(predation(alpha=1.3)), thinned(noisy)
    residuals, _ = jax.jit(noisy.residuals)(program)
    eased = jax.jit(lambda ease: shortened(easy, program, ease)[0])
    first, last = horizons(noisy)
    np.testing.assert_allclose(eased(last), residuals, atol=1e-6)
    assert 1 / first == noisy.observations.times[3]  # six numbers of two fields, after the start
    np.testing.assert_allclose(eased(first)[:, :4], residuals[:, :4] * np.sqrt(13 / 4), atol=1e-6)
    np.testing.assert_array_equal(eased(first)[:, 4:], 0.0)


def test_what_explodes_beyond_the_horizon_does_no_harm():
    ts = np.linspace(0.0, 3.0, 13)
    exploding = problem(np.exp(ts)[:, None], ts)
    program = exploding.complete(lambda t, y: y**2)  # infinite at t = 1  # noqa: ARG005
    easy = jax.jit(lambda ease: shortened(thinned(exploding), program, ease)[1].ok)
    assert bool(easy(1 / 0.8).all())
    assert not bool(easy(1 / 3.0).all())


def test_derivatives_are_those_of_finite_differences(noisy):
    vectorized = sd.vectorize(noisy.complete(predation(alpha=1.3)))

    def residuals(v):
        return nudged(thinned(noisy), vectorized.program(v), jnp.array(2.0))[0].ravel()

    jacobian = jax.jit(jax.jacfwd(residuals))(vectorized.vector)
    evaluate = jax.jit(residuals)
    for i, step in enumerate(1e-5 * np.eye(4)):
        difference = (evaluate(vectorized.vector + step) - evaluate(vectorized.vector - step)) / 2e-5
        np.testing.assert_allclose(jacobian[:, i], difference, rtol=1e-4, atol=1e-4)


def test_hidden_states_and_missing_values_are_left_to_the_equation():
    ts = np.linspace(0.0, 3.0, 13)
    y = simulated(predation(), [1.0, 1.0], ts)
    y[5:7] = np.nan
    data = xr.Dataset({"prey": ("t", y[:, 0])}, coords={"t": ts})
    seen = sd.ODEProblem(
        data, states=("prey", "hunter"), noise=sd.Normal(1.0), initial={"prey": 1.0, "hunter": 1.0}, solver=ACCURATE
    )
    residuals, prediction = jax.jit(lambda: nudged(thinned(seen), seen.complete(predation()), jnp.array(5.0)))()
    np.testing.assert_allclose(residuals, 0.0, atol=1e-6)  # the truth needs no correction
    assert bool(prediction.ok.all())
    assert len(thinned(seen).observations.times) == 11


def test_gains_fall_from_one_step_to_the_whole_and_many_times_are_thinned():
    ts = np.linspace(0.0, 30.0, 3001)
    dense = problem(np.ones((3001, 2)), ts)
    times = thinned(dense).observations.times
    assert len(times) == KNOTS
    assert (times[0], times[-1]) == (0.0, 30.0)
    first, last = gains(dense)
    assert first * np.diff(times).min() == pytest.approx(3.0)
    assert last * 30.0 == pytest.approx(0.3)


@pytest.mark.slow
def test_oscillations_are_found_from_a_few_noisy_points_where_descents_fail():
    ts, rng = np.linspace(0.0, 30.0, 31), np.random.default_rng(0)
    y = simulated(predation(), [1.0, 1.0], ts)
    sizes = 0.2 * np.abs(y).mean(axis=0)
    data = y + sizes * rng.standard_normal(y.shape)
    data[0] = y[0]
    noise = {f"y{i}": sd.Normal(float(size)) for i, size in enumerate(sizes)}
    seen, box = problem(data, ts, noise=noise), constraints.interval(0.0, 10.0)

    def guess(values):
        return LotkaVolterra(
            **{name: sd.param(value, constraint=box) for name, value in zip(TRUE, values, strict=True)}
        )

    best = sd.fit(seen, guess(TRUE.values()), solver=sd.LeastSquares(starts=0, paths=0))
    far = (8.0, 8.0, 5.0, 3.0)
    lost, found = (sd.fit(seen, guess(far), solver=sd.LeastSquares(paths=paths)) for paths in (0, 4))
    assert lost.loss > best.loss + 10.0
    assert found.stats["paths"] > 0
    np.testing.assert_allclose(found.values, best.values, rtol=1e-4)
    np.testing.assert_allclose(found.loss, best.loss, atol=1e-3)


@pytest.mark.slow
def test_chaos_over_thirty_units_of_time_is_found():
    ts = np.linspace(0.0, 30.0, 3001)
    y = simulated(Lorenz(beta=sd.param(2.66)), [1.0, 0.0, 0.0], ts)
    limits = {"sigma": 22.0, "rho": 60.0, "beta": 6.0}
    starts = {"sigma": 1.0, "rho": 50.0, "beta": 0.1}
    far = Lorenz(**{k: sd.param(starts[k], constraint=constraints.interval(0.0, limits[k])) for k in limits})
    found = sd.fit(problem(y, ts), far, solver=sd.LeastSquares(starts=0))
    np.testing.assert_allclose(found.values, [10.0, 28.0, 2.66], rtol=1e-5)


@pytest.mark.slow
def test_chaos_under_noise_is_found_by_a_growing_horizon():
    ts, rng = np.linspace(0.0, 30.0, 3001), np.random.default_rng(0)
    y = simulated(Lorenz(beta=sd.param(2.66)), [1.0, 0.0, 0.0], ts)
    sizes = 0.05 * np.abs(y).mean(axis=0)
    noise = {f"y{i}": sd.Normal(float(size)) for i, size in enumerate(sizes)}
    data = y + sizes * rng.standard_normal(y.shape)
    data[0] = y[0]
    limits = {"sigma": 22.0, "rho": 60.0, "beta": 6.0}
    starts = {"sigma": 1.0, "rho": 50.0, "beta": 0.1}
    far = Lorenz(**{k: sd.param(starts[k], constraint=constraints.interval(0.0, limits[k])) for k in limits})
    found = sd.fit(problem(data, ts, noise=noise), far)
    np.testing.assert_allclose(found.values, [10.0, 28.0, 2.66], rtol=0.01)
    np.testing.assert_allclose(found.diagnostics["reduced_chi_squared"], 1.0, atol=0.05)


def test_draws_about_a_minimum_are_a_few_times_as_wide_as_its_normal_law():
    from sciad.solvers.least_squares import REACH, WIDER, Linearised, Point, _about

    rng = np.random.default_rng(1)
    jacobian = rng.standard_normal((40, 3)) * np.array([100.0, 10.0, 50.0])
    residuals = jnp.asarray(2.0 * np.ones(40))
    point = Point(jnp.zeros(3), Linearised(residuals, jnp.asarray(jacobian), ()), None, jnp.zeros(()))
    draws = np.stack([_about(point, rng) for _ in range(4000)])
    root = np.linalg.cholesky(jacobian.T @ jacobian).T / (2.0 * np.sqrt(np.mean(np.square(WIDER))))
    assert np.cov(root @ draws.T) == pytest.approx(np.eye(3), abs=0.15)
    loose = Point(jnp.zeros(3), Linearised(residuals, jnp.asarray(1e-9 * jacobian), ()), None, jnp.zeros(()))
    assert np.linalg.norm(_about(loose, rng)) == pytest.approx(REACH)


@pytest.mark.slow
def test_chaos_with_noise_is_fitted_from_a_poor_start_as_well_as_from_the_truth():
    truth, solver = {"sigma": 10.0, "rho": 28.0, "beta": 2.66}, sd.ODE(rtol=1e-8, atol=1e-8, max_steps=20_000)
    times = np.linspace(0, 20, 401)

    def slope(_, y, rates):
        a, r, b = rates
        return jnp.stack([a * (y[1] - y[0]), y[0] * (r - y[2]) - y[1], y[0] * y[1] - b * y[2]])

    start, rates = jnp.array([1.0, 0.0, 0.0]), jnp.array([*truth.values()])
    exact = jax.jit(lambda: solver(slope, start, args=rates, ts=times, t0=0.0).ys)()
    sigma = 0.2 * np.abs(exact).mean(axis=0)
    y = np.asarray(exact) + sigma * np.random.default_rng(0).standard_normal(exact.shape)
    data = xr.Dataset({f"y{i}": ("t", y[:, i]) for i in range(3)}, coords={"t": times})
    noise = {f"y{i}": sd.Normal(float(sigma[i])) for i in range(3)}
    problem = sd.ODEProblem(data, initial={"y0": 1.0, "y1": 0.0, "y2": 0.0}, noise=noise, solver=solver)

    def from_(**start):
        boxes = {"sigma": (0.0, 22.0), "rho": (0.0, 60.0), "beta": (0.0, 6.0)}
        model = Lorenz(**{n: sd.param(v, constraint=constraints.interval(*boxes[n])) for n, v in start.items()})
        return sd.fit(problem, model, progress=False)

    near, far = from_(**truth), from_(sigma=3.0, rho=50.0, beta=5.0)
    assert far.loss < near.loss + 1.0
    assert far.values == pytest.approx(list(truth.values()), rel=0.02)
