"""Fields fitted to equations with known solutions."""

import functools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
import xarray as xr
from numpyro.distributions import constraints

import sciad as sd
from sciad._vector import vectorize
from sciad.models.networks import MLP

LINE = sd.Box(x=(0, 1))
SMALL = functools.partial(MLP, width=8, depth=2)
QUICK = sd.Collocation(points=64, hold=30, budget=60.0, patience=2, max_steps=300)


def rel_l2(fit, exact, **axes):
    found = fit(**axes)["u"].to_numpy()
    true = exact(*np.meshgrid(*axes.values(), indexing="ij"))
    return float(np.linalg.norm(found - true) / np.linalg.norm(true))


def poisson(u, p):
    return sd.laplacian(u, "x", "y")(p) + 2 * jnp.pi**2 * jnp.sin(jnp.pi * p.x) * jnp.sin(jnp.pi * p.y)


def test_linear_equations_are_solved_to_rounding():
    problem = sd.PDEProblem(sd.Box(x=(0, 1), y=(0, 1)), conditions=[sd.Dirichlet(0.0)])
    fit = sd.fit(problem, poisson, solver=sd.LastLayer(width=120, points=300), progress=False)
    grid = np.linspace(0, 1, 21)
    assert rel_l2(fit, lambda x, y: np.sin(np.pi * x) * np.sin(np.pi * y), x=grid, y=grid) < 1e-9
    assert fit.held_out["equation"] < 1e-6
    assert fit.message.startswith("Linear: 120 random features")
    assert "equation: root mean square" in str(fit)


def test_slopes_and_mixed_conditions_are_met():
    problem = sd.PDEProblem(LINE, conditions=[sd.Neumann(-1.0, "x_min"), sd.Robin(5.0, "x_max", a=1.0, b=1.0)])
    few = sd.LastLayer(width=40, points=100)
    fit = sd.fit(problem, lambda u, p: sd.d(u, "x", "x")(p) - 2.0, solver=few, progress=False)
    # u = x² + x + c with -u'(0) = -1 and u(1) + u'(1) = 2 + c + 3 = 5
    assert rel_l2(fit, lambda x: x**2 + x, x=np.linspace(0, 1, 11)) < 1e-9


def test_nonlinear_equations_are_solved_to_many_digits():
    # u'' = 2 u³ has the solution 1/(1 + x)
    problem = sd.PDEProblem(LINE, conditions=[sd.Dirichlet(1.0, "x_min"), sd.Dirichlet(0.5, "x_max")], network=SMALL)
    fit = sd.fit(problem, lambda u, p: sd.d(u, "x", "x")(p) - 2 * u(p) ** 3, solver=QUICK, progress=False)
    assert rel_l2(fit, lambda x: 1 / (1 + x), x=np.linspace(0, 1, 21)) < 1e-8
    assert fit.warnings == []
    assert fit.held_out["equation"] < 1e-6
    derivative = sd.d(fit.field, "x")(sd.Point({"x": 0.5}))
    assert float(derivative) == pytest.approx(-1 / 1.5**2, abs=1e-6)


class Decay(eqx.Module):
    rate: sd.Param = sd.param(1.0, constraint=constraints.positive)

    def __call__(self, u, p):
        return sd.d(u, "x")(p) + self.rate * u(p)


def noisy(number=200, scale=0.05, seed=1):
    x = np.linspace(0, 1, number)
    y = 2 * np.exp(-3 * x) + scale * np.random.default_rng(seed).standard_normal(number)
    return xr.Dataset({"u": ("x", y)}, coords={"x": x})


@pytest.mark.slow
def test_unknown_numbers_have_the_errors_of_least_squares():
    # The equation has the solution a exp(-k x): the fit is that of this curve by nonlinear least squares.
    from scipy.optimize import curve_fit

    data = noisy()
    problem = sd.PDEProblem(LINE, data=data, network=SMALL)
    fit = sd.fit(problem, Decay(), solver=QUICK, progress=False)
    x, y = data["x"].to_numpy(), data["u"].to_numpy()
    best, covariance = curve_fit(lambda x, a, k: a * np.exp(-k * x), x, y, p0=(1.0, 1.0))
    assert fit.names == ("rate", "noise.u.scale")
    error = np.sqrt(covariance[1, 1])
    assert fit.values[0] == pytest.approx(best[1], abs=0.1 * error)
    assert fit.standard_errors[0] == pytest.approx(error, rel=0.05)
    scale = np.sqrt(np.mean((y - best[0] * np.exp(-best[1] * x)) ** 2))
    assert fit.values[1] == pytest.approx(scale, rel=0.01)
    assert fit.standard_errors[1] == pytest.approx(scale / np.sqrt(2 * x.size), rel=0.05)
    assert fit.prediction().shape == (200, 1)
    at = np.array([0.0, 0.4, 1.0])
    slopes = np.stack([np.exp(-best[1] * at), -best[0] * at * np.exp(-best[1] * at)], axis=1)
    expected = np.sqrt(np.einsum("ni,ij,nj->n", slopes, covariance, slopes))
    assert fit.field_error(x=at)["u"].to_numpy() == pytest.approx(expected, rel=0.05)
    assert "rate" in str(fit)


