"""Delay equations: values, orders of convergence and derivatives against closed forms, and problems made of them."""

# ruff: noqa: ARG001, ARG002, ARG005  (a right-hand side takes t, y, the delayed state and args, whatever it uses)

import diffrax as dfx
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
import xarray as xr

import sciad as sd
from sciad.models.physics import erlang_delay
from sciad.problems.easing import horizons, shortened, thinned

ACCURATE = sd.ODE(rtol=1e-9, atol=1e-9)
TS = np.linspace(0.0, 3.5, 15)
TIGHT = dfx.Kvaerno5(root_finder=dfx.VeryChord(rtol=1e-12, atol=1e-12))
THETA = np.array([-0.3, 0.8, 0.7])


def growth(theta):
    """The real λ with λ = a + b exp(-λτ), by Newton's method, which is differentiable."""
    a, b, tau = theta
    rate = jnp.array(0.3)
    for _ in range(7):
        lagged = b * jnp.exp(-rate * tau)
        rate = rate - (rate - a - lagged) / (1 + tau * lagged)
    return rate


def exact(theta):
    return jnp.exp(growth(theta) * TS)


def exponential(theta, ode=ACCURATE, ts=TS):
    """x' = a x + b x(t - τ), whose solution is exp(λt) if the history is."""
    a, b, tau = theta
    rate = growth(theta)
    solution = sd.DDE(ode)(
        lambda t, y, delayed, _: a * y + b * delayed,
        jnp.ones(()),
        delay=tau,
        history=lambda t, _: jnp.exp(rate * t),
        ts=ts,
        t0=0.0,
        throw=False,
    )
    return solution.ys


def pieces(tau, ts):
    """The solution of x' = -x(t - τ), x = 1 before 0: a sum of powers, one more after each delay."""
    k = jnp.arange(12.0)
    since = jnp.maximum(ts[:, None] - (k - 1)[None] * tau, 0.0)
    return jnp.sum((-since) ** k[None] / jnp.cumprod(jnp.maximum(k, 1.0))[None], axis=1)


def distance(found, expected):
    """The largest error of each column in units of its largest entry."""
    return np.max(np.abs(found - expected), axis=0) / np.max(np.abs(expected), axis=0)


class Hutchinson(eqx.Module):
    rate: sd.Param = sd.param(1.0, prior=dist.LogNormal(0.0, 0.3))
    tau: sd.Param = sd.param(1.5, prior=dist.TruncatedNormal(1.5, 0.5, low=0.3))

    def __call__(self, t, y, delayed):
        return self.rate * y * (1 - delayed)


def hutchinson(rate, tau, ts, start=0.5):
    model = sd.unwrap(Hutchinson(sd.param(rate), sd.param(tau)))
    solve = sd.DDE(ACCURATE)

    def field(t, y, delayed, _):
        return model(t, y, delayed)

    return np.array(jax.jit(lambda: solve(field, jnp.array([start]), delay=tau, ts=ts).ys)()[:, 0])


def record(values, ts, **options):
    data = xr.Dataset({"x": ("t", values)}, coords={"t": ts})
    options = {"delay": lambda model: model.tau, "noise": sd.LogNormal(0.05), "solver": ACCURATE} | options
    return sd.ODEProblem(data, **options)


# --- the solver ------------------------------------------------------------------------------------------------------


def test_kinks_at_multiples_of_the_delay_cost_no_accuracy_and_move_with_it():
    ts = np.concatenate([[0.0, 3.0, 5.0], np.linspace(0.1, 9.7, 40)])  # in any order

    def solve(tau):
        solution = sd.DDE(ACCURATE)(lambda t, y, delayed, _: -delayed, jnp.ones(()), delay=tau, ts=ts, t0=0.0)
        return solution.ys, solution.stats["num_delays"]

    tau, one = jnp.ones(()), jnp.ones(())
    ys, slopes, delays = jax.jit(lambda tau: jax.jvp(solve, (tau,), (one,), has_aux=True))(tau)
    values, moved = jax.jvp(lambda tau: pieces(tau, jnp.asarray(ts)), (tau,), (one,))
    np.testing.assert_allclose(ys, values, atol=2e-8)
    np.testing.assert_allclose(slopes, moved, atol=5e-8)
    assert int(delays) == 10


