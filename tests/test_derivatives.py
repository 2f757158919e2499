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
