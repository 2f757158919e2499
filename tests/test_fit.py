# ruff: noqa: ARG001, ARG002, ARG005  (a right-hand side takes t and y, whatever it uses)

import inspect

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import optimistix as optx
import pytest
import xarray as xr
from numpyro.distributions import constraints
from scipy import optimize
from scipy import stats as st

import sciad as sd
from sciad._regression import distance, location_covariance, noise_covariance, residual_tests
from sciad.app.studies import hudson_bay
from sciad.models.physics import SIR
from sciad.solvers.least_squares import REJECTED

RNG = np.random.default_rng(7)


class Towards(eqx.Module):
    """``y' = rate (end - y)``, whose solution is ``end + (y0 - end) exp(-rate t)``."""

    rate: sd.Param = sd.param(1.0, constraint=constraints.positive)
    end: sd.Param = sd.frozen(2.0)

    def __call__(self, t, y):
        return self.rate * (self.end - y)


def towards(t, rate, start):
    return 2.0 + (start - 2.0) * np.exp(-rate * t)


# --- a curve, against SciPy ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def decay():
    t = np.linspace(0.0, 5.0, 25)
    y = towards(t, 0.7, 10.0) + 0.3 * RNG.standard_normal(25)
    y[[3, 11]] = np.nan
    return xr.Dataset({"y": ("t", y, {"units": "mg"})}, coords={"t": t})


@pytest.fixture(scope="module")
def decayed(decay):
    traces = [0]

    class Counted(Towards):
        def __call__(self, t, y):
            traces[0] += 1
            return super().__call__(t, y)

    solver = sd.ODE(rtol=1e-9, atol=1e-9)
    with jax.numpy_dtype_promotion("strict"), jax.numpy_rank_promotion("raise"):
        problem = sd.ODEProblem(decay, noise=sd.Normal(), solver=solver)
        return sd.fit(problem, Counted(), starts=8), traces[0]


def test_a_curve_is_fitted_as_by_scipy(decay, decayed):
    fit, _ = decayed
    seen = decay.dropna("t")
    x, y = seen["t"].to_numpy(), seen["y"].to_numpy()
    values, covariance = optimize.curve_fit(towards, x, y, p0=(1.0, 8.0), xtol=1e-12, ftol=1e-12)
    sigma = np.sqrt(np.mean((y - towards(x, *values)) ** 2))
    assert fit.names == ("rate", "initial.y", "noise.y.scale")
    np.testing.assert_allclose(fit.values, [*values, sigma], rtol=1e-6)
    np.testing.assert_allclose(fit.covariance[:2, :2], covariance, rtol=1e-4)
    np.testing.assert_allclose(fit.standard_errors[2], sigma / np.sqrt(2 * 23), rtol=1e-5)  # Fisher: 2 n / σ²
    assert fit.covariance[0, 2] == fit.covariance[1, 2] == 0.0


def test_numbers_on_the_fit_follow_their_formulas(decay, decayed):
    fit, _ = decayed
    rate, start, sigma = fit.values
    y = decay["y"].to_numpy()
    loss = -np.nansum(st.norm.logpdf(y, towards(decay["t"].to_numpy(), rate, start), sigma))
    found = fit.diagnostics
    np.testing.assert_allclose(fit.loss, loss, rtol=1e-8)
    np.testing.assert_allclose(found["log_likelihood"], -loss, rtol=1e-8)
    np.testing.assert_allclose([found["aic"], found["bic"]], [2 * loss + 6, 2 * loss + 3 * np.log(23)], rtol=1e-8)
    assert (found["observations"], found["degrees_of_freedom"]) == (23, 21)
    np.testing.assert_allclose(found["reduced_chi_squared"], 23 / 21, rtol=1e-6)  # σ² is the mean square
    assert found["converged"]
    assert found["distance"] < 1e-3
    assert (fit.message, fit.warnings) == ("Converged.", [])
    np.testing.assert_array_equal(np.isnan(fit.residuals["y"]), np.isnan(y))
    np.testing.assert_allclose(found["residual_tests"]["y"]["rms"], 1.0, rtol=1e-6)