def test_values_and_derivatives_in_rates_and_delay_are_those_of_the_closed_form():
    theta, weights = jnp.array(THETA), jnp.cos(jnp.arange(len(TS), dtype=float))

    @jax.jit
    def forward_and_reverse(theta):
        values, pushforward = jax.linearize(exponential, theta)
        return values, jax.vmap(pushforward)(jnp.eye(3)).T, jax.linear_transpose(pushforward, theta)(weights)[0]

    values, jacobian, gradient = forward_and_reverse(theta)
    expected = jax.jit(jax.jacfwd(exact))(theta)
    np.testing.assert_allclose(values, exact(theta), rtol=1e-8)
    assert np.all(distance(jacobian, expected) < 1e-8)
    np.testing.assert_allclose(gradient, weights @ expected, rtol=1e-7)


@pytest.mark.slow
def test_second_derivatives_are_those_of_the_closed_form():
    theta, weights = jnp.array(THETA), jnp.cos(jnp.arange(len(TS), dtype=float))
    found = jax.jit(jax.hessian(lambda theta: exponential(theta) @ weights))(theta)
    expected = jax.jit(jax.hessian(lambda theta: exact(theta) @ weights))(theta)
    np.testing.assert_allclose(found, expected, rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize(
    ("solver", "order"),
    [
        (dfx.Tsit5(), 5),
        pytest.param(dfx.Bosh3(), 3, marks=pytest.mark.slow),
        pytest.param(TIGHT, 4, marks=pytest.mark.slow),  # its dense output is cubic
    ],
)
def test_fixed_steps_converge_at_the_order_of_the_method_and_its_dense_output(solver, order):
    @jax.jit
    def error(step):
        ode = sd.ODE(solver, controller=dfx.ConstantStepSize(), dt0=step)
        return jnp.max(jnp.abs(exponential(jnp.array(THETA), ode) / exact(jnp.array(THETA)) - 1))

    coarse, fine = error(THETA[2] / 2), error(THETA[2] / 4)
    assert np.log2(coarse / fine) > order - 0.5


def test_derivatives_by_implicit_methods_are_refused():
    def end(rate):
        solution = sd.DDE(sd.ODE(dfx.Kvaerno5()))(
            lambda t, y, delayed, args: -rate * delayed, jnp.ones(1), delay=1.0, ts=np.array([2.5]), t0=0.0
        )
        return solution.y1[0]

    with pytest.raises(sd.OptionError, match="implicit methods such as Kvaerno5"):
        jax.grad(end)(1.0)


@pytest.mark.slow
def test_an_implicit_solver_solves_a_stiff_equation():
    """A fast state follows the delayed slow one."""
    k, tau, ts = 1e5, 0.5, np.array([0.0, 0.5, 1.0, 2.0])

    @jax.jit
    def solve():
        solution = sd.DDE(sd.ODE(dfx.Kvaerno5(), rtol=1e-7, atol=1e-9))(
            lambda t, y, delayed, _: jnp.stack([-y[0], k * (delayed[0] - y[1])]),
            jnp.ones(2),
            delay=tau,
            history=lambda t, _: jnp.exp(-t) * jnp.ones(2),
            ts=ts,
        )
        return solution.ys[1:], solution.stats["num_steps"]

    ys, steps = solve()
    slow = np.exp(-ts[1:])
    np.testing.assert_allclose(ys, np.stack([slow, slow * np.exp(tau) * k / (k - 1)], axis=1), rtol=1e-6)
    assert int(steps) < 200  # an explicit method would take some 60 000


def test_failures_are_told_and_have_zero_gradients_also_in_a_batch():
    ode = sd.ODE(max_steps=100)

    def end(tau):
        found = sd.DDE(ode)(
            lambda t, y, delayed, _: -delayed, jnp.ones(()), delay=tau, ts=np.array([0.0, 2.0]), throw=False
        )
        return jnp.where(found.ok, found.y1, 0.0), found.ok

    taus = jnp.array([1.0, 0.0, -1.0, 1e-3, jnp.nan])
    gradients, ok = jax.jit(jax.vmap(jax.grad(end, has_aux=True)))(taus)
    np.testing.assert_array_equal(ok, [True, False, False, False, False])
    np.testing.assert_array_equal(gradients[1:], 0.0)
    assert abs(gradients[0]) > 0.1


def test_a_failed_solve_raises_with_the_remedy():
    def solve(tau):
        return sd.DDE(sd.ODE(max_steps=64))(lambda t, y, d, _: -d, jnp.ones(()), delay=tau, ts=np.array([0.0, 2.0])).ys

    with pytest.raises(eqx.EquinoxRuntimeError, match="bound it from below"):
        eqx.filter_jit(solve)(jnp.array(1e-3))


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: sd.DDE(sd.ODE(event=dfx.Event(lambda t, y, args, **_: y - 1.0))), "leave `event` out"),
        (lambda: sd.DDE(sd.ODE(sensitivity="reverse")), "forward sensitivities alone"),
        (lambda: sd.DDE(sd.ODE(max_steps=None)), "such as max_steps=4096"),
        (lambda: solved(delay=0.0), "expected a positive number"),
        (lambda: solved(delay=jnp.ones(2)), "expected one number"),
        (lambda: solved(ts=np.array([])), "non-empty vector"),
        (lambda: solved(ts=np.array([0.0, 1.0]), t0=0.5), "what was then is the history"),
        (lambda: solved(history=lambda t, _: jnp.ones(3)), "for a state of shape"),
    ],
)
@pytest.mark.usefixtures("unchecked")
def test_wrong_uses_are_told(make, match):
    with pytest.raises(sd.SciadError, match=match):
        make()


