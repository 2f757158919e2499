"""Modes, metrics, and the decision whether the quick warm-up will do."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sciad import InputError, OptionError, Warmup
from sciad.solvers import NUTS
from sciad.solvers.chains import STRETCH, Chains, Stretch
from sciad.solvers.hamiltonian import Info, evaluate
from sciad.solvers.mode import Mode, find_modes
from sciad.solvers.warmup import disagreement, lengths, metric_of, pooled_covariance, random_words

HESSIAN = np.array([[4.0, 1.0], [1.0, 0.5]])


def batch(density):
    function = jax.jit(jax.vmap(lambda z: evaluate(density, z)))

    def call(positions):
        n = len(positions)
        point = function(jnp.asarray(np.concatenate([positions, np.repeat(positions[:1], -n % 512, axis=0)])))
        return np.asarray(point.potential)[:n], np.asarray(point.gradient)[:n]

    return call


def starts(number, size, seed=0, scale=2.0):
    return scale * np.random.default_rng(seed).standard_normal((number, size))


def test_the_mode_of_a_gaussian_and_its_hessian_are_exact():
    (mode,) = find_modes(batch(lambda x: -0.5 * (x - 3.0) @ jnp.asarray(HESSIAN) @ (x - 3.0)), starts(20, 2))
    assert mode.converged
    assert np.allclose(mode.position, 3.0, atol=1e-3)
    assert np.allclose(mode.hessian, HESSIAN, rtol=1e-6)
    assert np.allclose(mode.covariance, np.linalg.inv(HESSIAN), rtol=1e-6)
    assert mode.mass == pytest.approx(-0.5 * np.log(np.linalg.det(HESSIAN)), abs=1e-3)


def test_a_curved_valley_is_followed_to_its_end():
    (mode,) = find_modes(batch(lambda x: -100 * (x[1] - x[0] ** 2) ** 2 - (1 - x[0]) ** 2), starts(20, 2))
    assert np.allclose(mode.position, 1.0, atol=3e-2)  # within the decrement: the valley is flat


def test_the_mode_of_most_mass_comes_first_though_another_is_higher():
    # Weights 0.8 and 0.2; the light one is a spike, three times as high.
    scales, places, weights = jnp.array([1.0, 0.08]), jnp.array([-4.0, 4.0]), jnp.log(jnp.array([0.8, 0.2]))

    def density(x):
        parts = weights - jnp.log(scales) - 0.5 * ((x[0] - places) / scales) ** 2
        return jax.scipy.special.logsumexp(parts)

    broad, spike = find_modes(batch(density), starts(64, 1, scale=4.0))
    assert broad.position[0] == pytest.approx(-4, abs=0.02)
    assert spike.position[0] == pytest.approx(4, abs=0.02)
    assert spike.potential < broad.potential
    assert np.exp(broad.mass - spike.mass) == pytest.approx(4.0, rel=0.02)


def test_a_density_without_a_mode_gives_a_place_of_much_mass():
    # The neck of this funnel is infinitely high and holds no mass: a start there would take for ever to leave.
    def density(x):
        return -0.5 * (x[0] / 3) ** 2 - 0.5 * jnp.sum(x[1:] ** 2) * jnp.exp(-x[0]) - 4.5 * x[0]

    best = find_modes(batch(density), starts(64, 10))[0]
    assert np.abs(best.position[0]) < 6
    assert np.linalg.eigvalsh(best.covariance)[0] > 0


def test_absorption_and_elimination_that_change_places_are_two_modes_from_any_prior_draws():
    # The same curve, but for a scale that the volume makes up for, follows from both orders of the two rates. Places
    # that are best after a few steps are often all on their way to one of them.
    t = jnp.linspace(0.5, 24.0, 12)
    centre, scale = jnp.array([0.0, 1.0, 3.0, -1.0]), jnp.array([2.0, 2.0, 2.0, 1.0])

    def logarithm(absorption, elimination, volume):
        apart = absorption - elimination
        apart = jnp.where(jnp.abs(apart) < 1e-6, 1e-6, apart)
        level = (jnp.exp(-elimination * t) - jnp.exp(-absorption * t)) * absorption / apart
        return jnp.log(100.0 / volume * level)

    y = logarithm(1.0, 0.1, 40.0) + 0.1 * np.random.default_rng(1).standard_normal(12)

    def density(u):
        absorption, clearance, volume, sigma = jnp.exp(u)
        misfit = (y - logarithm(absorption, clearance / volume, volume)) / sigma
        density = -0.5 * jnp.sum(misfit**2) - t.size * u[3] - 0.5 * jnp.sum(((u - centre) / scale) ** 2)
        return jnp.where(jnp.isfinite(density), density, -jnp.inf)

    function = batch(density)
    for seed in range(4):
        first, second = find_modes(function, np.asarray(centre) + starts(256, 4, seed, np.asarray(scale)))
        for mode, order in ((first, (1.0, 0.1)), (second, (0.1, 1.0))):
            absorption, clearance, volume, _ = np.exp(mode.position)
            np.testing.assert_allclose([absorption, clearance / volume], order, rtol=0.35)
        assert 0.0 < first.mass - second.mass < 3.0  # a factor of twenty


def test_a_saddle_is_left():
    (first, *_) = find_modes(batch(lambda x: -((x[0] ** 2 - 1) ** 2) - x[1] ** 2), np.array([[1e-6, 0.0]]))
    assert first.converged
    assert abs(first.position[0]) == pytest.approx(1, abs=1e-2)


def test_impossible_starts_are_passed_over():
    def density(x):
        return jnp.where(x[0] > 0, -0.5 * jnp.sum((x - 1) ** 2), -jnp.inf)

    (mode,) = find_modes(batch(density), np.array([[-1.0, 0.0], [-2.0, 1.0], [2.0, 1.0]]))
    assert np.allclose(mode.position, 1.0)
    assert find_modes(batch(density), np.array([[-1.0, 0.0], [-2.0, 1.0]])) == []


def early(draws, *, diverging=False, saturated=False):
    flags = np.zeros(draws.shape[:2], bool)
    zero = flags.astype(float)
    return Stretch(draws, Info(zero, zero, zero, flags | diverging, flags, zero.astype(int), flags | saturated))


def draws_of(covariance, chains=4, n=75, seed=3):
    size = len(covariance)
    return np.random.default_rng(seed).multivariate_normal(np.zeros(size), covariance, (chains, n))


@pytest.mark.parametrize("size", [1, 2, 8, 30])
def test_draws_that_fit_the_metric_are_accepted(size):
    mixing = np.random.default_rng(size).standard_normal((size, size))
    covariance = mixing @ mixing.T + np.eye(size)
    for seed in range(5):
        assert disagreement(early(draws_of(covariance, seed=seed)), covariance) is None


@pytest.mark.parametrize("factor", [9.0, 1 / 9.0])
def test_draws_that_spread_otherwise_are_not(factor):
    covariance = np.eye(4)
    covariance[0, 0] = factor
    assert "times as far as it says" in str(disagreement(early(draws_of(covariance)), np.eye(4)))


def test_early_trouble_speaks_against_the_metric():
    draws = draws_of(np.eye(2))
    assert disagreement(early(draws, diverging=True), np.eye(2)) == "300 of 300 early transitions diverged"
    assert "greatest tree depth" in str(disagreement(early(draws, saturated=True), np.eye(2)))


def test_a_covariance_of_many_draws_is_that_of_the_draws():
    draws = draws_of(np.linalg.inv(HESSIAN), n=50_000) + np.arange(4.0)[:, None, None]  # chains that disagree
    assert np.allclose(pooled_covariance(draws, np.eye(2)), np.linalg.inv(HESSIAN), rtol=0.02, atol=0.02)
    assert np.allclose(pooled_covariance(draws, np.ones(2)), np.diag(np.linalg.inv(HESSIAN)), rtol=0.02)


def test_a_covariance_of_few_draws_is_regular_on_its_own_scale():
    draws = 1e-6 * draws_of(np.eye(40), n=5)
    assert np.linalg.cond(pooled_covariance(draws, 1e-12 * np.eye(40))) < 100
    assert np.all(np.linalg.eigvalsh(pooled_covariance(np.zeros((4, 5, 3)), np.eye(3))) > 0)


@pytest.mark.parametrize("number", [1, STRETCH, STRETCH + 1, 3 * STRETCH])
def test_stretches_add_up(number):
    parts = list(lengths(number))
    assert sum(parts) == number
    assert max(parts) <= STRETCH


def test_the_words_of_keys_differ():
    words = random_words(np.random.SeedSequence(1), 1000)
    assert words.dtype == np.uint32
    assert len(np.unique(words, axis=0)) == 1000


@pytest.mark.loose_promotion
def test_what_stands_in_the_way_of_the_quick_warm_up_is_told():
    """A skewed density: the Hessian at its mode says a third of what the draws spread."""
    chains = Chains(lambda x: jnp.sum(0.2 * x - jnp.exp(x)), NUTS(), 4, 2, dense=True, in_step=True)
    seen = []
    ready = Warmup(full=200).run(chains, starts(32, 2), np.random.SeedSequence(1), lambda *report: seen.append(report))
    assert ready.kind == "dense, adapted"
    assert "given up for full adaptation" in ready.notes[0]
    assert np.allclose(np.diag(ready.metric.inverse_mass), jax.scipy.special.polygamma(1, 0.2), rtol=0.7)
    assert seen[-1][:2] == (200, 200)
    quick = Warmup(quick=0, full=100).run(chains, starts(32, 2), np.random.SeedSequence(1), lambda *_: None)
    assert quick.notes == []
    with pytest.raises(InputError, match="could not be evaluated at any of 3 starts"):
        Warmup().run(chains, np.full((3, 2), 800.0), np.random.SeedSequence(1), lambda *_: None)


def test_modes_of_comparable_mass_are_reported():
    from sciad.solvers.warmup import _several

    modes = [Mode(np.zeros(1), u, np.eye(1), converged=True) for u in (0.0, 1.0, 9.0)]
    assert "2 modes of comparable mass (about 1, 0.37)" in _several(modes)[0]
    assert _several(modes[1:]) == []


def test_a_metric_of_a_vector_is_diagonal():
    assert np.allclose(metric_of(np.array([4.0])).root_mass, 0.5)


def test_an_impossible_plan_is_refused():
    with pytest.raises(OptionError, match="full at least 20"):
        Warmup(full=10)
    with pytest.raises(OptionError, match="quick must be 0 or at least 20"):
        Warmup(quick=1)