def test_intervals_have_the_quantile_of_students_t_and_respect_bounds(decayed):
    fit, _ = decayed
    table, wide = fit.table(), fit.interval(0.9999999)
    quantile = st.t.ppf(0.975, 21)
    rate, error = table.loc["rate", "value"], table.loc["rate", "standard_error"]
    np.testing.assert_allclose(table.loc["rate", "upper"], rate * np.exp(quantile * error / rate), rtol=1e-6)
    start, error = table.loc["initial.y", "value"], table.loc["initial.y", "standard_error"]
    np.testing.assert_allclose(table.loc["initial.y", "lower"], start - quantile * error, rtol=1e-6)
    assert wide.loc["rate", "lower"] > 0
    assert list(table.columns) == ["value", "standard_error", "lower", "upper"]
    with pytest.raises(sd.OptionError, match=r"interval\(level=95\.0\): expected a probability between 0 and 1"):
        fit.interval(95.0)


def test_predictions_and_their_band_follow_the_curve(decayed):
    fit, _ = decayed
    times = np.array([0.0, 1.5, 9.0])
    rate, start, _ = fit.values
    mean, band = fit.prediction(list(times)), fit.band(times)
    np.testing.assert_allclose(mean["y"], towards(times, rate, start), rtol=1e-6)
    assert mean["y"].attrs == {"units": "mg"}
    decayed_by = np.exp(-rate * times)
    slopes = np.stack([-(start - 2.0) * times * decayed_by, decayed_by], axis=1)
    away = st.t.ppf(0.975, 21) * np.sqrt(np.einsum("ti,ij,tj->t", slopes, fit.covariance[:2, :2], slopes))
    np.testing.assert_allclose(band["y"].sel(limit="upper") - mean["y"], away, rtol=1e-4)
    np.testing.assert_allclose(band["y"].sel(limit="lower") + away, mean["y"], rtol=1e-4)


def test_a_frozen_parameter_stays_and_is_not_estimated(decayed):
    fit, _ = decayed
    assert float(fit.program.model.end) == 2.0
    assert fit.program.model.end.role == "frozen"
    assert float(fit.program.model.rate) == fit.values[0]


def test_a_fit_says_in_text_what_it_found(decayed):
    text = str(decayed[0])
    assert "initial.y" in text
    assert text.endswith("Converged.")


def test_the_equation_is_traced_a_bounded_number_of_times(decayed):
    _, traces = decayed
    assert traces <= 12  # one solve with its sensitivities takes six; a second one would double them


# --- straight lines, in closed form ----------------------------------------------------------------------------------


class Fed(eqx.Module):
    """``y' = slope + gain u(t)``: linear in all parameters."""

    slope: sd.Param = sd.param(0.0)
    gain: sd.Param = sd.param(-3.0)

    def __call__(self, t, y, inputs):
        return jnp.broadcast_to(self.slope + self.gain * inputs["feed"] + inputs["base"], y.shape)


def test_a_linear_equation_over_experiments_has_the_estimate_of_linear_regression():
    t = np.linspace(0.0, 3.0, 7)
    feed = np.stack([t, 1.0 - 2.0 * t])
    y = RNG.standard_normal((2, 7)) + np.array([[2.0], [5.0]])
    y[1, 2] = np.nan
    data = xr.Dataset(
        {"y": (("run", "t"), y), "feed": (("run", "t"), feed)}, coords={"t": t, "base": ("run", [1.0, -1.0])}
    )
    initial = {"y": sd.param([0.0, 0.0])}
    problem = sd.ODEProblem(data, fields="y", inputs=("feed", "base"), noise=sd.Normal(0.5), initial=initial)
    fit = sd.fit(problem, Fed(), starts=0)
    integral = np.stack([t**2 / 2, t - t**2])
    known = np.array([[1.0], [-1.0]]) * t
    design = np.stack([np.tile(t, (2, 1)), integral, np.repeat([[1.0], [0.0]], 7, 1), np.repeat([[0.0], [1.0]], 7, 1)])
    seen = ~np.isnan(y)
    x, target = design[:, seen].T, (y - known)[seen]
    inverse = np.linalg.inv(x.T @ x)
    assert fit.names == ("slope", "gain", "initial.y[run=0]", "initial.y[run=1]")
    np.testing.assert_allclose(fit.values, inverse @ x.T @ target, atol=1e-6)
    np.testing.assert_allclose(fit.covariance, 0.25 * inverse, rtol=1e-5, atol=1e-9)  # the scale is known: no factor
    normal = st.norm.ppf(0.975) * fit.standard_errors
    np.testing.assert_allclose(fit.interval()["upper"], fit.values + normal, rtol=1e-5)


