"""Computations compiled as one function give the numbers of the usual way, and what does not fit is left alone."""

import diffrax as dfx
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.extend.core import jaxpr_as_fun

from sciad.solvers import one_kernel
from sciad.solvers.elimination import LARGEST
from sciad.solvers.ode import ODE
from sciad.solvers.products import without_products

FIELDS = {
    "predators": (
        lambda _, y, p: jnp.stack([(p[0] - p[1] * y[1]) * y[0], (y[0] - p[2]) * y[1]]),
        [1.0, 1.0],
        [1.5, 1.0, 3.0],
    ),
    "branches": (
        lambda t, y, p: jax.lax.cond(t > 1, lambda: -p[0] * y, lambda: jnp.minimum(p[1] * y, p[2])),
        [1.0],
        [1.0, 2.0, 1.5],
    ),
    "functions": (
        lambda t, y, p: p[0] * jnp.sin(t) / (1 + jnp.abs(y) ** p[1]) + jax.nn.softplus(p[2]) * jnp.tanh(y) - y,
        [1.0, 0.5, 0.0],
        [1.0, 2.5, 0.3],
    ),
    "forcing": (
        lambda t, y, p: -p[0] * y + p[1] * jnp.interp(t, jnp.arange(4.0), jnp.arange(4.0) ** 2) + p[2],
        [1.0],
        [1.0, 2.0, 0.1],
    ),
    "neighbours": (
        lambda _, y, p: p[0] * (jnp.roll(y, 1) - 2 * y + jnp.roll(y, -1)) + p[1] * y * (p[2] - y),
        list(np.linspace(0.1, 0.9, 6)),
        [1.0, 2.0, 1.0],
    ),
    "matrix": (
        lambda _, y, p: p[0] * (jnp.eye(4) * -1.0 + 0.1 * p[1]) @ y + p[2],
        [1.0, 2.0, 3.0, 4.0],
        [1.0, 0.5, 0.2],
    ),
}

# Products followed by sums in every shape that fits, among them those that XLA fuses in ways it cannot compile here.
FIELDS |= {
    f"network of {width} for {states}": (
        lambda _, y, p, n=states, w=width: (
            p[: n * w].reshape(n, w) @ jnp.tanh(p[n * w : 2 * n * w].reshape(w, n) @ y + p[-w:]) - y
        ),
        list(np.linspace(0.5, 1.0, states)),
        list(np.cos(np.arange(2.0 * states * width + width))),
    )
    for states, width in ((1, 3), (2, 2), (2, 4), (3, 4), (5, 3))
}


@pytest.fixture
def counted(monkeypatch):
    """Count how many computations were taken to fit."""
    found = []
    original = one_kernel.fits
    monkeypatch.setattr(one_kernel, "fits", lambda closed: found.append(original(closed)) or found[-1])
    return found


def _loss(name):
    field, y0, p = FIELDS[name]
    ode = ODE(rtol=1e-8, atol=1e-8, sensitivity="forward")

    def loss(p, y0):
        return jnp.sum(ode(field, y0, args=p, ts=np.linspace(0.3, 2.0, 5), t0=0.0, throw=False).ys ** 2)

    return loss, jnp.array(p), jnp.array(y0)


LONG = ("branches", "matrix", "predators")  # beside networks


def with_some_slow(names):
    rare = (name for name in names if name.startswith("network") or name in LONG)
    marks = dict.fromkeys(rare, pytest.mark.slow)
    return [pytest.param(name, marks=marks.get(name, ())) for name in names]


@pytest.mark.parametrize("name", with_some_slow(FIELDS))
def test_same_numbers_as_separate_kernels(name, monkeypatch, counted):
    loss, p, y0 = _loss(name)

    def both(p, y0):
        alone = jax.value_and_grad(loss, argnums=(0, 1))(p, y0)
        batched = jax.vmap(jax.value_and_grad(loss), in_axes=(0, None))(jnp.stack([p, 1.1 * p]), y0)
        return alone, batched

    fast = jax.jit(both)(p, y0)
    assert counted
    assert all(counted), "this computation should fit into one kernel"
    monkeypatch.setattr(one_kernel, "TESTED", ("no version",))
    usual = jax.jit(lambda p, y0: both(p, y0))(p, y0)
    for got, expected in zip(jax.tree.leaves(fast), jax.tree.leaves(usual), strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-11, atol=1e-13)


