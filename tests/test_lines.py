"""Partial differential equations by the method of lines, held against exact solutions."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
import xarray as xr

import sciad as sd
from sciad._fit_lines import LinesFit
from sciad._roles import unwrap
from sciad.problems.grids import chebyshev, fourier, interpolation

SPAN = sd.Box(x=(0, 1), t=(0, 0.5))
SINE = sd.Initial(lambda p: jnp.sin(jnp.pi * p.x))


def heat(u, p):
    return sd.d(u, "t")(p) - 0.3 * sd.d(u, "x", "x")(p)


def cooled(x, t, rate=0.3):
    return np.exp(-rate * np.pi**2 * t) * np.sin(np.pi * x)


# --- grids ---


def test_spectral_derivatives_and_interpolation_are_exact_on_their_functions():
    grid = chebyshev(-1.0, 2.0, 9)
    powers = grid.nodes[:, None] ** np.arange(9)
    derivative = np.arange(1, 9) * grid.nodes[:, None] ** np.arange(8)
    assert grid.derivatives[0] @ powers[:, 1:] == pytest.approx(derivative, abs=1e-9)
    assert grid.derivatives[1] @ grid.nodes**4 == pytest.approx(12 * grid.nodes**2, abs=1e-8)
    at = np.array([-1.0, -0.3, 0.7, 2.0])
    assert interpolation(grid, at) @ grid.nodes**7 == pytest.approx(at**7, abs=1e-10)
    ring = fourier(0.0, 3.0, 10)
    assert len(ring.nodes) == 11  # made odd
    angle = 2 * np.pi * ring.nodes / 3
    assert ring.derivatives[2] @ np.sin(4 * angle) == pytest.approx(
        -((8 * np.pi / 3) ** 3) * np.cos(4 * angle), abs=1e-7
    )
    at = np.array([0.0, 0.4, 2.99, 3.0])
    assert interpolation(ring, at) @ np.cos(3 * angle) == pytest.approx(np.cos(2 * np.pi * at), abs=1e-12)


# --- solving ---


def solved(equation, exact, conditions, domain=SPAN, points=20, **fields):
    problem = sd.PDEProblem(domain, conditions=conditions, **fields)
    x, t = np.linspace(*domain.bounds[0], 9), np.linspace(*domain.bounds[1], 4)
    found = sd.MethodOfLines(problem, points=points).solve(equation, x=x, t=t)
    first = found[problem.fields[0]]
    assert first.dims == ("t", "x")
    return float(np.abs(first.to_numpy() - exact(x[None], t[:, None])).max())


@pytest.mark.slow
def test_values_and_slopes_together_and_any_condition_at_the_ends():
    # x² + 0.6 t, whose value and outward slope are 0.6 t and 0 at the left, 1 + 0.6 t and 2 at the right
    square = [sd.Initial(lambda p: p.x**2), sd.Robin(lambda p: 0.6 * p.t, "x_min", a=1.0, b=1.0)]
    square += [sd.Operator(lambda u, p, n: u(p) + sd.d(u, "x")(p) - 3 - 0.6 * p.t + 0 * n[0], "x_max")]
    assert solved(heat, lambda x, t: x**2 + 0.6 * t, square, points=10) < 1e-7


@pytest.mark.slow
def test_values_or_slopes_at_the_ends():
    assert solved(heat, cooled, [SINE, sd.Dirichlet(0.0)]) < 1e-6
    cosine = sd.Initial(lambda p: jnp.cos(jnp.pi * p.x))
    assert solved(heat, lambda x, t: cooled(x + 0.5, t), [cosine, sd.Neumann(0.0)]) < 1e-6


@pytest.mark.slow
def test_what_comes_in_at_one_end_alone():
    def carried(u, p):
        return sd.d(u, "t")(p) + 2.0 * sd.d(u, "x")(p)

    conditions = [sd.Initial(lambda p: jnp.sin(p.x)), sd.Dirichlet(lambda p: jnp.sin(-2 * p.t), "x_min")]
    assert solved(carried, lambda x, t: np.sin(x - 2 * t), conditions) < 1e-6


@pytest.mark.slow
def test_waves_have_rates():
    def wave(u, p):
        return sd.d(u, "t", "t")(p) - 4 * sd.d(u, "x", "x")(p)

    def exact(x, t):
        slow, fast = np.sin(np.pi * x) * np.cos(2 * np.pi * t), np.sin(2 * np.pi * x) * np.sin(4 * np.pi * t)
        return slow + fast / (4 * np.pi)

    start = sd.Initial(lambda p: jnp.sin(jnp.pi * p.x), lambda p: jnp.sin(2 * jnp.pi * p.x))
    assert solved(wave, exact, [start, sd.Dirichlet(0.0)], points=24) < 1e-6


@pytest.mark.slow
def test_rings_have_no_ends():
    def around(u, p):
        return sd.d(u, "t")(p) + sd.d(u, "x")(p) + 0.01 * sd.d(u, "x", "x", "x")(p)

    domain, k = sd.Box(x=(0, 1), t=(0, 0.5)), 2 * np.pi
    ring = [sd.Initial(lambda p: jnp.cos(k * p.x)), sd.Periodic("x")]
    assert solved(around, lambda x, t: np.cos(k * x - (k - 0.01 * k**3) * t), ring, domain) < 1e-6


def test_systems_are_solved_for_all_rates_at_once():
    def turning(u, p):  # i u_t = -u_xx in two real parts, each equation a mixture of both
        first = sd.d(u.a, "t")(p) + sd.d(u.b, "x", "x")(p)
        second = sd.d(u.b, "t")(p) - sd.d(u.a, "x", "x")(p)
        return first + second, first - 2 * second

    pair = [sd.Initial(lambda p: jnp.sin(jnp.pi * p.x), field="a"), sd.Initial(0.0, field="b")]
    pair += [sd.Dirichlet(0.0, field="a"), sd.Dirichlet(0.0, field="b")]
    found = solved(turning, lambda x, t: np.cos(np.pi**2 * t) * np.sin(np.pi * x), pair, points=12, fields=("a", "b"))
    assert found < 1e-5


# --- estimates ---


class Rod(eqx.Module):
    rate: sd.Param = sd.param(1.0, prior=dist.LogNormal(-1.0, 1.0))

    def __call__(self, u, p):
        return sd.d(u, "t")(p) - self.rate * sd.d(u, "x", "x")(p)


def observed(noise=None, number=40):
    rng = np.random.default_rng(3)
    x, t = rng.random(number), 0.5 * rng.random(number)
    y = cooled(x, t) + 0.02 * rng.standard_normal(number)
    data = xr.Dataset({"u": ("row", y)}, {"x": ("row", x), "t": ("row", t)})
    problem = sd.PDEProblem(SPAN, conditions=[SINE, sd.Dirichlet(0.0)], data=data, noise=noise)
    return sd.MethodOfLines(problem, points=12), x, t, y


def test_estimates_are_those_of_least_squares_on_the_exact_solution():
    from scipy.optimize import curve_fit

    problem, x, t, y = observed()
    fit = sd.fit(problem, Rod(), progress=False)
    (best,), cov = curve_fit(lambda at, rate: cooled(*at, rate), np.stack([x, t]), y, p0=[0.5])
    table = fit.table()
    assert fit.stats["converged"]
    assert fit.warnings == []
    assert table.loc["rate", "value"] == pytest.approx(best, rel=1e-5)
    assert table.loc["rate", "standard_error"] == pytest.approx(np.sqrt(cov[0, 0]), rel=1e-3)
    assert table.loc["noise.u.scale", "value"] == pytest.approx(np.std(y - cooled(x, t, best)), rel=1e-2)
    assert "12 nodes" in str(fit)
    assert repr(fit) == "<LinesFit: rate, noise.u.scale>"


@pytest.mark.slow
@pytest.mark.loose_promotion
def test_draws_follow_the_posterior_by_quadrature():
    problem, x, t, y = observed(noise=sd.Normal(0.02))
    posterior = sd.sample(problem, Rod(), chains=2, draws=400, key=0, progress=False)
    rates = np.linspace(0.2, 0.45, 4001)
    log = np.array([-np.sum((y - cooled(x, t, r)) ** 2) / (2 * 0.02**2) for r in rates])
    log += np.asarray(dist.LogNormal(-1.0, 1.0).log_prob(jnp.asarray(rates)))
    weight = np.exp(log - log.max())
    mean = np.sum(weight * rates) / weight.sum()
    sd_ = np.sqrt(np.sum(weight * (rates - mean) ** 2) / weight.sum())
    row = posterior.summary().loc["rate"]
    assert row["ess_bulk"] > 150
    assert abs(row["mean"] - mean) / row["mcse_mean"] < 4
    assert abs(row["sd"] - sd_) / row["mcse_sd"] < 4


@pytest.mark.usefixtures("unchecked", "workplace")
def test_what_cannot_be_solved_by_lines_is_refused():
    twice = [SINE, sd.Neumann(0.0, "x_min"), sd.Robin(0.0, "x_min", a=1.0, b=1.0)]
    with pytest.raises(sd.InputError, match=r"expected an sd\.PDEProblem"):
        sd.MethodOfLines(heat)
    with pytest.raises(sd.InputError, match=r"on an sd\.Box of time and one other coordinate"):
        sd.MethodOfLines(sd.PDEProblem(sd.Box(x=(0, 1), y=(0, 1)), conditions=[sd.Dirichlet(0.0)]))
    with pytest.raises(sd.OptionError, match=r"points=3.*at least 5"):
        sd.MethodOfLines(sd.PDEProblem(SPAN, conditions=[SINE]), points=3)
    with pytest.raises(sd.InputError, match="v has no initial value"):
        sd.MethodOfLines(sd.PDEProblem(SPAN, fields=("u", "v"), conditions=[sd.Initial(0.0, field="u")]))
    with pytest.raises(sd.InputError, match="more conditions on x_min than fields"):
        sd.MethodOfLines(sd.PDEProblem(SPAN, conditions=twice))
    with pytest.raises(sd.InputError, match=r"does not take sd\.Integral"):
        sd.MethodOfLines(sd.PDEProblem(SPAN, conditions=[SINE, sd.Integral(1.0)]))
    rod = sd.MethodOfLines(sd.PDEProblem(SPAN, conditions=[SINE, sd.Dirichlet(0.0)]), points=12)
    for equation, message in [
        (lambda u, p: sd.d(u, "x", "x")(p), "does not give a rate of each field"),
        (lambda u, p: sd.d(u, "t")(p) * (1 + sd.d(u, "t")(p)) - u(p), "not linear in its derivative"),
        (lambda u, p: sd.d(u, "t")(p) - sd.d(u, "x", "t")(p), "derivatives in space and time at once"),
        (lambda u, p: (sd.d(u, "t")(p), u(p)), "returns 2 numbers for 1 fields"),
    ]:
        with pytest.raises(sd.InputError, match=message):
            rod.solve(equation)
    with pytest.raises(sd.InputError, match=r"expected numbers in 0 \.\. 1"):
        rod.solve(heat, x=[2.0])
    with pytest.raises(sd.InputError, match="has the coordinates x, t"):
        rod.solve(heat, z=[2.0])
    with pytest.raises(sd.InputError, match="could not be solved"):
        rod.solve(lambda u, p: sd.d(u, "t")(p) - 50 * u(p) ** 2)
    with pytest.raises(sd.InputError, match="nothing to fit by MethodOfLines without observations"):
        sd.fit(rod, heat)
    with pytest.raises(sd.InputError, match="Nothing is unknown"):
        sd.fit(observed()[0], heat)
    with pytest.raises(sd.OptionError, match="only solver and progress"):
        sd.fit(observed()[0], Rod(), priors=True)
    with pytest.raises(sd.OptionError, match="only solver and progress"):
        sd.fit(observed()[0], Rod(), key=1)
    with pytest.raises(sd.InputError, match=r"got a LinesFit\. Print it instead"):
        sd.report("nowhere", fit=object.__new__(LinesFit))
    with pytest.raises(sd.InputError, match="a field's weights are not drawn"):
        sd.sample(rod.problem, heat)


@pytest.mark.slow
def test_derivatives_of_a_solution_are_those_of_finite_differences():
    problem, *_ = observed(noise=sd.Normal(0.02))

    plain = unwrap(problem.complete(Rod(sd.param(0.3))))

    @jax.jit
    def loss(rate, plain=plain):
        plain = eqx.tree_at(lambda program: program.equation.rate, plain, rate)
        mean, _ = problem.predict(plain)
        return jnp.sum(mean**2)

    slope = float(jax.grad(loss)(jnp.asarray(0.3)))
    step = 1e-4
    assert slope == pytest.approx(float(loss(0.3 + step) - loss(0.3 - step)) / (2 * step), rel=1e-5)
