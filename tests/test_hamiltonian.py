"""Kernels: the integrator's laws, and the target as an exact invariant, without adaptation or Monte Carlo slack."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpyro.infer.hmc_util import IntegratorState, euclidean_kinetic_energy
from scipy import stats

from sciad import OptionError
from sciad.solvers import HMC, NUTS
from sciad.solvers.hamiltonian import Metric, _leapfrog, evaluate
from sciad.solvers.warmup import metric_of

COVARIANCE = np.array([[2.0, 1.2, 0.0], [1.2, 1.0, -0.1], [0.0, -0.1, 0.3]])
PRECISION = np.linalg.inv(COVARIANCE)
CUT = -0.5
KERNELS = {"nuts": NUTS(max_tree_depth=5), "hmc": HMC(steps=7)}
SCALES = {"dense": np.diag([1.0, 0.5, 2.0]) + 0.2, "diagonal": np.array([1.0, 0.5, 2.0])}
N = 20_000


def gaussian(x):
    return -0.5 * x @ jnp.asarray(PRECISION) @ x


def truncated(x):
    """A standard Gaussian where the model cannot be evaluated beyond a plane."""
    return jnp.where(x[0] > CUT, -0.5 * x @ x, -jnp.inf)


def pendulum(x):
    return jnp.cos(x[0]) - 0.25 * x[0] ** 2


def transitions(kernel, density, start, covariance, step_size, number):
    metric, step_size = jax.tree.map(jnp.asarray, metric_of(covariance)), jnp.asarray(step_size)

    def chain(x, key):
        def step(point, key):
            return kernel.transition(density, point, metric, step_size, key)

        return jax.lax.scan(step, evaluate(density, x), jax.random.split(key, number))

    keys = jax.random.split(jax.random.key(7), len(start))
    point, info = jax.jit(jax.vmap(chain))(start, keys)
    return np.asarray(point.position), info


def moments_agree(found, mean, covariance):
    """Draws are independent, so z-scores of means and of second moments are exact."""
    centred = found - mean
    products = np.einsum("ni,nj->nij", centred, centred)
    z_mean = centred.mean(axis=0) / (centred.std(axis=0) / np.sqrt(len(found)))
    z_product = (products.mean(axis=0) - covariance) / (products.std(axis=0) / np.sqrt(len(found)))
    assert np.abs(z_mean).max() < 4, z_mean
    assert np.abs(z_product).max() < 4, z_product


@pytest.mark.loose_promotion
@pytest.mark.parametrize(("kernel", "metric"), [("nuts", "dense"), ("hmc", "diagonal")])
def test_a_gaussian_is_invariant(kernel, metric):
    # The step size is so large that many proposals are rejected: an error in the acceptance would show.
    start = np.random.default_rng(1).multivariate_normal(np.zeros(3), COVARIANCE, N)
    found, info = transitions(KERNELS[kernel], gaussian, start, SCALES[metric], 0.5, 3)
    moments_agree(found, np.zeros(3), COVARIANCE)
    assert 0.5 < float(info.accept_prob.mean()) < 0.98
    assert np.abs(found - start).mean() > 0.5
    assert not info.diverging.any()


@pytest.mark.loose_promotion
@pytest.mark.parametrize("kernel", KERNELS)
def test_a_density_that_fails_beyond_a_plane_is_invariant(kernel):
    rng = np.random.default_rng(2)
    start = np.stack([stats.truncnorm.rvs(CUT, np.inf, size=N, random_state=rng), rng.standard_normal(N)], axis=1)
    found, info = transitions(KERNELS[kernel], truncated, start, np.eye(2), 0.6, 3)
    exact = stats.truncnorm(CUT, np.inf)
    moments_agree(found, np.array([exact.mean(), 0.0]), np.diag([exact.var(), 1.0]))
    assert found[:, 0].min() > CUT
    assert 0.05 < float(info.failed.mean()) < 0.95
    assert np.array_equal(info.failed, info.diverging)  # the integrator itself never diverges here
    assert np.isfinite(info.energy).all()
    assert np.isfinite(info.accept_prob).all()


@pytest.mark.loose_promotion
def test_a_divergence_is_no_failure():
    start = np.full((8, 3), 3.0)
    for kernel in (HMC(), NUTS(max_tree_depth=2)):
        _, info = transitions(kernel, gaussian, start, np.eye(3), 50.0, 1)
        assert info.diverging.all()
        assert not info.failed.any()
    # The same kernel with a short step.
    _, info = transitions(kernel, gaussian, start, np.eye(3), 1e-3, 1)
    assert info.saturated.all()
    assert (info.steps == 3).all()


def test_a_trajectory_counts_the_steps_it_took():
    start = np.array([[CUT + 1e-3, 0.0]] * 50)
    _, info = transitions(HMC(steps=20), truncated, start, np.eye(2), 0.5, 1)
    assert (info.steps[info.failed] < 20).all()
    assert info.steps.min() == 1


def state(density, x, momentum):
    point = evaluate(density, x)
    return IntegratorState(point.position, momentum, point.potential, point.gradient)


def test_the_leapfrog_is_reversible():
    leapfrog, inverse_mass, step = _leapfrog(pendulum), jnp.array([1.5]), jnp.asarray(0.3)
    first = state(pendulum, jnp.array([0.4]), jnp.array([0.9]))
    there = jax.lax.fori_loop(0, 40, lambda _, s: leapfrog(step, inverse_mass, s), first)
    back = jax.lax.fori_loop(0, 40, lambda _, s: leapfrog(step, inverse_mass, s), there._replace(r=-there.r))
    assert abs(there.z[0] - first.z[0]) > 0.1
    assert jnp.allclose(back.z, first.z, rtol=0, atol=1e-12)
    assert jnp.allclose(-back.r, first.r, rtol=0, atol=1e-12)


def test_the_leapfrog_keeps_volume():
    leapfrog = _leapfrog(pendulum)

    def flow(phase):
        end = leapfrog(jnp.asarray(0.7), jnp.array([1.5]), state(pendulum, phase[:1], phase[1:]))
        return jnp.concatenate([end.z, end.r])

    assert jnp.allclose(jnp.linalg.det(jax.jacfwd(flow)(jnp.array([0.4, 0.9]))), 1.0, rtol=1e-12)


def test_the_energy_error_is_of_second_order():
    leapfrog, inverse_mass = _leapfrog(pendulum), jnp.ones(1)

    def error(number):
        first = state(pendulum, jnp.array([0.4]), jnp.array([0.9]))
        last = jax.lax.fori_loop(0, number, lambda _, s: leapfrog(jnp.asarray(2.0 / number), inverse_mass, s), first)
        before, after = (s.potential_energy + euclidean_kinetic_energy(inverse_mass, s.r) for s in (first, last))
        return abs(float(after - before))

    orders = np.log2([error(n) / error(2 * n) for n in (32, 64, 128)])
    assert np.allclose(orders, 2.0, atol=0.05), orders


def test_a_point_that_fails_has_infinite_potential_and_no_gradient():
    for density in (truncated, lambda x: jnp.sum(x) * jnp.nan, lambda x: jnp.inf + x[0], lambda x: jnp.sqrt(x[0] + 1)):
        point = evaluate(density, jnp.array([-1.0, 0.3]))
        assert point.potential == jnp.inf
        assert (point.gradient == 0.0).all()


def test_momenta_have_the_metric_as_covariance():
    metric = metric_of(COVARIANCE)
    assert np.allclose(metric.root_mass @ metric.root_mass.T, PRECISION)
    assert isinstance(metric, Metric)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: NUTS(target_accept=1.0), r"NUTS\(target_accept=1.0\): expected a probability"),
        (lambda: NUTS(max_tree_depth=0), r"NUTS\(max_tree_depth=0\): expected a whole number from 1 to 20"),
        (lambda: HMC(target_accept=-1.0), r"HMC\(target_accept=-1.0\): expected a probability"),
        (lambda: HMC(steps=0), r"HMC\(steps=0\): expected at least 1"),
    ],
)
def test_an_impossible_option_is_refused(make, message):
    with pytest.raises(OptionError, match=message):
        make()
