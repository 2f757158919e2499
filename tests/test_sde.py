"""Stochastic equations: strong orders against closed forms of the same path, moments, derivatives, messages."""

# ruff: noqa: ARG005  (drift and diffusion take t, y and args, whatever they use)

import diffrax as dfx
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import sciad as sd

RATE, SIZE, PATHS, FINEST = 0.5, 0.8, 400, 2.0**-10


def geometric(calculus, solver, step):
    """Ends at time 1, in closed form as well, and their derivatives by the size of the noise, path by path."""
    solve = sd.SDE(calculus, dt=step, solver=solver, tol=FINEST)
    correction = 0.5 if calculus == "stratonovich" else 0.0  # the same process, read in the other sense

    def ends(size):
        return solve(
            lambda t, y, s: (RATE - correction * s**2) * y,
            lambda t, y, s: s * y,
            jnp.ones(()),
            args=size,
            ts=np.array([0.0, 1.0]),
            key=1,
            paths=PATHS,
        ).ys[:, -1]

    def exact(size):
        keys = jax.random.split(jax.random.key(1), PATHS)
        noise = jax.vmap(lambda key: solve.brownian(key, (), 0.0, 1.0).evaluate(0.0, 1.0))(keys)
        return jnp.exp(RATE - size**2 / 2 + size * noise)

    return ends, exact


def errors(calculus, solver, step):
    """Mean distance of the paths and of their derivatives from the closed form."""
    ends, exact = geometric(calculus, solver, step)
    one = (jnp.ones(()),)
    found = jax.jit(lambda s: (jax.jvp(ends, (s,), one), jax.jvp(exact, (s,), one)))(SIZE)
    return np.mean(np.abs(np.array(found[0]) - np.array(found[1])), axis=1)


@pytest.mark.parametrize(
    ("calculus", "solver", "order"),
    [
        ("ito", None, 0.5),
        pytest.param("ito", dfx.ItoMilstein(), 1.0, marks=pytest.mark.slow),
        pytest.param("stratonovich", None, 1.0, marks=pytest.mark.slow),
        pytest.param("stratonovich", dfx.SPaRK(), 1.0, marks=pytest.mark.slow),
        pytest.param("stratonovich", dfx.SlowRK(), 1.5, marks=pytest.mark.slow),
    ],
)
def test_paths_and_their_derivatives_converge_at_the_strong_order(calculus, solver, order):
    coarse, fine = errors(calculus, solver, 2.0**-4), errors(calculus, solver, 2.0**-8)
    found = np.log2(coarse / fine) / 4
    assert np.all(np.abs(found - order) < 0.15)


def test_derivatives_forward_in_reverse_and_by_finite_differences_agree():
    ends, _ = geometric("ito", dfx.ItoMilstein(), 2.0**-4)

    def mean(size):
        return jnp.mean(ends(size) ** 2)

    h = 1e-4
    up, down, forward, reverse = jax.jit(
        lambda s: (mean(s + h), mean(s - h), jax.jvp(mean, (s,), (jnp.ones(()),))[1], jax.grad(mean)(s))
    )(SIZE)
    np.testing.assert_allclose(forward, reverse, rtol=1e-12)
    np.testing.assert_allclose(forward, (up - down) / (2 * h), rtol=1e-6)


@pytest.mark.parametrize("calculus", ["additive", pytest.param("ito", marks=pytest.mark.slow)])
def test_ornstein_and_uhlenbeck_s_process_has_its_mean_and_variance(calculus):
    pull, size, n = 1.5, 0.7, 20_000
    ts = np.array([0.3, 1.0])  # neither is a multiple of the step
    step = 0.07 if calculus == "additive" else 0.002
    solve = sd.SDE(calculus, dt=step)
    run = jax.jit(
        lambda: solve(
            lambda t, y, _: -pull * y, lambda t, y, _: size * jnp.ones(2), jnp.array([1.0, -2.0]), ts=ts, t0=0.0, key=3,
            paths=n,
        ).ys
    )  # fmt: skip
    ys = np.array(run())
    mean = np.array([1.0, -2.0]) * np.exp(-pull * ts)[:, None]
    variance = (size**2 / (2 * pull) * (1 - np.exp(-2 * pull * ts)))[:, None]
    assert np.all(np.abs(ys.mean(axis=0) - mean) < 4 * np.sqrt(variance / n))
    assert np.all(np.abs(ys.var(axis=0) / variance - 1) < 4 * np.sqrt(2 / n))
    assert np.all(np.abs(np.mean(ys[..., 0] * ys[..., 1], axis=0) - np.prod(mean, axis=1)) < 0.03)  # each its own noise


