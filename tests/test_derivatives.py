import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import sciad as sd


def wave(p):
    return jnp.sin(2.0 * p.x) * jnp.exp(-p.t) + p.x**4 * p.t


POINT = sd.Point({"x": 0.7, "t": 0.3})
EXACT = {
    ("x",): 2 * np.cos(1.4) * np.exp(-0.3) + 4 * 0.7**3 * 0.3,
    ("x", "x"): -4 * np.sin(1.4) * np.exp(-0.3) + 12 * 0.7**2 * 0.3,
    ("x", "t"): -2 * np.cos(1.4) * np.exp(-0.3) + 4 * 0.7**3,
    ("t", "x"): -2 * np.cos(1.4) * np.exp(-0.3) + 4 * 0.7**3,
    ("x", "x", "x"): -8 * np.cos(1.4) * np.exp(-0.3) + 24 * 0.7 * 0.3,
    ("x", "x", "x", "x"): 16 * np.sin(1.4) * np.exp(-0.3) + 24 * 0.3,
}


@pytest.mark.parametrize("names", EXACT, ids="".join)
def test_derivatives_are_those_of_calculus(names):
    assert float(sd.d(wave, *names)(POINT)) == pytest.approx(EXACT[names], rel=1e-12)


def test_forward_derivatives_agree_with_reverse_ones():
    reverse = jax.grad(jax.grad(lambda x: wave(sd.Point({"x": x, "t": 0.3}))))(0.7)
    assert float(sd.d(wave, "x", "x")(POINT)) == pytest.approx(float(reverse), rel=1e-12)


def test_gradient_and_laplacian():
    def u(p):
        return p.x**2 * p.y + p.z

    p = sd.Point({"x": 2.0, "y": 3.0, "z": 5.0})
    assert sd.gradient(u, "x", "y", "z")(p).tolist() == [12.0, 4.0, 1.0]
    assert float(sd.laplacian(u, "x", "y", "z")(p)) == 6.0


def test_functions_of_any_shape_and_many_points():
    def pair(p):
        return jnp.stack([p.x**2, p.x * p.t])

    points = {"x": jnp.arange(3.0), "t": jnp.ones(3)}
    found = jax.vmap(lambda c: sd.d(pair, "x")(sd.Point(c)))(points)
    assert found.tolist() == [[0.0, 1.0], [2.0, 1.0], [4.0, 1.0]]


@pytest.mark.usefixtures("unchecked")
def test_what_is_no_derivative_is_told():
    with pytest.raises(sd.InputError, match=r"no coordinate 'y'.*x, t"):
        sd.d(wave, "y")(POINT)
    with pytest.raises(sd.InputError, match=r"u is a number. Give the function"):
        sd.d(wave(POINT), "x")
    with pytest.raises(sd.InputError, match="names no coordinate"):
        sd.laplacian(wave)
    with pytest.raises(sd.InputError, match="no coordinate 'q'"):
        POINT["q"]


# --- all orders in one pass ---


def composed(p):
    return jnp.exp(jnp.sin(p.x)) * jnp.tanh(p.t * p.x) + jnp.stack([p.x**5, p.t])


@pytest.mark.parametrize("method", ["taylor", "forward", "auto"])
def test_all_orders_agree_with_one_after_the_other(method):
    found = sd.derivatives(composed, "x", 5, method=method)(POINT)
    assert found.shape == (6, 2)
    expected = [sd.d(composed, *["x"] * order)(POINT) for order in range(6)]
    np.testing.assert_allclose(found, np.stack(expected), rtol=1e-9)


def test_derivatives_of_derivatives_and_of_parameters():
    def loss(scale):
        return jnp.sum(sd.derivatives(lambda p: jnp.tanh(scale * p.x), "x", 3)(POINT)[1:] ** 2)

    step = 1e-5
    slope = (loss(1.3 + step) - loss(1.3 - step)) / (2 * step)
    assert float(jax.grad(loss)(1.3)) == pytest.approx(float(slope), rel=1e-7)
    mixed = sd.d(lambda p: sd.derivatives(wave, "x", 2)(p)[2], "t")(POINT)
    assert float(mixed) == pytest.approx(float(sd.d(wave, "x", "x", "t")(POINT)), rel=1e-12)