class Each(eqx.Module):
    """Experiment `i` has the rate number `i`."""

    rates: sd.Param

    def __call__(self, t, y, inputs):
        return -jnp.sum(jnp.where(jnp.arange(float(len(self.rates))) == inputs["i"], self.rates, 0.0)) * y


@pytest.mark.slow
@pytest.mark.parametrize("noise", [sd.Normal(0.2), sd.StudentT(0.2)])
def test_intervals_cover_the_truth_as_often_as_they_say(noise):
    number, t = 40, np.linspace(0.0, 4.0, 12)
    truth = np.linspace(0.2, 1.0, number)
    mean = 3.0 * np.exp(-truth[:, None] * t)
    scatter = RNG.standard_normal(mean.shape) if isinstance(noise, sd.Normal) else RNG.standard_t(4.0, mean.shape)
    data = xr.Dataset({"y": (("run", "t"), mean + 0.2 * scatter), "i": ("run", np.arange(number))}, coords={"t": t})
    problem = sd.ODEProblem(data, fields="y", inputs=("i",), noise=noise, initial={"y": 3.0}, time="t")
    fit = sd.fit(problem, Each(sd.param(np.full(number, 0.5), constraint=constraints.positive)), starts=0)
    limits = fit.interval(0.8)
    covered = int(np.sum((limits["lower"] <= truth) & (truth <= limits["upper"])))
    assert fit.diagnostics["converged"]
    assert st.binomtest(covered, number, 0.8).pvalue > 1e-3, covered


# --- real data -------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_lynx_and_hare_are_found_from_a_poor_guess_as_from_a_good_one():
    data = hudson_bay.data()
    problem = hudson_bay.problem(data, {})
    poor = sd.fit(problem, hudson_bay.program({"alpha": 2.0, "beta": 0.2, "gamma": 2.0, "delta": 0.2}))
    good = sd.fit(problem, hudson_bay.program({"alpha": 0.5, "beta": 0.03, "gamma": 0.8, "delta": 0.02}), starts=0)
    np.testing.assert_allclose(poor.loss, good.loss, rtol=1e-6)
    np.testing.assert_allclose(poor.values, good.values, rtol=1e-3)
    assert poor.message == good.message == "Converged."
    vectorized = sd.vectorize(poor.program)
    slope = jax.jit(jax.grad(lambda v: problem.log_likelihood(vectorized.program(v))))(vectorized.vector)
    errors = np.sqrt(np.diag(poor._covariance))
    assert np.max(np.abs(slope * errors)) < 0.01  # in standard errors from the top


@pytest.mark.slow
def test_a_hidden_epidemic_is_found_from_counts_of_the_sick(key):
    day = np.arange(1.0, 15.0)
    truth = SIR(beta=sd.param(1.7), gamma=sd.param(0.45))
    initial = {"susceptible": 762.0, "infected": sd.param(2.0, constraint=constraints.positive), "recovered": 0.0}
    options = {"states": tuple(initial), "fields": ("infected",), "initial": initial, "t0": 0.0}
    counts = xr.Dataset({"infected": ("day", np.ones(14))}, coords={"day": day})
    problem = sd.ODEProblem(counts, noise=sd.NegativeBinomial(0.1), **options)
    program = problem.complete(truth)
    new, _ = jax.jit(problem.replicator(program))(sd.vectorize(program).vector, key)
    drawn = counts.assign(infected=("day", np.asarray(new)[0, :, 0].astype(int)))
    guess = SIR(
        beta=sd.param(1.0, constraint=constraints.positive), gamma=sd.param(1.0, constraint=constraints.positive)
    )
    noise = sd.NegativeBinomial(sd.param(0.5))
    fit = sd.fit(sd.ODEProblem(drawn, noise=noise, **options), guess, starts=16)
    limits = fit.interval(0.9999)
    assert fit.names == ("beta", "gamma", "initial.infected", "noise.infected.dispersion")
    true = [1.7, 0.45, 2.0, 0.1]
    assert np.all((limits["lower"] < true) & (limits["upper"] > true)), limits
    assert limits.loc["noise.infected.dispersion", "upper"] < 10.0, "limits that exclude nothing"
    assert fit.diagnostics["converged"]


# --- what data cannot tell -------------------------------------------------------------------------------------------


