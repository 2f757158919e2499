"""Interfaces: points and normals on them, and problems of two materials against their exact solutions."""

import equinox as eqx
import jax.numpy as jnp
import numpy as np
import pytest

import sciad as sd

SQUARE = sd.Box(x=(-1, 1), y=(-1, 1))
RADIUS, INNER, OUTER = 0.6, 1.0, 10.0


def round_level(p):
    return p.x**2 + p.y**2 - RADIUS**2


def test_points_lie_on_the_interface_and_normals_point_to_where_the_level_is_positive():
    points, normals = sd.Interface(round_level).rows(SQUARE, "level", 1000, 0)
    assert points.shape == normals.shape == (100, 2)
    np.testing.assert_allclose(np.linalg.norm(points, axis=1), RADIUS, rtol=1e-12)
    np.testing.assert_allclose(normals, points / RADIUS, rtol=1e-10, atol=1e-12)
    angles = np.sort(np.arctan2(points[:, 1], points[:, 0]))
    assert np.diff(angles).max() < 0.4  # all around


def test_an_interface_that_moves_is_approached_along_space_alone():
    moving = sd.Interface(lambda p: p.x - 0.2 - 0.5 * p.t)
    points, normals = moving.rows(sd.Box(x=(0, 1), t=(0, 1)), "level", 1000, 0)
    np.testing.assert_allclose(points[:, 0], 0.2 + 0.5 * points[:, 1], atol=1e-12)
    assert (normals == [1.0, 0.0]).all()
    assert np.ptp(points[:, 1]) > 0.9


def test_two_materials_in_a_square_against_the_exact_solution():
    def exact(x, y):
        squared = x**2 + y**2
        inside = squared < RADIUS**2
        return np.where(inside, squared / INNER, squared / OUTER + (1 / INNER - 1 / OUTER) * RADIUS**2)

    def outer(p):
        return (p.x**2 + p.y**2) / OUTER + (1 / INNER - 1 / OUTER) * RADIUS**2

    def poisson(u, p):
        return jnp.where(round_level(p) > 0, OUTER, INNER) * sd.laplacian(u, "x", "y")(p) - 4.0

    meeting = sd.Interface(round_level, coefficient=(OUTER, INNER))
    problem = sd.PDEProblem(SQUARE, conditions=[sd.Dirichlet(outer), meeting])
    fit = sd.fit(problem, poisson, solver=sd.LastLayer(width=600, points=1800))
    axis = np.linspace(-1, 1, 41)
    found = fit(x=axis, y=axis).u.values
    right = exact(*np.meshgrid(axis, axis, indexing="ij"))
    assert np.linalg.norm(found - right) < 1e-6 * np.linalg.norm(right)


@pytest.mark.parametrize(
    "solver",
    [sd.LastLayer(width=60, points=200), pytest.param(sd.Collocation(points=200, budget=20.0), marks=pytest.mark.slow)],
)
def test_field_and_flux_may_jump(solver):
    """The field is x² where x > 0.3, and sin(x) where not; the coefficient 2 and 5."""
    jump, flux = 0.3**2 - np.sin(0.3), 2 * 0.6 - 5 * np.cos(0.3)

    def equation(u, p):
        return sd.d(u, "x", "x")(p) - jnp.where(p.x > 0.3, 2.0, -jnp.sin(p.x))

    problem = sd.PDEProblem(
        sd.Box(x=(0, 1)),
        conditions=[
            sd.Dirichlet(0.0, on="x_min"),
            sd.Dirichlet(1.0, on="x_max"),
            sd.Interface(lambda p: p.x - 0.3, coefficient=(2.0, 5.0), jump=jump, flux=flux),
        ],
        network=lambda inputs, outputs, key: sd.models.networks.MLP(inputs, outputs, width=10, depth=2, key=key),
    )
    fit = sd.fit(problem, equation, solver=solver)
    x = np.linspace(0, 1, 101)
    np.testing.assert_allclose(fit(x=x).u, np.where(x > 0.3, x**2, np.sin(x)), atol=1e-6)


def test_one_of_several_fields_meets_an_interface():
    line = sd.Box(x=(0, 1))
    meeting = sd.Interface(lambda p: p.x - 0.5, coefficient=(lambda p: 1 + p.x, 3.0), jump=2.0, field="b")
    problem = sd.PDEProblem(line, fields=("a", "b"), conditions=[meeting])
    program = problem.complete(lambda u, p: (u.a(p), u.b(p)))
    residual = problem.residual("interface 0 on level")
    rows = problem.design(100, 0)["interface 0 on level"]
    plain = sd.unwrap(program)
    above, below = (problem.field(plain, {0: side}).b for side in (1.0, -1.0))
    p = problem.point(jnp.asarray(rows.points[0]))
    expected = [above(p) - below(p) - 2.0, 1.5 * sd.d(above, "x")(p) - 3.0 * sd.d(below, "x")(p)]
    found = residual(plain, *map(jnp.asarray, (rows.points[0], rows.beside[0])))
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    assert abs(above(p) - below(p)) > 1e-3


@pytest.mark.parametrize(
    ("level", "words"),
    [
        (lambda p: p.x**2 + 1.0, "nowhere zero inside the domain"),
        (lambda p: 0.0 * p.x, "nowhere zero inside the domain, or has no slope"),
        (lambda p: jnp.stack([p.x, p.y]), r"returned an array of shape \(2,\)"),
    ],
)
def test_levels_that_are_none(level, words):
    with pytest.raises(sd.InputError, match=words):
        sd.Interface(level).rows(SQUARE, "level", 100, 0)


@pytest.mark.usefixtures("unchecked")
def test_bad_arguments():
    with pytest.raises(sd.InputError, match=r"level=0\.5\): expected a function of a point"):
        sd.Interface(0.5)
    with pytest.raises(sd.InputError, match="expected two values"):
        sd.Interface(round_level, coefficient=2.0)

    class Level(eqx.Module):
        radius: sd.Param = sd.param(0.5)

        def __call__(self, p):
            return p.x - self.radius

    with pytest.raises(sd.InputError, match="It has to be known, and a function"):
        sd.Interface(Level())
    moving = [sd.Initial(0.0, time="s"), sd.Interface(lambda p: p.x - 0.5)]
    with pytest.raises(sd.InputError, match="of which space is all but t"):
        sd.PDEProblem(sd.Box(x=(0, 1), s=(0, 1)), conditions=moving)
    heat = sd.PDEProblem(
        sd.Box(x=(0, 1), t=(0, 1)), conditions=[sd.Initial(0.0), sd.Dirichlet(0.0), sd.Interface(lambda p: p.x - 0.5)]
    )
    with pytest.raises(sd.InputError, match=r"does not take sd\.Interface"):
        sd.MethodOfLines(heat)