def solved(**options):
    options = {"delay": 1.0, "ts": np.array([0.0, 1.0])} | options
    return sd.DDE()(lambda t, y, delayed, _: -delayed, jnp.ones(()), **options)


def test_a_derivative_in_a_tolerance_is_refused():
    def end(dt0):
        ode = sd.ODE(controller=dfx.PIDController(rtol=dt0, atol=1e-6))
        return sd.DDE(ode)(lambda t, y, d, _: -d, jnp.ones(()), delay=1.0, ts=np.array([0.0, 2.0])).y1

    with pytest.raises(sd.OptionError, match="delay equations have none"):
        jax.grad(end)(1e-6)


# --- problems --------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_problem_gives_the_derivative_of_its_likelihood():
    ts = np.linspace(0.0, 8.0, 12)
    problem = record(hutchinson(1.2, 1.7, ts), ts)
    full = sd.vectorize(problem.complete(Hutchinson()))
    evaluate = jax.jit(jax.value_and_grad(lambda vector: problem.log_likelihood(full.program(vector))))
    _, gradient = evaluate(full.vector)
    for i, step in enumerate(1e-5 * np.eye(len(full.vector))):
        difference = (evaluate(full.vector + step)[0] - evaluate(full.vector - step)[0]) / 2e-5
        np.testing.assert_allclose(gradient[i], difference, rtol=1e-5)


@pytest.mark.slow
def test_a_horizon_rests_beyond_its_end_with_a_delay_too():
    ts = np.linspace(0.0, 8.0, 12)
    problem = record(hutchinson(1.2, 1.7, ts), ts)
    program, (first, last) = problem.complete(Hutchinson()), horizons(problem)
    eased = jax.jit(lambda ease: shortened(thinned(problem), program, ease)[0])
    residuals, _ = jax.jit(problem.residuals)(program)
    np.testing.assert_allclose(eased(last), residuals, atol=1e-5)
    np.testing.assert_array_equal(eased(first)[:, 6:], 0.0)


@pytest.mark.slow
def test_experiments_inputs_and_a_history_reach_the_equation():
    """x' = -k (x - u(x0) x(t - τ)): experiments differ in input and start; before t0 the state is the history's."""
    ts = np.array([0.0, 0.25, 0.5])
    data = xr.Dataset(
        {"x": (("run", "t"), np.ones((2, 3))), "u": ("run", [1.0, 2.0])}, coords={"t": ts, "run": ["a", "b"]}
    )
    problem = sd.ODEProblem(
        data,
        noise=sd.Normal(1.0),
        inputs="u",
        initial={"x": np.array([1.0, 3.0])},
        delay=0.5,
        history=lambda model, t: jnp.stack([model.past * t]),
        solver=ACCURATE,
    )

    class Line(eqx.Module):
        past: sd.Param = sd.param(2.0)

        def __call__(self, t, y, delayed, inputs):
            return inputs["u"] * delayed

    found = problem.predict(Line()).mean[..., 0]
    grown = 2.0 * (ts**2 / 2 - 0.5 * ts)  # the integral of 2 (s - 1/2) from 0 to t
    np.testing.assert_allclose(found, [1.0 + grown, 3.0 + 2.0 * grown], atol=1e-8)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"delay": None, "history": lambda model, t: 1.0}, "and no `delay`"),
        ({"delay": "tau"}, "or a function of the model"),
        ({"delay": sd.param(1.0)}, "declared there as an `sd.param`"),
        ({"delay": 1.0, "history": 3.0}, "expected a function"),
        ({"delay": 1.0, "solver": sd.ODE(sensitivity="backsolve")}, "forward sensitivities alone"),
    ],
)
@pytest.mark.usefixtures("unchecked")
def test_a_wrong_delay_is_told_when_the_problem_is_made(options, match):
    ts = np.linspace(0.0, 3.0, 4)
    with pytest.raises(sd.SciadError, match=match):
        record(np.ones(4), ts, **options)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"delay": lambda model: -model.tau}, "expected a positive number"),
        ({"delay": lambda model: 1e-4}, "start from a larger delay"),
        ({"delay": lambda model: jnp.ones(2)}, "one number for the model"),
        ({"history": lambda model, t: jnp.ones(2)}, "return one value for each"),
    ],
)
def test_a_delay_that_a_model_cannot_have_is_told_before_any_solve(options, match):
    ts = np.linspace(0.0, 3.0, 4)
    with pytest.raises(sd.InputError, match=match):
        record(np.ones(4), ts, **options).complete(Hutchinson())


