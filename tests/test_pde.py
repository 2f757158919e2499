"""Conditions, the ansatz that carries them, data, and what is wrong with a problem before the first iteration."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr

import sciad as sd
from sciad._roles import unwrap
from sciad.models.networks import MLP

SMALL = {"width": 5, "depth": 1}


def network(inputs, outputs, *, key):
    return MLP(inputs, outputs, **SMALL, key=key)


def anything(u, p):
    return u(p)


def posed(domain, *conditions, equation=anything, **options):
    """A problem, and the fields of a random network in it."""
    problem = sd.PDEProblem(domain, conditions=conditions, network=network, **options)
    return problem, problem.field(unwrap(problem.complete(equation, key=3)))


def at(points, names):
    return [sd.Point(dict(zip(names, map(jnp.asarray, row), strict=True))) for row in points]


SQUARE = sd.Box(x=(-1, 2), y=(0, 3))


def harmonic(p):
    return p.x**2 - p.y**2 + p.x


def test_values_on_all_faces_of_a_box_are_exact():
    problem, u = posed(SQUARE, sd.Dirichlet(harmonic))
    assert not problem.soft
    for face in SQUARE.faces:
        for p in at(SQUARE.surface(face, 4, seed=1).points, "xy"):
            assert float(u(p)) == pytest.approx(float(harmonic(p)), abs=1e-12)
    middle = sd.Point({"x": 0.4, "y": 1.3})
    assert abs(float(u(middle)) - float(harmonic(middle))) > 1e-3  # inside, the network speaks


def test_initial_values_and_rates_are_exact_beside_values_on_faces():
    domain = sd.Box(x=(0, 1), t=(0, 2))
    start, rate = lambda p: jnp.sin(jnp.pi * p.x), lambda p: p.x * (1 - p.x)
    _, u = posed(domain, sd.Initial(start, rate), sd.Dirichlet(0.0, on="x"))
    for p in at(domain.surface("t_min", 4, seed=1).points, "xt"):
        assert float(u(p)) == pytest.approx(float(start(p)), abs=1e-12)
        assert float(sd.d(u, "t")(p)) == pytest.approx(float(rate(p)), abs=1e-12)
    for p in at(domain.surface("x_max", 4, seed=1).points, "xt"):
        assert float(u(p)) == pytest.approx(0.0, abs=1e-12)


def test_periodic_fields_and_their_derivatives_meet():
    domain = sd.Box(x=(-1, 1), t=(0, 1))
    _, u = posed(domain, sd.Initial(lambda p: jnp.cos(jnp.pi * p.x)), sd.Periodic("x"))
    for p in at(domain.surface("x_min", 4, seed=1).points, "xt"):
        for order in range(3):
            left, right = (sd.d(u, *["x"] * order)(p.at(x=jnp.asarray(x))) for x in (-1.0, 1.0))
            assert float(left) == pytest.approx(float(right), abs=1e-10)


def test_values_on_a_disk_in_time_are_exact():
    domain = sd.Disk((0.0, 0.0), 2.0) * sd.Box(t=(0, 1))
    bath = lambda p: 1.0 + 0.0 * p.t  # noqa: E731
    problem, u = posed(domain, sd.Dirichlet(bath, on="boundary"), sd.Initial(lambda p: p.x**2 + p.y**2 - 3.0))
    assert not problem.soft
    for face, value in (("boundary", bath), ("t_min", lambda p: p.x**2 + p.y**2 - 3.0)):
        for p in at(domain.surface(face, 4, seed=1).points, domain.coordinates):
            assert float(u(p)) == pytest.approx(float(value(p)), abs=1e-12)


def test_values_on_all_of_a_cylinder_are_exact():
    # x² = 1 - y² on the lateral face only: taken for the whole domain, it must not override the ends
    cylinder = sd.Disk((0, 0), 1) * sd.Box(z=(0, 1))
    lateral = tuple(face for face in cylinder.faces if cylinder.side(face) is None)
    ends = sd.Dirichlet(lambda p: p.x**2, on="z")
    problem = sd.PDEProblem(cylinder, conditions=[ends, sd.Dirichlet(lambda p: 1 - p.y**2, on=lateral)])
    program = problem.complete(lambda u, p: sd.laplacian(u, "x", "y", "z")(p))
    for face in cylinder.faces:
        points, _ = cylinder.surface(face, 32, 1)
        assert np.allclose(problem.evaluate(program, points)[:, 0], points[:, 0] ** 2, atol=1e-12)
    assert problem.soft == {}


def test_time_of_another_name_is_kept_out_of_the_boundary():
    domain = sd.Box(x=(0, 1), s=(0, 1))
    with pytest.raises(sd.InputError, match=r"Initial\(time='s'\).*Name the faces"):
        sd.PDEProblem(domain, conditions=[sd.Initial(0.0, time="s"), sd.Dirichlet(0.0)])
    problem = sd.PDEProblem(domain, conditions=[sd.Initial(0.0, time="s"), sd.Dirichlet(0.0, on="x")])
    assert "x_min, x_max (exact)" in str(problem)


def test_conditions_that_are_not_carried_are_met_at_points():
    problem, _ = posed(SQUARE, sd.Dirichlet(0.0, on="x"), sd.Neumann(1.0, on="y_min"), sd.Robin(2.0, "y_max", a=1, b=3))
    assert [face for _, face in problem.soft.values()] == ["y_min", "y_max"]
    rows = problem.design(40, 0)
    assert {name: len(group.points) for name, group in rows.items()} == {
        "equation": 40,
        "robin 1 on y_min": 4,
        "robin 2 on y_max": 4,
    }
    assert "(by points)" in str(problem)


def test_slopes_and_mixed_conditions_miss_what_they_should():
    def field(p):
        return p.x**2 * p.y

    p, up = sd.Point({"x": 2.0, "y": 3.0}), jnp.array([0.0, 1.0])
    slope, mixed = sd.Neumann(1.0, on="y_max"), sd.Robin(2.0, on="y_max", a=2.0, b=3.0)
    assert float(slope.misses(field, slope.values(), p, up)[0]) == 4.0 - 1.0
    assert float(mixed.misses(field, mixed.values(), p, up)[0]) == 2.0 * 12.0 + 3.0 * 4.0 - 2.0


def test_several_fields_have_their_own_conditions():
    problem, u = posed(
        SQUARE, sd.Dirichlet(1.0, field="speed"), sd.Dirichlet(0.0, on="x_min", field="pressure"),
        fields=("speed", "pressure"), equation=lambda u, p: (u.speed(p), u["pressure"](p)),
    )  # fmt: skip
    (p,) = at([[-1.0, 1.0]], "xy")
    assert (float(u.speed(p)), float(u.pressure(p))) == pytest.approx((1.0, 0.0), abs=1e-12)
    assert problem.evaluate(problem.complete(lambda u, p: u.speed(p)), jnp.ones((7, 2))).shape == (7, 2)
    with pytest.raises(sd.InputError, match=r"no field 'pressur'. Did you mean 'pressure'"):
        u.pressur(p)


def test_a_field_takes_its_size_from_what_is_prescribed():
    assert posed(SQUARE, sd.Dirichlet(300.0))[0].scales == {"u": 300.0}


BAD = {
    "disagree where they meet": ([sd.Dirichlet(0.0, on="x"), sd.Dirichlet(1.0, on="y")], "Conditions disagree"),
    "are not periodic": ([sd.Dirichlet(lambda p: p.x, on="y"), sd.Periodic("x")], "Periodic on x_min is missed by 3"),
    "name no face": ([sd.Dirichlet(0.0, on="z")], "no such face.*x_min"),
    "name half a face": ([sd.Dirichlet(0.0, on="x_mim")], "Did you mean 'x_min'"),
    "are on nothing": ([sd.Dirichlet(0.0, on=())], "`on` is empty"),
    "are no conditions": ([0.0], "holds a float; expected conditions"),
    "name no field": ([sd.Dirichlet(0.0, field="v")], "on the field 'v'"),
    "are not finite": ([sd.Dirichlet(lambda p: 1 / (p.x + 1))], "not finite at"),
    "are no functions of a point": ([sd.Dirichlet(lambda x, _: x)], "Give a number or a function of a point"),
    "are vectors": ([sd.Dirichlet(lambda p: jnp.ones(2) * p.x)], r"has shape \(2,\)"),
    "ask for the impossible": ([sd.Operator(anything), sd.Initial(0.0)], "no such face"),
}


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("kind", BAD)
def test_conditions_that(kind):
    conditions, words = BAD[kind]
    with pytest.raises(sd.InputError, match=words):
        sd.PDEProblem(SQUARE, conditions=conditions)


WRONG = {
    "a vector": (lambda u, p: jnp.ones(3) * u(p), r"array of shape \(3,\) at one point"),
    "nothing": (lambda _u, _p: None, "NoneType"),
    "no tuple of numbers": (lambda u, p: (u(p), "x"), "returned a str"),
    "an empty tuple": (lambda _u, _p: (), "returned nothing"),
    "too many arguments": (lambda u, x, _t: u(x), r"called as equation\(u, p\)"),
    "an unknown coordinate": (lambda u, p: sd.d(u, "t")(p), "no coordinate 't'"),
    "a value taken for a function": (lambda u, p: sd.d(u(p), "x")(p), "Give the function"),
}


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("kind", WRONG)
def test_an_equation_with(kind):
    equation, words = WRONG[kind]
    with pytest.raises(sd.InputError, match=words):
        sd.PDEProblem(SQUARE).complete(equation)


@pytest.mark.usefixtures("unchecked")
def test_what_is_no_equation_or_domain():
    with pytest.raises(sd.InputError, match="The equation is a float"):
        sd.PDEProblem(SQUARE).complete(3.0)
    with pytest.raises(sd.InputError, match="`domain` is a tuple"):
        sd.PDEProblem((0, 1))
    with pytest.raises(sd.InputError, match="each once"):
        sd.PDEProblem(SQUARE, fields=("u", "u"))
    with pytest.raises(sd.InputError, match="does not say on which of the fields"):
        sd.PDEProblem(SQUARE, fields=("u", "v"), conditions=[sd.Dirichlet(0.0)])


def table(**columns):
    return xr.Dataset({name: ("row", np.asarray(values, float)) for name, values in columns.items()})


def test_data_on_a_grid_and_in_rows_are_the_same():
    grid = xr.Dataset({"u": (("x", "y"), np.arange(6.0).reshape(2, 3))}, coords={"x": [0.0, 1.0], "y": [0.0, 1.0, 2.0]})
    rows = table(x=[0, 0, 0, 1, 1, 1], y=[0, 1, 2, 0, 1, 2], u=range(6))
    one, other = (sd.PDEProblem(SQUARE, data=data).observations for data in (grid, rows))
    assert np.array_equal(one.points, other.points)
    assert np.array_equal(one.values, other.values)


def test_missing_values_are_not_observed():
    seen = sd.PDEProblem(SQUARE, data=table(x=[0, 1], y=[0, 1], u=[1.0, np.nan])).observations
    assert seen.values.tolist() == [[1.0]]


BAD_DATA = {
    "lie outside": (table(x=[0, 9], y=[0, 1], u=[1, 2]), "1 observation of 2 lie outside.*x=9"),
    "have no coordinate": (table(x=[0], u=[1]), "have no 'y'"),
    "have no field": (table(x=[0], y=[0], v=[1]), "hold none of the fields u"),
    "are infinite": (table(x=[0], y=[0], u=[np.inf]), "1 infinite value"),
    "are missing": (table(x=[0], y=[0], u=[np.nan]), "every value is missing"),
    "have no place": (table(x=[np.nan], y=[0], u=[1.0]), "no place"),
    "are no dataset": ({"x": 1}, "expected an xarray.Dataset"),
}


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("kind", BAD_DATA)
def test_data_that(kind):
    data, words = BAD_DATA[kind]
    with pytest.raises(sd.InputError, match=words):
        sd.PDEProblem(SQUARE, data=data)


@pytest.mark.usefixtures("unchecked")
def test_noise_belongs_to_fields():
    with pytest.raises(sd.InputError, match="says nothing of u"):
        sd.PDEProblem(SQUARE, data=table(x=[0], y=[0], u=[1.0]), noise={})
    with pytest.raises(sd.InputError, match="u"):
        sd.PDEProblem(SQUARE, data=table(x=[0], y=[0], u=[-1.0]), noise=sd.LogNormal())


def test_unknown_numbers_of_conditions_are_parameters():
    problem = sd.PDEProblem(SQUARE, conditions=[sd.Dirichlet(sd.param(2.0), on="x_min")], network=network)
    assert "values.0.0" in sd.vectorize(problem.complete(anything)).names


def test_jacobians_by_point_are_those_of_the_residuals():
    from sciad.problems.collocated import Collocated, Setting

    class Decay(eqx.Module):
        rate: sd.Param = sd.param(0.3)

        def __call__(self, u, p):
            return sd.d(u, "x", "x")(p) + self.rate * u(p) ** 2, sd.d(u, "y")(p)

    problem = sd.PDEProblem(
        SQUARE, conditions=[sd.Neumann(1.0, "y_min")], network=network, data=table(x=[0, 1], y=[0, 1], u=[1, 2])
    )
    full = sd.vectorize(problem.complete(Decay()))
    system = Collocated(full, problem)
    rows = jax.tree.map(jnp.asarray, problem.design(20, 0))
    setting = Setting(rows, jnp.array([0.3]), {name: jnp.asarray(2.0) for name in rows})
    location = jnp.asarray(full.vector)[system.places]
    jacobian, (residuals, _) = jax.jit(lambda v: system.linearised(v, setting))(location)
    expected = jax.jit(jax.jacfwd(lambda v: system.residuals(v, setting)[0]))(location)
    assert np.allclose(residuals, system.residuals(location, setting)[0], atol=1e-14)
    assert np.allclose(jacobian, expected, atol=1e-12)
    assert jacobian.shape == (2 * 20 + 2 + 2, location.size)


def test_points_move_into_the_first_part_of_the_time():
    domain = sd.Box(x=(0, 1), t=(2, 4))
    problem = sd.PDEProblem(domain, conditions=[sd.Initial(0.0), sd.Neumann(0.0, "t_max")])
    points = np.array([[0.5, 2.0], [0.5, 3.0], [0.5, 4.0]])
    assert problem.until(0.5, points)[:, 1].tolist() == [2.0, 2.5, 4.0]
    assert problem.until(1.0, points) is points
    assert sd.PDEProblem(domain).until(0.5, points) is points


# --- integrals ---


def drifting(u, p):
    return p.x * sd.d(u, "x")(p) + u(p) + sd.d(u, "x", "x")(p)  # (x u)' + u'': a density at rest


def test_an_integral_picks_one_of_many_solutions():
    line = sd.Box(x=(-6, 6))
    problem = sd.PDEProblem(line, conditions=[sd.Dirichlet(0.0), sd.Integral(1.0)])
    assert str(problem).endswith("dirichlet on x_min, x_max (exact); integral over x (by points)")
    fit = sd.fit(problem, drifting, solver=sd.LastLayer(width=120, points=300), progress=False)
    x = np.linspace(-5, 5, 41)
    assert fit(x=x)["u"].to_numpy() == pytest.approx(np.exp(-(x**2) / 2) / np.sqrt(2 * np.pi), abs=1e-6)


def test_integrals_are_exact_for_polynomials_at_each_value_of_the_others():
    box = sd.Box(x=(0, 2), y=(-1, 1), t=(0, 3))

    def u(p):
        return p.x**3 * p.y**2 * p.t + 1.0

    for condition, exact in [
        (sd.Integral(0.0), lambda p: 4.0 * 2 / 3 * p.t + 4.0),
        (sd.Integral(0.0, over="x"), lambda p: 4.0 * p.y**2 * p.t + 2.0),
        (sd.Integral(0.0, lambda u, p: u(p) * p.x, over=("x",)), lambda p: 32 / 5 * p.y**2 * p.t + 2.0),
    ]:
        points, rule = condition.rows(box, "", 100, 0)
        p = sd.Point(dict(zip(box.coordinates, jnp.asarray(points[3]), strict=True)))
        one = jax.tree.map(lambda x: jnp.asarray(x[3]), rule)
        (missed,) = condition.misses(u, condition.values(), p, one)
        assert float(missed) == pytest.approx(float(exact(p)), rel=1e-12)


def test_integrals_over_other_domains_are_by_points():
    disk = sd.Disk((0, 0), 1.0)
    points, rule = sd.Integral(0.0).rows(disk, "", 100, 0)
    assert points.shape == (1, 2)
    assert np.sum(rule.weights * sum(x**2 for x in rule.nodes.values())) == pytest.approx(np.pi / 2, rel=1e-3)
    cube = sd.Box(a=(0, 1), b=(0, 1), c=(0, 2), t=(0, 1))
    _, rule = sd.Integral(0.0).rows(cube, "", 100, 0)
    assert np.sum(rule.weights[0] * np.prod([x[0] for x in rule.nodes.values()], axis=0)) == pytest.approx(
        0.5, rel=1e-2
    )


@pytest.mark.parametrize(
    ("domain", "over", "message"),
    [
        (sd.Box(x=(0, 1)), "z", r"Integral\(over='z'\): the domain has no such coordinate"),
        (sd.Box(t=(0, 1)), None, "nothing to integrate over"),
        (sd.Disk((0, 0), 1.0), "x", "on a domain that is no sd.Box"),
    ],
)
def test_integrals_that_cannot_be(domain, over, message):
    with pytest.raises(sd.InputError, match=message):
        sd.PDEProblem(domain, conditions=[sd.Integral(1.0, over=over)])


def test_values_on_many_faces_cost_no_more_than_on_one():
    names = tuple("abcdef")

    def total(p):
        return sum(p[name] ** 2 for name in names)

    calls = []

    def counted(p):
        calls.append(p)
        return total(p)

    cube = sd.Box(**dict.fromkeys(names, (0, 1)))
    problem = sd.PDEProblem(cube, conditions=[sd.Dirichlet(counted)])
    assert "(exact)" in str(problem)
    plain = sd.unwrap(problem.complete(lambda u, p: u(p)))
    calls.clear()
    face = problem.point(jnp.array([0.3, 0.1, 1.0, 0.4, 0.5, 0.6]))
    assert float(problem.field(plain)(face)) == pytest.approx(float(total(face)), rel=1e-12)
    assert len(calls) == 1


def test_what_would_take_too_many_blends_is_met_at_points():
    names = tuple("abcd")
    cube = sd.Box(**dict.fromkeys(names, (0, 1)))

    def ends(*chosen):
        return [f"{name}_{end}" for name in chosen for end in ("min", "max")]

    conditions = [sd.Dirichlet(1.0, on=ends("a", "b")), sd.Dirichlet(1.0, on=ends("c", "d"))]
    words = str(sd.PDEProblem(cube, conditions=conditions))
    assert words.count("(exact)") == words.count("(by points)") == 1
    zero = [sd.Dirichlet(0.0, on=ends("a", "b")), sd.Dirichlet(0.0, on=ends("c", "d"))]
    assert str(sd.PDEProblem(cube, conditions=zero)).count("(exact)") == 2  # nothing is blended


def test_values_that_do_not_go_on_inside_are_told():
    def value(p):
        return jnp.sqrt(p.x**2 + p.y**2 - 0.5)

    with pytest.raises(sd.InputError, match=r"carried into the domain for u, are not finite at .*hard=False"):
        sd.PDEProblem(sd.Disk((0, 0), 1.0), conditions=[sd.Dirichlet(value)])
    assert "by points" in str(sd.PDEProblem(sd.Disk((0, 0), 1.0), conditions=[sd.Dirichlet(value, hard=False)]))