def test_unknown_numbers_are_found():
    problem = sd.PDEProblem(LINE, data=noisy(40), network=functools.partial(MLP, width=5, depth=1))
    solver = sd.Collocation(points=32, hold=20, patience=1, max_steps=200)
    fit = sd.fit(problem, Decay(), solver=solver, progress=False)
    assert abs(fit.values[0] - 3.0) < 4 * fit.standard_errors[0] < 1.0
    assert "rate" in str(fit)
    assert fit.error_of(lambda program: program.equation.rate) == pytest.approx(fit.standard_errors[0])
    assert fit.error_of(lambda program: jnp.stack([program.equation.rate, 2 * program.equation.rate])).shape == (2,)


@pytest.mark.slow
def test_priors_that_count_are_observations_of_what_they_are_on():
    from scipy.optimize import least_squares

    prior, scale = (2.0, 0.1), 0.05
    problem = sd.PDEProblem(LINE, data=noisy(40), noise=sd.Normal(sd.frozen(scale)), network=SMALL)
    program = Decay(sd.param(1.0, prior=dist.Normal(*prior)))
    fit = sd.fit(problem, program, solver=QUICK, priors=True, progress=False)
    x, y = (noisy(40)[name].to_numpy() for name in ("x", "u"))

    def residuals(theta):
        return np.append((y - theta[0] * np.exp(-theta[1] * x)) / scale, (theta[1] - prior[0]) / prior[1])

    best = least_squares(residuals, [1.0, 1.0])
    error = np.sqrt(np.linalg.inv(best.jac.T @ best.jac)[1, 1])
    assert fit.values[0] == pytest.approx(best.x[1], abs=0.1 * error)
    assert fit.standard_errors[0] == pytest.approx(error, rel=0.05)
    assert abs(best.x[1] - 3.0) > 3 * error  # the prior pulls


class Source(eqx.Module):
    values: jax.Array

    def __call__(self, u, p):
        return sd.d(u, "x", "x")(p) - jnp.polyval(self.values, p.x)


def test_functions_in_the_equation_are_not_told_number_by_number():
    problem = sd.PDEProblem(LINE, data=noisy(40), network=functools.partial(MLP, width=5, depth=1))
    solver = sd.Collocation(points=32, hold=5, patience=1, max_steps=10)
    fit = sd.fit(problem, Source(jnp.zeros(25)), solver=solver, progress=False)
    assert fit.names == ("noise.u.scale",)
    assert fit.error_of(lambda program: jnp.polyval(program.equation.values, 0.5)) > 0


def test_data_of_known_noise_are_no_linear_solve():
    # a hundred features would take all noise of forty data for signal
    problem = sd.PDEProblem(LINE, data=noisy(40), noise=sd.Normal(sd.frozen(0.05)), network=SMALL)

    def equation(u, p):
        return sd.d(u, "x")(p) + 3 * u(p)

    assert not any("noise" in path for path in vectorize(problem.complete(equation)).sites)
    with pytest.raises(sd.InputError, match="with no data"):
        sd.fit(problem, equation, solver=sd.LastLayer(), progress=False)


def test_a_fit_that_ends_early_beside_data_says_so():
    # the second of two fields is not observed
    problem = sd.PDEProblem(LINE, fields=("u", "v"), data=noisy(40), network=SMALL)
    solver = sd.Collocation(points=16, hold=2, max_steps=1)
    fit = sd.fit(problem, lambda u, p: (u.v(p) - 50.0, sd.d(u.u, "x")(p) - u.v(p)), solver=solver, progress=False)
    assert any("still being tightened" in warning for warning in fit.warnings)


def test_an_equation_that_contradicts_the_data_is_told():
    problem = sd.PDEProblem(LINE, data=noisy(40), network=functools.partial(MLP, width=5, depth=1))
    solver = sd.Collocation(points=32, hold=10, patience=1, max_steps=200)
    fit = sd.fit(problem, lambda u, p: u(p) - 1e3, solver=solver, progress=False)
    assert any("is not met beside the data" in warning for warning in fit.warnings)