def looped(p):
    return jax.lax.fori_loop(0, 3, lambda _, y: y * p.x + 1.0, p.x)


def test_where_taylor_mode_has_no_rule_nested_forward_mode_takes_its_place():
    exact = 4 * 0.7**3 + 2 * 0.7 + 1  # of x⁴ + x² + x + 1
    assert float(sd.derivatives(looped, "x", 2)(POINT)[1]) == pytest.approx(exact)
    soft = sd.derivatives(lambda p: jax.nn.softplus(p.x), "x", 2)(POINT)
    sigmoid = 1 / (1 + np.exp(-0.7))
    assert soft[1:].tolist() == pytest.approx([sigmoid, sigmoid * (1 - sigmoid)])
    with pytest.raises(sd.InputError, match=r"no rule for a part of this function.*method=\"forward\""):
        sd.derivatives(looped, "x", 2, method="taylor")(POINT)


# --- estimates in many dimensions ---


NAMES = tuple("abcdefgh")


def many(p):
    return sum(jnp.sin(p[a] * p[b]) for a, b in itertools.pairwise(NAMES))


def test_estimates_are_unbiased_with_the_variance_of_the_formula():
    # a ninth coordinate, which the function does not see, makes other directions at the same Laplacian
    names, numbers = (*NAMES, "i"), np.append(np.random.default_rng(0).uniform(-1, 1, 8), 0.0)
    at = sd.Point(dict(zip(names, numbers, strict=True)))
    exact = float(sd.laplacian(many, *NAMES)(at))
    hessian = np.array([[float(sd.d(many, a, b)(at)) for b in NAMES] for a in NAMES])
    variance = 2 * np.sum((hessian - np.diag(np.diag(hessian))) ** 2)
    for probes in (1, 4):
        estimate = sd.estimated_laplacian(many, *names, probes=probes)
        draws = jax.jit(jax.vmap(lambda s, of=estimate: of(at.at(i=s))))(jnp.linspace(0.0, 1.0, 4000))
        assert abs(float(draws.mean()) - exact) < 4 * np.sqrt(variance / probes / 4000)
        assert float(draws.var()) == pytest.approx(variance / probes, rel=0.15)


def test_a_diagonal_hessian_has_no_variance_and_a_point_one_estimate():
    p = sd.Point(dict(zip(NAMES, np.arange(8.0), strict=True)))
    found = sd.estimated_laplacian(lambda p: sum((i + 1) * p[n] ** 2 for i, n in enumerate(NAMES)), *NAMES)(p)
    assert float(found) == pytest.approx(2 * 36)
    again = [float(sd.estimated_laplacian(many, *NAMES)(p)) for _ in range(2)]
    assert again[0] == again[1]


@pytest.mark.usefixtures("unchecked")
def test_what_has_no_such_derivatives_is_told():
    for order in (0, 1.5, True):
        with pytest.raises(sd.InputError, match="expected an order of 1 or more"):
            sd.derivatives(wave, "x", order)
    with pytest.raises(sd.InputError, match="u is a number"):
        sd.derivatives(1.0, "x", 2)
    with pytest.raises(sd.InputError, match="no coordinate 'y'"):
        sd.derivatives(wave, "y", 2)(POINT)
    with pytest.raises(sd.OptionError, match="taylor"):
        sd.derivatives(wave, "x", 2, method="tailor")
    with pytest.raises(sd.InputError, match="names no coordinate"):
        sd.estimated_laplacian(wave)
    with pytest.raises(sd.InputError, match=r"probes=0.*1 or more"):
        sd.estimated_laplacian(wave, "x", probes=0)
