import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
from scipy import integrate, stats

import sciad as sd
from sciad._roles import unwrap
from sciad.models.probability import AbstractNoise

# Every noise model beside observations that strain it: at the prediction, far from it, and zero counts.
CASES = {
    "normal": (sd.Normal(0.7), [1.0, 2.5, -3.0, 2.0]),
    "lognormal": (sd.LogNormal(0.4), [1.0, 2.5, 0.01, 2.0]),
    "student": (sd.StudentT(0.7, df=3.0), [1.0, 2.5, -300.0, 2.0]),
    "binomial": (sd.NegativeBinomial(0.3), [1.0, 0.0, 40.0, 2.0]),
    "poisson": (sd.NegativeBinomial(1e-9), [1.0, 0.0, 40.0, 2.0]),
}
MEANS = jnp.array([1.0, 2.5, 2.0, 2.0 + 1e-6])


@pytest.fixture(params=CASES)
def case(request):
    noise, y = CASES[request.param]
    return unwrap(noise), jnp.array(y)


def drop(noise, mean, y):
    """Loss of log-likelihood against a prediction that equals the observation, where that is a distribution."""
    perfect = noise.distribution(jnp.where(y == 0, 1e-12, y) if noise.positive else y)
    return perfect.log_prob(y) - noise.distribution(mean).log_prob(y)


def test_half_the_squared_residual_is_the_loss_of_likelihood(case):
    noise, y = case
    tolerance = 1e-6 if getattr(noise, "dispersion", 1.0) < 1e-6 else 1e-10  # NumPyro's own log-gamma of 1e9
    np.testing.assert_allclose(noise.residual(MEANS, y) ** 2 / 2, drop(noise, MEANS, y), rtol=tolerance, atol=tolerance)


def test_slopes_agree_with_those_of_the_likelihood_even_where_the_residual_vanishes(case):
    noise, y = case
    slope = jax.jit(jax.grad(lambda m: jnp.sum(noise.residual(m, y) ** 2 / 2)))(MEANS)
    exact = jax.jit(jax.grad(lambda m: -jnp.sum(noise.distribution(m).log_prob(y))))(MEANS)
    np.testing.assert_allclose(slope, exact, rtol=1e-6, atol=1e-6)
    forward = jax.jit(jax.jacfwd(lambda m: noise.residual(m, m)))(MEANS)
    assert np.all(np.isfinite(forward))


def test_residuals_carry_the_sign_of_the_deviation_and_decrease_with_the_prediction(case):
    noise, y = case
    assert np.all(np.sign(noise.residual(MEANS, y)) == np.sign(y - MEANS))
    slope = jax.jit(jax.vmap(jax.grad(noise.residual)))(jnp.linspace(0.5, 50.0, 400), jnp.full(400, y[0]))
    assert np.all(slope < 0)


def test_information_is_the_variance_of_the_score(case):
    noise, _ = case
    mean = jnp.array(2.0)
    score = jax.jit(jax.vmap(jax.grad(lambda m, y: noise.distribution(m).log_prob(y)), (None, 0)))
    density = jax.jit(lambda y: jnp.exp(noise.distribution(mean).log_prob(y)))
    if isinstance(noise.distribution(mean), dist.NegativeBinomial2):
        y = jnp.arange(300.0)
        found = jnp.sum(score(mean, y) ** 2 * density(y))
    else:
        y = jnp.linspace(1e-9 if noise.positive else -400.0, 400.0, 400_001)
        found = integrate.simpson(score(mean, y) ** 2 * density(y), x=y)
    np.testing.assert_allclose(noise.information(mean), found, rtol=1e-4)


def test_a_prediction_beyond_all_bounds_is_no_good_fit():
    for noise in (unwrap(case[0]) for case in CASES.values()):
        residual = noise.residual(jnp.array([1e200]), jnp.array([3.0]))
        assert np.all(~np.isfinite(residual) | (np.abs(residual) > 3))


def test_a_number_is_known_and_a_parameter_is_estimated_and_kept_positive():
    assert sd.Normal(0.5).scale.role == "frozen"
    assert sd.Normal().scale.role == "inner"
    estimated = sd.Normal(sd.param(0.5, unit="mm")).scale
    assert (estimated.role, str(estimated.constraint), estimated.unit) == ("inner", "Positive(lower_bound=0.0)", "mm")
    assert sd.StudentT().df.role == "frozen"
    assert sd.LogNormal().sigma.prior is not None
    with pytest.raises(sd.InputError, match=r"The noise's sigma: A parameter's value -1\.0 is outside its"):
        sd.LogNormal(-1.0)


@pytest.mark.parametrize(
    ("noise", "y", "message"),
    [
        (sd.LogNormal(), [1.0, -2.0, 0.0], r"2 of 3 values of 'mice' are unfit \(-2 first\): log-normal .* positive"),
        (sd.NegativeBinomial(), [1.0, -2.0], "counts cannot be negative"),
        (sd.NegativeBinomial(), [1.0, 2.5], "counts must be whole numbers"),
    ],
)
def test_observations_that_a_noise_cannot_give_are_refused(noise, y, message):
    with pytest.raises(sd.InputError, match=message):
        noise.check("mice", np.array(y))


def test_every_noise_accepts_what_it_draws(case, key):
    noise, _ = case
    assert isinstance(noise, AbstractNoise)
    noise.check("mice", np.asarray(noise.distribution(jnp.full(50, 3.0)).sample(key), float))


def test_quantile_residuals_are_standard_normal_under_the_model_and_right_in_the_tails(case, key):
    noise, _ = case
    noise, mean = unwrap(noise), jnp.full(4000, 3.0)
    y = np.asarray(noise.distribution(mean).sample(key), float)
    scores = np.asarray(noise.scores(mean, y, np.random.default_rng(1).random(4000)))
    assert stats.kstest(scores, "norm").pvalue > 1e-3


def test_quantile_residuals_are_those_of_scipy():
    half, mean = np.full(5, 0.5), jnp.full(5, 3.0)
    y = np.array([-40.0, 1.0, 3.0, 4.0, 90.0])
    expected = stats.norm.ppf(stats.t(4.0, 3.0, 0.7).cdf(y))
    expected[-1] = stats.norm.isf(stats.t(4.0, 3.0, 0.7).sf(y[-1]))
    np.testing.assert_allclose(unwrap(sd.StudentT(0.7)).scores(mean, y, half), expected, rtol=1e-8, atol=1e-12)
    k, counts = 2.0, np.array([0.0, 1.0, 3.0, 8.0, 30.0])
    law = stats.nbinom(k, k / (k + 3.0))
    expected = stats.norm.ppf(law.cdf(counts) - 0.5 * law.pmf(counts))
    scores = unwrap(sd.NegativeBinomial(1 / k)).scores(mean, counts, half)
    np.testing.assert_allclose(scores, expected, rtol=1e-6)