def test_the_delay_of_each_experiment_is_looked_at():
    ts = np.linspace(0.0, 3.0, 4)
    data = xr.Dataset({"x": (("run", "t"), np.ones((2, 4)))}, coords={"t": ts, "run": ["a", "b"]})
    problem = sd.ODEProblem(data, delay=lambda model: model.tau)
    model = eqx.tree_at(lambda m: m.tau, Hutchinson(), sd.param(np.array([1.0, -1.0]), each=True))
    with pytest.raises(sd.InputError, match="is -1 for this model; expected a positive number"):
        problem.complete(model)


def test_gradient_matching_refuses_a_delay():
    ts = np.linspace(0.0, 3.0, 9)
    with pytest.raises(sd.InputError, match="knows no delayed state"):
        sd.gradient_matching(record(np.ones(9), ts), Hutchinson())


@pytest.fixture(scope="module")
def noisy():
    ts = np.linspace(0.0, 20.0, 41)
    values = hutchinson(1.2, 1.7, ts) * np.exp(0.05 * np.random.default_rng(0).standard_normal(ts.size))
    return record(values, ts, initial={"x": 0.5})


@pytest.mark.slow
def test_a_fit_finds_the_delay_within_its_error(noisy):
    found = sd.fit(noisy, Hutchinson())
    assert found.message == "Converged."
    deviation = (found.values[:2] - np.array([1.2, 1.7])) / np.sqrt(np.diag(found.covariance))[:2]
    assert np.all(np.abs(deviation) < 4)
    assert np.sqrt(found.covariance[1, 1]) < 0.02


@pytest.mark.slow
@pytest.mark.loose_promotion
def test_a_posterior_of_the_delay_agrees_with_the_fit(noisy):
    found = sd.fit(noisy, Hutchinson(), starts=0)
    posterior = sd.sample(noisy, found.program.model, draws=300, chains=2, progress=False, key=jax.random.key(1))
    row, error = posterior.summary().loc["tau"], np.sqrt(found.covariance[1, 1])
    # The priors are wide beside the errors, so the posterior is normal about the estimate.
    assert abs(row["mean"] - found.values[1]) < 4 * row["mcse_mean"] + 0.1 * error
    assert abs(row["sd"] / error - 1) < 0.15


# --- the chain trick -------------------------------------------------------------------------------------------------


def test_a_chain_answers_a_step_and_an_oscillation_as_erlang_s_distribution_says():
    ts, tau, n = np.linspace(0.0, 12.0, 13), 1.5, 4
    solve = sd.ODE(rtol=1e-9, atol=1e-11)

    @jax.jit
    def last(signals):
        def field(t, z, signal):
            return erlang_delay(z, signal[0] + signal[1] * jnp.cos(2.0 * t), tau)

        return jax.vmap(lambda signal: solve(field, jnp.zeros(n), args=signal, ts=ts).ys[:, -1])(signals)

    step, wave = last(jnp.eye(2))
    np.testing.assert_allclose(step, jax.scipy.special.gammainc(float(n), n * ts / tau), atol=1e-8)
    late = ts > 11  # the transient has died by then: what is left is the transfer function (1 + iωτ/n)^-n
    expected = np.real(np.exp(2.0j * ts) / (1 + 2.0j * tau / n) ** n)
    np.testing.assert_allclose(wave[late], expected[late], atol=1e-8)


@pytest.mark.slow
def test_many_stages_tend_to_the_discrete_delay_in_proportion_to_their_number():
    """The delay's variance is τ²/n, and so is, to leading order, what it changes."""
    ts, tau = np.linspace(0.0, 8.0, 17), 1.7
    discrete = hutchinson(1.2, tau, ts)

    def chain(n):
        def field(t, y, _):
            return jnp.concatenate([1.2 * y[:1] * (1 - y[-1]), erlang_delay(y[1:], y[0], tau)])

        return np.array(jax.jit(lambda: ACCURATE(field, jnp.full(n + 1, 0.5), ts=ts).ys[:, 0])())

    few, many = (np.max(np.abs(chain(n) - discrete)) for n in (64, 256))
    assert 3.5 < few / many < 4.5