class Product(eqx.Module):
    a: sd.Param = sd.param(0.5, constraint=constraints.positive)
    b: sd.Param = sd.param(2.0, constraint=constraints.positive)
    spare: sd.Param = sd.param(1.0)

    def __call__(self, t, y):
        return -self.a * self.b * y


def line(values, t=None):
    t = np.arange(float(len(values))) if t is None else t
    return xr.Dataset({"y": ("t", np.asarray(values))}, coords={"t": t})


def test_a_product_of_which_only_the_whole_shows_has_no_errors_and_a_warning():
    t = np.linspace(0.0, 2.0, 8)
    data = line(3.0 * np.exp(-0.8 * t) + 0.01 * RNG.standard_normal(8), t)
    fit = sd.fit(sd.ODEProblem(data, noise=sd.Normal(0.01)), Product(), starts=0)
    assert np.isnan(fit.standard_errors[:3]).all()
    assert np.isfinite(fit.standard_errors[3])  # the initial value
    assert any("do not determine a and b: fix one of them" in text for text in fit.warnings)
    assert any("do not determine spare: fix it" in text for text in fit.warnings)
    assert fit.diagnostics["condition_number"] == np.inf
    np.testing.assert_allclose(fit.values[0] * fit.values[1], 0.8, atol=0.05)
    assert fit.diagnostics["converged"]


def test_fewer_data_than_parameters_are_reported():
    fit = sd.fit(sd.ODEProblem(line([3.0, 2.0]), noise=sd.Normal()), Product(), starts=0)
    assert any("2 observations for 4 parameters of the curve" in text for text in fit.warnings)
    assert np.isnan(fit.standard_errors[:3]).all()


def test_constant_data_that_a_curve_meets_exactly_are_reported_and_not_trusted():
    fit = sd.fit(sd.ODEProblem(line([2.0] * 6), noise=sd.Normal()), Towards(), starts=0)
    assert not fit.diagnostics["converged"] or np.isnan(fit.standard_errors[0])
    assert fit.warnings
    assert np.isfinite(fit.values).all()


def test_a_search_that_meets_explosions_goes_on_and_never_holds_nan():
    class Explosive(eqx.Module):
        rate: sd.Param = sd.param(0.02, prior=dist.LogNormal(-2.0, 3.0))

        def __call__(self, t, y):
            return self.rate * y**2  # blows up at t = 1 / (rate y0)

    t = np.linspace(0.0, 3.0, 8)
    data = line(1.0 / (1.0 - 0.2 * t) * np.exp(0.01 * RNG.standard_normal(8)), t)
    alone = sd.LeastSquares(starts=32, paths=0)  # without the help of gradient matching
    fit = sd.fit(sd.ODEProblem(data, noise=sd.LogNormal(0.01), initial={"y": 1.0}), Explosive(), solver=alone)
    assert fit.stats["starts_failed"] > 0
    assert np.isfinite(fit.stats["polished_losses"]).all()
    assert abs(fit.values[0] - 0.2) < 4 * fit.standard_errors[0]
    assert fit.standard_errors[0] < 0.01


def test_no_start_that_can_be_evaluated_is_a_result_and_said_in_words():
    problem = sd.ODEProblem(line([1.0, 2.0, 3.0]), initial={"y": 1.0})
    fit = sd.fit(problem, Fleeing(), starts=4)
    assert not fit.diagnostics["converged"]
    assert fit.message == fit.warnings[0]
    assert "could not be evaluated at any start" in fit.message
    assert fit.loss == np.inf
    assert np.isnan(fit.standard_errors).all()
    assert np.isnan(fit.residuals["y"]).all()
    assert fit.message in str(fit)


class Fleeing(eqx.Module):
    rate: sd.Param = sd.param(9.0, prior=dist.Uniform(8.0, 10.0))

    def __call__(self, t, y):
        return self.rate * y**2


def test_a_fit_needs_a_problem_and_a_parameter():
    problem = sd.ODEProblem(line([1.0, 2.0]), noise=sd.Normal(1.0), initial={"y": 1.0})
    with pytest.raises(sd.InputError, match="The program has no inner parameter"):
        sd.fit(problem, lambda t, y: -y)
    with pytest.raises(sd.InputError, match="`problem` is a str; expected an ODEProblem"):
        inspect.unwrap(sd.fit)("data.csv", Towards())  # without the tests' own check of types


# --- the optimiser, without equations --------------------------------------------------------------------------------


