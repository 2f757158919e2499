"""Priors as residuals, and fits in which they count."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
import xarray as xr
from scipy import stats as st
from scipy.optimize import minimize

import sciad as sd
from sciad._penalty import Penalty

PRIORS = {
    "normal": dist.Normal(1e6, 2.0),
    "log-normal": dist.LogNormal(0.3, 0.7),
    "half-normal": dist.HalfNormal(2.0),
    "gamma": dist.Gamma(2.0, 3.0),
    "beta": dist.Beta(2.0, 3.0),
    "exponential": dist.Exponential(2.0),
    "truncated": dist.TruncatedNormal(1.0, 0.5, low=0.0),
    "truncated beyond its mode": dist.TruncatedNormal(-1.0, 0.5, low=0.0),
    "half-Cauchy": dist.HalfCauchy(1.0),
    "Student": dist.StudentT(3.0, 1.0, 2.0),
    "inverse gamma": dist.InverseGamma(2.0, 1.0),
    "log-uniform": dist.LogUniform(0.1, 10.0),
}


def with_some_slow(priors):
    fast = ("normal", "half-normal", "exponential", "truncated beyond its mode")
    return [pytest.param(p, id=name, marks=[] if name in fast else pytest.mark.slow) for name, p in priors.items()]


@pytest.mark.parametrize("prior", with_some_slow(PRIORS))
def test_half_the_squared_residual_is_the_fall_of_the_log_density(prior):
    full = sd.vectorize({"x": sd.param(prior=prior)})
    penalty = Penalty(full)
    away = penalty.mode[None] + jnp.linspace(-2.0, 2.0, 9)[:, None]

    def loss(u):
        return jnp.sum(penalty(full, u) ** 2) / 2

    def minus_log_density(u):
        return -prior.log_prob(full.values(u)["x"])

    slopes, expected = (jax.jit(jax.vmap(jax.grad(f)))(away) for f in (loss, minus_log_density))
    np.testing.assert_allclose(slopes, expected, rtol=1e-8, atol=1e-8)
    curve, at = jax.jit(jax.vmap(loss))(away), jax.jit(jax.vmap(minus_log_density))(away)
    np.testing.assert_allclose(curve - curve[0], at - at[0], rtol=1e-8, atol=1e-8)


def test_numbers_declared_as_one_event_count_each():
    full = sd.vectorize({"w": sd.param([3.0, -1.0], prior=dist.Normal(1.0, 2.0).expand([2]).to_event(1))})
    np.testing.assert_allclose(Penalty(full)(full, full.vector), [1.0, -1.0], rtol=1e-12)


def test_a_normal_prior_is_weight_decay_and_a_uniform_one_nothing():
    weights = sd.param([3.0, -1.0], prior=dist.Normal(1.0, 2.0))
    full = sd.vectorize({"w": weights, "u": sd.param(0.2, prior=dist.Uniform(0.0, 1.0))})
    penalty = Penalty(full)
    np.testing.assert_allclose(penalty(full, full.vector)[penalty.places(full) == full.places["u"].start], 0.0)
    residuals = dict(zip(penalty.places(full).tolist(), penalty(full, full.vector).tolist(), strict=True))
    start = full.places["w"].start
    np.testing.assert_allclose([residuals[start], residuals[start + 1]], [1.0, -1.0], rtol=1e-12)


@pytest.mark.parametrize(
    ("prior", "message"),
    [
        (dist.Gamma(0.5, 1.0), "x: its prior Gamma has no smooth maximum"),
        (dist.Beta(0.5, 0.5), "x: its prior Beta has no smooth maximum"),
        (dist.Laplace(0.0, 1.0), "x: its prior Laplace has no smooth maximum"),
        (dist.Dirichlet(jnp.full(3, 2.0)), "x: its prior binds several numbers"),
    ],
)
def test_priors_that_cannot_count(prior, message):
    with pytest.raises(sd.InputError, match=message):
        Penalty(sd.vectorize({"x": sd.param(prior=prior)}))


class Decay(eqx.Module):
    rate: sd.Param = sd.param(prior=dist.LogNormal(np.log(0.4), 0.1))

    def __call__(self, t, y):
        del t
        return -self.rate * y


def rest(t, y):
    del t
    return 0.0 * y


def decaying(noise, **initial):
    hours = np.linspace(0.0, 4.0, 9)
    values = 8.0 * np.exp(-0.5 * hours) + np.random.default_rng(0).normal(0.0, 0.3, 9)
    data = xr.Dataset({"mass": ("hour", values)}, coords={"hour": hours})
    return sd.ODEProblem(data, noise=noise, initial=initial, solver=sd.ODE(rtol=1e-10, atol=1e-10))


def test_posterior_of_a_normal_mean_is_exact():
    data = xr.Dataset({"y": ("t", [1.1, 0.9, 1.2, 0.8])}, coords={"t": [0.0, 1.0, 2.0, 3.0]})
    problem = sd.ODEProblem(data, noise=sd.Normal(0.5), initial={"y": sd.param(0.0, prior=dist.Normal(2.0, 0.4))})
    found = sd.fit(problem, rest, priors=True, starts=0)
    precision = 4 / 0.5**2 + 1 / 0.4**2
    mean = (4 * 1.0 / 0.5**2 + 2.0 / 0.4**2) / precision
    np.testing.assert_allclose(found.values, [mean], rtol=1e-8)
    np.testing.assert_allclose(found.covariance, [[1 / precision]], rtol=1e-8)
    share = (4 / 0.5**2) / precision  # of the one parameter, that the data have a say in
    np.testing.assert_allclose(found.diagnostics["degrees_of_freedom"], 4 - share, rtol=1e-8)
    np.testing.assert_allclose(found.diagnostics["aic"], -2 * found.diagnostics["log_likelihood"] + 2 * share)
    limits = sd.profile(found).intervals.loc["initial.y"]
    reach = st.norm.ppf(0.975) * precision**-0.5
    np.testing.assert_allclose(limits[["lower", "upper"]], [mean - reach, mean + reach], rtol=1e-5)


def test_mode_is_that_of_the_density_in_natural_units():
    noise = sd.Normal(sd.param(prior=dist.HalfNormal(0.5)))
    problem = decaying(noise, mass=sd.param(prior=dist.Normal(8.5, 0.2)))
    found = sd.fit(problem, Decay(), priors=True, starts=0)
    y, t = problem.observations.values[0, :, 0], problem.observations.times

    def loss(x):
        rate, start, scale = x
        if scale <= 0 or rate <= 0:
            return np.inf
        likelihood = st.norm.logpdf(y, start * np.exp(-rate * t), scale).sum()
        priors = st.lognorm.logpdf(rate, 0.1, scale=0.4) + st.norm.logpdf(start, 8.5, 0.2)
        return -likelihood - priors - st.halfnorm.logpdf(scale, scale=0.5)

    options = {"xatol": 1e-9, "fatol": 1e-12, "maxiter": 4000}
    best = minimize(loss, [0.5, 8.0, 0.3], method="Nelder-Mead", options=options)
    np.testing.assert_allclose(found.values, best.x, rtol=1e-5)
    assert found.diagnostics["converged"]


def test_priors_that_are_not_there_cannot_count():
    problem = decaying(sd.Normal(0.3), mass=8.0)
    with pytest.raises(sd.InputError, match="no inner parameter has a prior"):
        sd.fit(problem, Decay(sd.param(0.4)), priors=True)


def test_many_open_combinations_are_told_in_one_sentence():
    class Wide(eqx.Module):
        weights: jax.Array = eqx.field(default_factory=lambda: jnp.full(30, 0.1))

        def __call__(self, t, y):
            del t
            return -jnp.sum(self.weights) * y

    found = sd.fit(decaying(sd.Normal(0.3), mass=8.0), Wide(), starts=0, solver=sd.LeastSquares(paths=0))
    assert sum("combinations of the parameters open" in text for text in found.warnings) == 1
    assert not any("do not determine" in text for text in found.warnings)