def test_second_derivatives_through_one_kernel(counted):
    loss, p, y0 = _loss("predators")
    hessian = jax.jit(jax.hessian(loss))(p, y0)
    assert all(counted)
    gradient, step = jax.jit(jax.grad(loss)), 1e-5
    differences = [(gradient(p + e, y0) - gradient(p - e, y0)) / (2 * step) for e in step * np.eye(3)]
    np.testing.assert_allclose(hessian, np.stack(differences), rtol=1e-5)


def powered(x, n):
    """Take x to the power of n by a loop that is compiled as one function."""

    def function(operands):
        x, n = operands
        return jax.lax.while_loop(lambda c: c[0] < n, lambda c: (c[0] + 1, c[1] * x), (jnp.array(0), 1.0 + 0.0 * x))[1]

    return one_kernel.in_one_kernel(function, (x, n))


def test_transformations_of_what_is_in_one_kernel(counted):
    x, n = jnp.array([[1.1, 1.2], [1.3, 1.4], [1.5, 1.6]]), jnp.array([2, 3])
    both = jax.vmap(jax.vmap(powered, in_axes=(0, None)), in_axes=(1, 0))
    wanted = np.asarray(x).T ** np.asarray(n)[:, None]
    np.testing.assert_allclose(jax.jit(both)(x, n), wanted, rtol=1e-12)
    np.testing.assert_allclose(both(x, n), wanted, rtol=1e-12)
    slopes = np.asarray(n)[:, None] * np.asarray(x).T ** (np.asarray(n)[:, None] - 1)
    _, pushed = jax.jit(lambda x: jax.jvp(lambda x: both(x, n), (x,), (jnp.ones_like(x),)))(x)
    np.testing.assert_allclose(pushed, slopes, rtol=1e-12)
    inner = jax.vmap(jax.vmap(jax.jacfwd(powered), in_axes=(0, None)), in_axes=(1, 0))
    np.testing.assert_allclose(jax.jit(inner)(x, n), slopes, rtol=1e-12)
    second = jax.jit(jax.jacfwd(jax.jacfwd(powered)))(1.5, 3)
    np.testing.assert_allclose(second, 9.0, rtol=1e-12)
    kept = jax.checkpoint(lambda x: powered(x, 3))
    np.testing.assert_allclose(jax.jit(kept)(1.5), 3.375, rtol=1e-12)
    assert all(counted)


def test_in_a_loop_and_across_devices():
    loss, p, y0 = _loss("predators")
    if len(jax.devices()) < 2:
        pytest.skip("needs two devices; conftest gives them unless JAX was started before")
    mesh = jax.sharding.Mesh(np.array(jax.devices()[:2]), ("chains",))
    spread = jax.sharding.PartitionSpec("chains")

    def descend(p):
        return jax.lax.map(lambda q: jax.lax.fori_loop(0, 3, lambda _, q: q - 1e-4 * jax.grad(loss)(q, y0), q), p)

    starts = jnp.stack([p * s for s in (0.9, 1.0, 1.1, 1.2)])
    sharded = jax.jit(jax.shard_map(descend, mesh=mesh, in_specs=spread, out_specs=spread, check_vma=False))
    np.testing.assert_allclose(sharded(starts), jax.jit(descend)(starts), rtol=1e-12)


@pytest.mark.parametrize(
    ("contracted", "batch", "shapes"),
    [
        (((0,), (0,)), ((), ()), ((3,), (3,))),
        (((1,), (0,)), ((), ()), ((2, 3), (3, 4))),
        (((0,), (1,)), ((), ()), ((3, 2), (4, 3))),
        (((2,), (1,)), ((0,), (0,)), ((5, 2, 3), (5, 3, 4))),
        (((0, 2), (2, 0)), ((1,), (1,)), ((2, 5, 3, 4), (3, 5, 2))),
        (((), ()), ((), ()), ((2,), (3,))),
    ],
)
def test_products_become_sums_inside_loops_too(contracted, batch, shapes):
    a, b = (jnp.asarray(np.random.default_rng(i).standard_normal(shape)) for i, shape in enumerate(shapes))

    def function(a, b):
        def once(_, found):
            return found + jax.lax.dot_general(a, b, (contracted, batch))

        return jax.lax.fori_loop(0, 3, once, once(0, 0.0))

    closed = without_products(jax.make_jaxpr(function)(a, b))
    assert "dot_general" not in str(closed)
    (found,) = jax.jit(jaxpr_as_fun(closed))(a, b)
    np.testing.assert_allclose(found, function(a, b), rtol=1e-13, atol=1e-14)