def test_the_same_key_gives_the_same_path_and_several_keys_several():
    solve = sd.SDE("additive", dt=0.25)
    run = jax.jit(
        lambda key: solve(lambda t, y, _: -y, lambda t, y, _: jnp.ones(()), jnp.ones(()), ts=[0.0, 1.0], key=key).ys
    )
    keys = jax.random.split(jax.random.key(4), 2)
    batch = jax.jit(jax.vmap(run))(keys)
    np.testing.assert_array_equal(run(keys[1]), batch[1])
    assert batch[0, 1] != batch[1, 1]


def test_one_noise_on_two_states_is_a_column():
    solve = sd.SDE("additive", dt=0.5)
    ys = jax.jit(
        lambda: solve(lambda t, y, _: 0.0 * y, lambda t, y, _: jnp.array([[1.0], [2.0]]), jnp.zeros(2), ts=[0.0, 1.0],
                      key=0).ys
    )()  # fmt: skip
    np.testing.assert_allclose(ys[1, 1], 2 * ys[1, 0])


# --- messages --------------------------------------------------------------------------------------------------------

ZERO, ONE = (lambda t, y, _: 0.0 * y), (lambda t, y, _: jnp.ones(()))


def solved(solve=None, drift=ZERO, diffusion=ONE, y0=None, **options):
    solve = sd.SDE("additive", dt=0.1) if solve is None else solve
    return solve(drift, diffusion, jnp.ones(()) if y0 is None else y0, **({"ts": [0.0, 1.0], "key": 0} | options))


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: sd.SDE("itô", dt=0.1), "Did you mean 'ito'"),
        (lambda: sd.SDE("ito", dt=0.0), "must be positive"),
        (lambda: sd.SDE("ito", dt=0.1, solver=dfx.Heun()), "converges to the Stratonovich solution"),
        (lambda: sd.SDE("stratonovich", dt=0.1, solver=dfx.Euler()), "converges to the Itô solution"),
        (lambda: sd.SDE("ito", dt=0.1, solver=dfx.Tsit5()), "no solver of stochastic equations"),
        (lambda: sd.SDE("stratonovich", dt=0.1, solver=dfx.ALIGN(0.1)), "no solver of stochastic equations"),
        (lambda: solved(diffusion=lambda t, y, _: y), "say how to read it"),
        (
            lambda: solved(sd.SDE("stratonovich", dt=0.1, solver=dfx.SRA1()), diffusion=lambda t, y, _: y),
            "is for noise that does not depend on the state",
        ),
        (lambda: solved(drift=lambda t, y, _: jnp.ones(2)), "expected a state that is a number or a vector"),
        (lambda: solved(ts=[1.0, 0.5]), "expected ascending times"),
        (lambda: solved(ts=[1.0]), "one of them after it"),
        (lambda: solved(ts=[]), "non-empty vector"),
        (lambda: jax.jit(lambda ts: solved(ts=ts).ys)(jnp.array([0.0, 1.0])), "are traced"),
    ],
)
@pytest.mark.usefixtures("unchecked")
def test_wrong_uses_are_told(make, match):
    with pytest.raises(sd.SciadError, match=match):
        make()


def test_milstein_refuses_noises_that_do_not_commute_and_takes_those_that_do():
    solve = sd.SDE("ito", dt=0.5, solver=dfx.ItoMilstein())
    run = eqx.filter_jit(lambda diffusion: solved(solve, diffusion=diffusion, y0=jnp.array([1.0, 2.0])).ys)
    assert np.all(np.isfinite(run(lambda t, y, _: y)))
    with pytest.raises(eqx.EquinoxRuntimeError, match="noises do not commute"):
        run(lambda t, y, _: jnp.stack([jnp.ones(()), y[0]]))


def test_a_path_that_explodes_is_told():
    run = eqx.filter_jit(lambda: solved(drift=lambda t, y, _: y**9, y0=jnp.array(9.0), ts=[0.0, 9.0]).ys)
    with pytest.raises(eqx.EquinoxRuntimeError, match="smaller `dt`"):
        run()
    assert not bool(jax.jit(lambda: solved(drift=lambda t, y, _: y**9, y0=jnp.array(9.0), throw=False).ok)())