def quadratic(location, noise):
    return jnp.stack([location[0] - 1.0, 10.0 * (location[1] - location[0] ** 2)]), location


def nothing(noise, location):
    return jnp.sum((location - 1.0) ** 2)


@pytest.mark.parametrize("forward", [True, False])
def test_rosenbrock_is_solved_whichever_way_the_jacobian_is_taken(forward):
    solver = sd.LeastSquares()
    found = solver.estimate(quadratic, nothing, np.array([[-1.2, 1.0]]), np.zeros(0), forward=forward)
    np.testing.assert_allclose(found.point.location, [1.0, 1.0], atol=1e-7)
    np.testing.assert_allclose(found.point.at.jacobian, [[1.0, 0.0], [-20.0, 10.0]], atol=1e-6)
    assert bool(found.result == sd.RESULTS.successful)


@pytest.mark.parametrize("units", [1e-8, 1.0, 1e8])
def test_units_of_the_parameters_do_not_matter(units):
    def residuals(location, noise):
        return quadratic(location / jnp.array([units, 1.0]), noise)

    found = sd.LeastSquares().estimate(residuals, nothing, np.array([[-1.2 * units, 1.0]]), np.zeros(0))
    np.testing.assert_allclose(found.point.location, [units, 1.0], rtol=1e-6)


def test_steps_that_run_out_are_not_called_a_success():
    found = sd.LeastSquares(max_steps=3).estimate(quadratic, nothing, np.array([[-1.2, 1.0]]), np.zeros(0))
    assert not bool(found.result == sd.RESULTS.successful)
    assert bool(found.result == sd.RESULTS.promote(optx.RESULTS.nonlinear_max_steps_reached))


def test_a_noise_that_runs_off_is_not_called_a_success():
    found = sd.LeastSquares().estimate(quadratic, lambda noise, _: jnp.sum(noise), np.zeros((1, 2)), np.zeros(1))
    assert bool(found.result == sd.RESULTS.noise_not_found)


def test_the_best_of_several_starts_wins_and_impossible_ones_are_counted():
    def residuals(location, noise):
        r = jnp.stack([jnp.sin(3.0 * location[0]), 0.3 * (location[0] - 2.0)])
        return jnp.where(location[0] > 50.0, REJECTED, r), r

    starts = np.array([[99.0], [-4.0], [2.0], [0.1]])
    found = sd.LeastSquares().estimate(residuals, lambda _, r: jnp.sum(r**2) / 2, starts, np.zeros(0))
    best = optimize.minimize_scalar(lambda x: np.sin(3 * x) ** 2 + 0.09 * (x - 2) ** 2, bracket=(1.8, 2.1, 2.4))
    np.testing.assert_allclose(found.point.location, [best.x], atol=1e-4)
    assert (found.stats["starts"], found.stats["starts_failed"]) == (4, 1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"starts": -1}, r"LeastSquares\(starts=-1\): expected at least 0"),
        ({"rounds": 0}, r"LeastSquares\(rounds=0\): expected at least 1"),
        ({"rtol": 0.0}, r"LeastSquares\(rtol=0.0\): expected a number between 0 and 1"),
    ],
)
def test_settings_out_of_range_are_refused(options, message):
    with pytest.raises(sd.OptionError, match=message):
        sd.LeastSquares(**options)


# --- statistics ------------------------------------------------------------------------------------------------------


def test_covariance_is_that_of_linear_regression_in_any_units():
    x = RNG.standard_normal((20, 3)) * [1e-6, 1.0, 1e6]
    covariance, condition, warnings = location_covariance(x, ["a", "b", "c"])
    np.testing.assert_allclose(covariance, np.linalg.inv(x.T @ x), rtol=1e-6)
    assert condition < 10
    assert warnings == []


def test_a_flat_noise_has_no_error():
    covariance, warnings = noise_covariance(np.diag([4.0, 1e-9]), ["scale", "dispersion"])
    np.testing.assert_allclose(covariance, [[0.25, np.nan], [np.nan, np.nan]])
    assert warnings == ["The data do not determine dispersion: fix it, or add data."]


def test_distance_is_the_linearised_step_in_standard_errors():
    x, r = RNG.standard_normal((20, 3)), RNG.standard_normal(20)
    step = np.linalg.solve(x.T @ x, x.T @ r)
    np.testing.assert_allclose(distance(x, r), np.sqrt(step @ x.T @ x @ step))