def test_a_fit_goes_on_from_a_program():
    problem = sd.PDEProblem(LINE, conditions=[sd.Dirichlet(1.0, "x_min")], network=SMALL)
    short = sd.Collocation(points=64, max_steps=5, hold=5)
    first = sd.fit(problem, lambda u, p: sd.d(u, "x")(p) + u(p) ** 2, solver=short, progress=False)
    second = sd.fit(problem, first.program, solver=short, progress=False)
    assert second.held_out["equation"] < 1.001 * first.held_out["equation"]  # the best is kept
    assert first.message == "The greatest number of steps was made."


def test_a_fit_that_goes_on_is_judged_by_an_untrained_network():
    problem = sd.PDEProblem(LINE, conditions=[sd.Dirichlet(1.0, "x_min")], network=SMALL)
    solver = sd.Collocation(points=64, hold=20, max_steps=40)
    first = sd.fit(problem, lambda u, p: sd.d(u, "x")(p) + u(p) ** 2, solver=solver, progress=False)
    second = sd.fit(problem, first.program, solver=solver, progress=False)
    assert first.warnings == second.warnings == []
    assert second.unsolved == first.unsolved
    assert second.held_out["equation"] < 1e-3 * second.unsolved["equation"]


def test_an_interrupt_keeps_the_best(monkeypatch):
    from sciad._progress import Progress

    def update(*arguments):
        if "step 3," in arguments[-1]:
            raise KeyboardInterrupt

    monkeypatch.setattr(Progress, "update", update)
    problem = sd.PDEProblem(LINE, conditions=[sd.Dirichlet(1.0, "x_min")], network=SMALL)
    fit = sd.fit(problem, lambda u, p: sd.d(u, "x")(p) + u(p) ** 2, solver=QUICK, progress=False)
    assert fit.message == "Interrupted."
    assert fit.stats["steps"] == 3
    assert any("not solved" in warning for warning in fit.warnings)


@pytest.fixture(scope="module")
def straight():
    with jax.numpy_dtype_promotion("strict"):
        problem = sd.PDEProblem(sd.Box(x=(0, 1), y=(0, 2)), conditions=[sd.Dirichlet(lambda p: p.x + p.y)])
        return sd.fit(problem, plate, solver=sd.LastLayer(width=20, points=50), progress=False)


def plate(u, p):
    return sd.laplacian(u, "x", "y")(p)


def test_fields_are_datasets(straight):
    found = straight(x=[0.0, 0.5], y=1.0)
    assert found["u"].dims == ("x", "y")
    assert found["u"].to_numpy().ravel().tolist() == pytest.approx([1.0, 1.5], abs=1e-9)
    assert np.isnan(straight(x=[0.5, 3.0], y=1.0)["u"].to_numpy()).ravel().tolist() == [False, True]
    assert repr(straight).startswith("<FieldFit: u, equation's residual")
    figure = straight.draw()
    assert len(figure.axes) == 3


ELSEWHERE = {
    "unknown coordinates": ({"x": 0.5, "y": 1.0, "z": 0.0}, "no coordinate 'z'"),
    "too few": ({"x": 0.5}, "needs y too"),
    "grids": ({"x": np.zeros((2, 2)), "y": 1.0}, r"shape \(2, 2\)"),
    "all outside": ({"x": 5.0, "y": 1.0}, "None of the points lies in the domain"),
}


@pytest.mark.parametrize("kind", ELSEWHERE)
def test_no_field_at(kind, straight):
    axes, words = ELSEWHERE[kind]
    with pytest.raises(sd.InputError, match=words):
        straight(**axes)