@pytest.mark.parametrize(
    ("what", "function", "size"),
    [
        ("a library call", lambda x: jnp.linalg.solve(jnp.eye(3) + x[:3, None], x[:3]), 3),
        ("a sort", jnp.sort, 8),
        ("many updates", lambda x: x.at[jnp.array([0, 2])].set(0.0), 8),
        ("a large array", lambda x: jax.lax.fori_loop(0, 2, lambda _, x: x * 2.0, x), one_kernel.LARGEST_ARRAY + 1),
        ("a very large array", lambda x: x * 2.0, one_kernel.LARGEST_BUFFER + 1),
        ("a large product", lambda x: jnp.outer(x, x) @ jnp.outer(x, x), 20),
        ("random numbers", lambda x: x + jax.random.normal(jax.random.key(0), x.shape), 4),
        ("a callback", lambda x: jax.pure_callback(np.sin, x, x), 4),
    ],
)
def test_what_does_not_fit_goes_the_usual_way(what, function, size):
    x = jnp.linspace(0.1, 1.0, size)
    assert not one_kernel.fits(jax.make_jaxpr(function)(x)), what
    np.testing.assert_allclose(jax.jit(lambda x: one_kernel.in_one_kernel(function, x))(x), function(x))


def test_what_is_saved_on_the_way_may_be_large(counted):
    ode, times = ODE(rtol=1e-8, atol=1e-8, sensitivity="forward"), np.linspace(0.0, 3.0, one_kernel.LARGEST_ARRAY)
    ys = jax.jit(jax.jacfwd(lambda k: ode(lambda _, y, k: -k * y, jnp.ones(1), args=k, ts=times).ys[:, 0]))(1.0)
    np.testing.assert_allclose(ys, -times * np.exp(-times), atol=1e-7)
    assert all(counted)


@pytest.mark.slow
def test_implicit_solvers_of_few_states_give_the_numbers_of_the_usual_way(monkeypatch, counted):
    def reaction(_, y, k):
        first, second = k[0] * y[0], k[1] * y[1] * y[2]
        third = 1e3 * k[1] * y[1] ** 2
        return jnp.stack([second - first, first - second - third, third])

    def end(k):
        ode = ODE(dfx.Kvaerno5(), rtol=1e-8, atol=1e-10, sensitivity="forward")
        return ode(reaction, jnp.array([1.0, 0.0, 0.0]), args=k, t0=0.0, t1=10.0, throw=False).y1

    def both(k):
        return end(k), jax.jacfwd(end)(k)

    k = jnp.array([0.04, 1e4])
    fast = jax.jit(both)(k)
    assert counted
    assert all(counted)
    monkeypatch.setattr(one_kernel, "TESTED", ("no version",))
    for got, expected in zip(fast, jax.jit(lambda k: both(k))(k), strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-6, atol=1e-10)


def test_implicit_solver_of_many_states_goes_the_usual_way(counted):
    ode = ODE(dfx.Kvaerno3())
    end = eqx.filter_jit(lambda k: ode(lambda _, y, k: -k * y, jnp.ones(LARGEST + 1), args=k, t0=0.0, t1=1.0).y1[0])
    np.testing.assert_allclose(end(jnp.array(1.0)), np.exp(-1.0), rtol=1e-4)
    assert not any(counted)


@pytest.mark.parametrize("unused", ["never", "after simplification"])
def test_an_operand_that_nothing_depends_on_does_no_harm(unused):
    """Such a parameter of a marked call aborts XLA's compiler."""

    def step(y, knot):
        begin, gap = knot

        def field(t, y, _):
            late = begin + t * gap
            return -gap * y + (jnp.where(jnp.array(False), late, 0.0) if unused != "never" else 0.0)

        return ODE(rtol=1e-9, atol=1e-9)(field, y, t0=0.0, t1=1.0, throw=False).y1, y

    gaps = jnp.array([1.0, 0.5, 0.25])
    end, _ = jax.jit(lambda y: jax.lax.scan(step, y, (jnp.arange(3.0), gaps)))(jnp.ones(2))
    np.testing.assert_allclose(end, np.exp(-1.75), rtol=1e-7)


def test_a_table_in_the_equation_is_no_constant_to_the_compiler():
    knots = jnp.linspace(0.0, 1.0, 5000)
    table = jnp.sin(knots)

    def end(rate):
        solution = ODE()(lambda t, y, _: -rate * y + jnp.interp(t, knots, table), jnp.ones(1), t0=0.0, t1=1.0)
        return solution.y1[0]

    value, slope = jax.jit(lambda: jax.value_and_grad(end)(1.0))()  # XLA aborts the process where it is one
    exact = 1.5 * np.exp(-1.0) + (np.sin(1.0) - np.cos(1.0)) / 2
    np.testing.assert_allclose(value, exact, rtol=1e-5)
    assert np.isfinite(slope)