def test_serial_correlation_and_outliers_show_in_the_tests_of_residuals():
    good, slow, wild = RNG.standard_normal((3, 1, 60))
    slow, wild[0, 7] = np.cumsum(slow, axis=1), 15.0
    residuals = np.stack([good, slow - slow.mean(), wild], axis=-1)
    found = residual_tests(("good", "slow", "wild"), residuals, residuals)
    assert min(found["good"]["p_normal"], found["good"]["p_independent"]) > 1e-3
    assert found["slow"]["p_independent"] < 1e-3
    assert found["wild"]["p_normal"] < 1e-3


# --- what a reader must be told ---------------------------------------------------------------------------------------


def decaying(noise, scale=1.0, scatter=0.03):
    t = np.linspace(0.0, 5.0, 25)
    y = scale * 8.0 * np.exp(-0.7 * t) * (1 + scatter * np.random.default_rng(0).standard_normal(25))
    return sd.ODEProblem(xr.Dataset({"y": ("t", y)}, coords={"t": t}), noise=noise)


class Leaving(eqx.Module):
    rate: sd.Param = sd.param(1.0, constraint=constraints.positive)

    def __call__(self, t, y):
        return -self.rate * y


PLAIN = sd.LeastSquares(starts=0, paths=0)  # where the search is not what is tested


def test_the_units_of_the_data_do_not_matter():
    one, tiny = (sd.fit(decaying(sd.LogNormal(), scale), Leaving(), solver=PLAIN) for scale in (1.0, 1e-9))
    np.testing.assert_allclose(tiny.values[0], one.values[0], rtol=1e-5)


def test_a_wrong_scale_of_known_noise_is_said():
    assert not sd.fit(decaying(sd.LogNormal(0.03)), Leaving()).warnings
    small, large = (sd.fit(decaying(sd.LogNormal(sigma)), Leaving(), solver=PLAIN) for sigma in (0.003, 0.3))
    assert any("times as large as the noise model says" in w and "errors are too small" in w for w in small.warnings)
    assert any("times as large as the noise model says" in w and "errors are too large" in w for w in large.warnings)


def test_residuals_all_of_one_sign_are_said():
    t = np.linspace(0.0, 4.0, 30)
    data = xr.Dataset({"y": ("t", 10.0 + 0.1 * RNG.standard_normal(30))}, coords={"t": t})
    fit = sd.fit(sd.ODEProblem(data, noise=sd.Normal(5.0), initial={"y": 7.0}), Leaving(), solver=PLAIN)
    assert fit.diagnostics["residual_tests"]["y"]["p_independent"] < 1e-3
    assert any("keep their sign" in w for w in fit.warnings)


def test_counts_that_scatter_less_than_poissons_are_fitted():
    t = np.arange(12.0)
    data = xr.Dataset({"y": ("t", np.round(100 * np.exp(-0.3 * t)))}, coords={"t": t})
    fit = sd.fit(sd.ODEProblem(data, noise=sd.NegativeBinomial()), Leaving(), solver=PLAIN)
    assert fit.diagnostics["converged"]
    np.testing.assert_allclose(fit.values[0], 0.3, rtol=0.02)


def test_another_optimum_as_good_is_told_and_the_given_start_wins_a_tie():
    class Oral(eqx.Module):  # absorption and elimination can change places
        absorption: sd.Param = sd.param(1.5, constraint=constraints.positive)
        elimination: sd.Param = sd.param(0.1, constraint=constraints.positive)

        def __call__(self, t, y):
            return jnp.stack([-self.absorption * y[0], self.absorption * y[0] - self.elimination * y[1]])

    class Seen(eqx.Module):
        kinetics: Oral
        volume: sd.Param = sd.param(10.0, constraint=constraints.positive)

        def __call__(self, t, y):
            return self.kinetics(t, y)

    t = np.linspace(0.5, 24.0, 12)
    y = 10.0 * 1.5 / 1.4 * (np.exp(-0.1 * t) - np.exp(-1.5 * t)) * np.exp(0.05 * RNG.standard_normal(12))
    problem = sd.ODEProblem(
        xr.Dataset({"y": ("t", y)}, coords={"t": t}), states=["gut", "body"], t0=0.0, noise=sd.LogNormal(0.05),
        initial={"gut": 100.0, "body": 0.0}, observe=lambda model, t, y: {"y": y[1] / model.volume},
    )  # fmt: skip
    rates, volumes = constraints.interval(0.001, 10.0), constraints.interval(0.1, 1000.0)
    for absorption, elimination, volume in ((1.5, 0.1, 10.0), (0.1, 1.5, 0.67)):
        kinetics = Oral(sd.param(absorption, constraint=rates), sd.param(elimination, constraint=rates))
        given = Seen(kinetics, sd.param(volume, constraint=volumes))
        fit = sd.fit(problem, given)
        away = np.abs(fit.values - [absorption, elimination, volume]) / np.sqrt(np.diag(fit.covariance))
        assert np.max(away) < 4
        assert any("Another optimum fits nearly as well" in w for w in fit.warnings)