@pytest.mark.usefixtures("unchecked")
def test_what_cannot_be_fitted(straight):
    problem = straight.problem
    with pytest.raises(sd.OptionError, match=r"solved by sd\.Collocation or sd\.LastLayer"):
        sd.fit(problem, plate, solver=sd.LeastSquares())
    with pytest.raises(sd.OptionError, match="is of an ODEProblem"):
        sd.fit(problem, plate, starts=3)
    with pytest.raises(sd.OptionError, match="priors count beside data"):
        sd.fit(problem, plate, priors=True)
    with pytest.raises(sd.InputError, match="nothing that is unknown has a prior"):
        sd.fit(sd.PDEProblem(LINE, data=noisy(9)), Decay(), priors=True, solver=sd.Collocation(), progress=False)
    with pytest.raises(sd.InputError, match="no errors by chance"):
        straight.field_error(x=0.5, y=0.5)
    with pytest.raises(sd.InputError, match=r"not\. Take sd\.Collocation"):
        sd.fit(problem, lambda u, p: u(p) ** 2, solver=sd.LastLayer())
    with pytest.raises(sd.InputError, match="rate are unknown, and there are no data"):
        sd.fit(sd.PDEProblem(LINE, conditions=[sd.Dirichlet(1.0, "x_min")]), Decay(), progress=False)
    with pytest.raises(sd.InputError, match="no observations"):
        straight.prediction()
    wide = functools.partial(MLP, width=300)
    dense = sd.Collocation(engine=sd.GaussNewton(form="normal"))
    with pytest.raises(sd.InputError, match=r"GB of matrices for sd\.Collocation"):
        sd.fit(sd.PDEProblem(LINE, network=wide), lambda u, p: u(p) ** 2 - 1, solver=dense, progress=False)
    with pytest.raises(sd.OptionError, match=r"budget=-1.*positive"):
        sd.Collocation(budget=-1)
    with pytest.raises(sd.OptionError, match=r"width=0.*positive"):
        sd.LastLayer(width=0)
    with pytest.raises(sd.OptionError, match="between 0 and 1"):
        straight.table(level=95)


def bent(p):
    return p.x**2  # periodic on (-1, 1), where its slope jumps by four


def test_a_bend_at_the_seam_is_rounded_off():
    # the heat equation: x² = 1/3 + Σ 4 (-1)^k cos(k π x) / (k π)², each with its rate of decay
    rate = 0.05
    domain = sd.Box(x=(-1, 1), t=(0, 1))
    problem = sd.PDEProblem(domain, conditions=[sd.Initial(bent), sd.Periodic("x")], network=SMALL)
    assert "bent where x closes" in str(problem)
    solver = sd.Collocation(points=400, hold=40, patience=3, max_steps=400)
    fit = sd.fit(problem, lambda u, p: sd.d(u, "t")(p) - rate * sd.d(u, "x", "x")(p), solver=solver, progress=False)

    def exact(x, t):
        k = np.arange(1, 4000)[:, None, None]
        terms = 4 * np.where(k % 2 == 0, 1, -1) / (k * np.pi) ** 2 * np.cos(k * np.pi * x)
        return 1 / 3 + np.sum(terms * np.exp(-rate * (k * np.pi) ** 2 * t), axis=0)

    assert rel_l2(fit, exact, x=np.linspace(-1, 1, 41), t=np.array([0.01, 0.1, 0.5, 1.0])) < 1e-4
    assert rel_l2(fit, lambda x, t: x**2 + 0 * t, x=np.linspace(-1, 1, 41), t=np.array([0.0])) < 1e-9
    # 4 D T is the square of the layer's thickness, in shares of the length
    assert 2.0 * float(jnp.exp(fit.program.network.thickness[0])) == pytest.approx(np.sqrt(4 * rate), rel=0.02)
    assert fit.names == ()


def test_values_that_close_smoothly_need_no_layer():
    conditions = [sd.Initial(lambda p: jnp.cos(jnp.pi * p.x)), sd.Periodic("x")]
    assert sd.PDEProblem(sd.Box(x=(-1, 1), t=(0, 1)), conditions=conditions).seams == ()
    assert sd.PDEProblem(sd.Box(x=(-1, 1), t=(0, 1)), conditions=[sd.Initial(2.0), sd.Periodic("x")]).seams == ()


def test_waves_that_bend_at_the_seam_are_refused():
    with pytest.raises(sd.InputError, match="slopes at the two ends of x that differ by 4"):
        sd.PDEProblem(sd.Box(x=(-1, 1), t=(0, 1)), conditions=[sd.Initial(bent, 0.0), sd.Periodic("x")])


def test_time_is_taken_in_part_by_part():
    seen = []

    def watch(program):
        seen.append(program)

    problem = sd.PDEProblem(sd.Box(t=(0, 1)), conditions=[sd.Initial(0.0)], network=SMALL)
    solver = sd.Collocation(points=64, hold=20, growing=4, patience=2, max_steps=400, watch=watch)
    fit = sd.fit(problem, lambda u, p: sd.d(u, "t")(p) - jnp.cos(p.t), solver=solver, progress=False)
    assert rel_l2(fit, np.sin, t=np.linspace(0.1, 1, 10)) < 1e-7
    assert len(seen) >= 4
    early = problem.on_grid(seen[1], t=np.linspace(0.01, 0.25, 9))["u"].to_numpy()
    assert early == pytest.approx(np.sin(np.linspace(0.01, 0.25, 9)), abs=1e-3)
    assert not fit.stats["rising"]