def test_a_model_without_parameters_is_told():
    fit = sd.fit(decaying(sd.LogNormal()), lambda t, y: -0.7 * y)
    assert any("has no inner parameter: only initial values and noise were fitted" in w for w in fit.warnings)


def test_a_second_fit_of_a_problem_compiles_nothing():
    problem = decaying(sd.LogNormal())
    sd.fit(problem, Leaving())
    traces = [0]
    jax.monitoring.register_event_duration_secs_listener(
        lambda event, *_, **__: traces.append(0) if event == "/jax/core/compile/backend_compile_duration" else None
    )
    again = sd.fit(problem, Leaving(sd.param(0.3, constraint=constraints.positive)), key=3)
    assert again.diagnostics["converged"]
    assert len(traces) < 20  # a few operations on concrete arrays, of milliseconds each; no solve


@pytest.mark.usefixtures("unchecked")
def test_a_key_may_be_a_number_and_must_be_a_key():
    with pytest.raises(sd.InputError, match=r"`key` is 'one'; expected a key, such as jax.random.key\(0\)"):
        sd.fit(decaying(sd.LogNormal()), Leaving(), key="one")


def test_a_prediction_that_its_noise_does_not_allow_is_named():
    t = np.array([0.0, 1.0, 2.0])
    data = xr.Dataset({"y": ("t", [0.01, 2.0, 3.0])}, coords={"t": t})
    problem = sd.ODEProblem(data, noise=sd.LogNormal(0.1), initial={"y": 0.0})

    class Filling(eqx.Module):
        rate: sd.Param = sd.param(1.0)

        def __call__(self, t, y):
            return self.rate * jnp.ones(1)

    message = sd.fit(problem, Filling(), starts=2).message
    assert "y at t=0 is predicted as 0, which is impossible for its noise" in message


def test_a_fit_tells_itself_in_a_line_and_draws_its_descents(decayed):
    fit, _ = decayed
    assert repr(fit) == f"<Fit: 3 parameters, 23 observations, converged, negative log-likelihood {fit.loss:.6g}>"
    lines = fit.waterfall().get_lines()
    shown = np.concatenate([line.get_ydata() for line in lines[1:]])
    losses = np.sort(fit.stats["polished_losses"])
    np.testing.assert_allclose(np.sort(shown), losses - losses[0], atol=1e-12)


def test_counts_that_are_poissons_have_a_one_sided_limit():
    counts = np.array([10.0, 11.0, 9.0, 10.0, 12.0, 8.0, 10.0, 11.0, 9.0, 10.0])
    data = xr.Dataset({"y": ("t", counts)}, coords={"t": np.arange(10.0)})
    initial = {"y": sd.param(8.0, constraint=constraints.positive)}
    problem = sd.ODEProblem(data, noise=sd.NegativeBinomial(), initial=initial)
    fit = sd.fit(problem, lambda t, y: 0.0 * y, solver=sd.LeastSquares(starts=0, paths=0))
    (told,) = (text for text in fit.warnings if "no more than Poisson" in text)
    mean = counts.mean()

    def deviance(d):
        return 2 * np.sum(st.poisson(mean).logpmf(counts) - st.nbinom(1 / d, 1 / (1 + d * mean)).logpmf(counts))

    limit = optimize.brentq(lambda d: deviance(d) - 2.706, 1e-4, 1.0)
    assert "noise.y.dispersion goes to zero, and its limits by standard errors are NaN" in told
    assert told.endswith(f"With 95 % confidence it is below {limit:.3g}.")
    assert fit.interval().loc["noise.y.dispersion"].isna().all()
