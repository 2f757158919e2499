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


@pytest.mark.slow
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


# --- what is beside the estimate ---


def test_a_fit_is_kept_round_by_round_and_goes_on(tmp_path):
    problem = sd.PDEProblem(LINE, conditions=[sd.Dirichlet(1.0, "x_min"), sd.Dirichlet(0.5, "x_max")], network=SMALL)
    file, equation = tmp_path / "fit.npz", lambda u, p: sd.d(u, "x", "x")(p) - 2 * u(p) ** 3

    def stop(_):
        if file.exists():
            raise KeyboardInterrupt

    short = sd.Collocation(points=64, hold=5, max_steps=10, watch=stop)
    first = sd.fit(problem, equation, solver=short, checkpoint=file, progress=False)
    assert first.stats["interrupted"]
    assert not first.stats["solved"]
    second = sd.fit(problem, equation, solver=QUICK, checkpoint=file, progress=False)
    assert second.history["held_out"].to_numpy()[0] == pytest.approx(first.stats["held_out"])
    assert second.stats["solved"]
    kept = sd.load(file, problem.complete(equation))
    assert float(problem.on_grid(kept, x=0.3)["u"][0]) == float(second(x=0.3)["u"][0])
    assert float(second.equation_residual(x=np.linspace(0, 1, 50)).max()) < 1e-4
    with pytest.raises(sd.InputError, match="holds another program"):
        sd.fit(sd.PDEProblem(LINE), equation, solver=QUICK, checkpoint=file, progress=False)


def posed_beside(data, points=100, weight=1.0):
    from sciad.problems.collocated import Collocated, Setting

    problem = sd.PDEProblem(LINE, data=data, noise=sd.Normal(0.1), network=functools.partial(MLP, width=2, depth=1))
    posed = Collocated(vectorize(problem.complete(Decay(), 0)), problem)
    rows = problem.design(points, 0)
    weights = {"equation": jnp.asarray(weight), "data": jnp.ones(())}
    return posed, Setting(jax.tree.map(jnp.asarray, rows), jnp.zeros(0), weights)


def test_the_linear_problem_is_that_of_dense_algebra():
    from sciad._field_errors import linearised, unsettled

    posed, setting = posed_beside(noisy(30))
    about = linearised(posed, posed.start, setting)
    jacobian, (residuals, _) = (
        np.asarray(x) if i == 0 else x for i, x in enumerate(posed.linearised(posed.start, setting))
    )
    jacobian, residuals = jacobian * np.sqrt(30), np.asarray(residuals) * np.sqrt(30)
    shift = np.linalg.lstsq(jacobian, -residuals, rcond=None)[0]
    assert about.shift == pytest.approx(shift, rel=1e-5, abs=1e-6 * np.abs(shift).max())
    at_data = np.asarray(jax.jacfwd(lambda v: posed.predictions(v, setting)[:, 0])(posed.start)) / 0.1
    assert np.abs(jacobian[posed.data_rows(posed.start, setting)]) == pytest.approx(np.abs(at_data))
    hat = at_data @ np.linalg.pinv(jacobian.T @ jacobian) @ at_data.T
    assert about.effective == pytest.approx(2 * np.trace(hat) - np.sum(hat**2), rel=1e-5)
    (name,) = unsettled(posed, about)
    place = posed.full.names.index("equation.rate")
    assert name == "rate"
    assert unsettled(posed, about)[name] == pytest.approx(abs(about.shift[place]) / about.errors[place])


def test_fewer_rows_than_unknown_numbers_leave_directions_open():
    from sciad._field_errors import linearised

    posed, setting = posed_beside(noisy(2), points=3)
    about = linearised(posed, posed.start, setting)
    assert about.root.shape == (posed.start.size, posed.start.size)
    assert np.linalg.matrix_rank(about.root) == posed.start.size
    assert about.effective == pytest.approx(2.0, abs=1e-6)  # both are followed exactly


@pytest.mark.parametrize("noise", [sd.Normal(), sd.LogNormal()])
def test_observations_that_are_used_up_do_not_tell_of_the_noise(noise):
    from sciad._field_course import _freed

    y = np.exp(np.random.default_rng(0).standard_normal(50))
    problem = sd.PDEProblem(LINE, data=xr.Dataset({"u": ("x", y)}, {"x": np.linspace(0, 1, 50)}), noise=noise)
    mean = y * 1.1
    freed = _freed(problem, mean[:, None], np.array([20.0]))[:, 0]
    model = noise if isinstance(noise, sd.Normal) else sd.LogNormal(1.0)
    model = sd.Normal(1.0) if isinstance(noise, sd.Normal) else model
    ratio = model.residual(jnp.asarray(freed), jnp.asarray(y)) / model.residual(jnp.asarray(mean), jnp.asarray(y))
    assert np.asarray(ratio) == pytest.approx(np.sqrt(50 / 30))


@pytest.mark.slow
def test_the_noise_of_a_free_field_is_not_taken_for_less():
    # Sixty wiggly observations and a source that may be anything: the field uses up a good part of them.
    found, truth = [], 0.1
    for seed in range(5):
        rng = np.random.default_rng(seed)
        x = np.linspace(0, 1, 60)
        data = xr.Dataset({"u": ("x", np.sin(6 * x) + truth * rng.standard_normal(60))}, {"x": x})

        class Source(eqx.Module):
            values: sd.Param = sd.param(np.zeros(12))

            def __call__(self, u, p):
                basis = jnp.cos(jnp.pi * jnp.arange(12.0) * p.x)
                return sd.d(u, "x")(p) - jnp.dot(self.values, basis)

        problem = sd.PDEProblem(LINE, data=data, network=SMALL)
        fit = sd.fit(problem, Source(), solver=sd.Collocation(points=200, budget=60.0), progress=False)
        scale = dict(zip(fit.names, fit.values, strict=True))["noise.u.scale"]
        error = dict(zip(fit.names, fit.standard_errors, strict=True))["noise.u.scale"]
        found.append((scale - truth) / error)
    # thirteen of sixty are used up: without a correction the mean would be about -1.2
    assert abs(np.mean(found)) < 3 / np.sqrt(5) * 0.6


def test_estimates_that_have_not_come_to_rest_are_told(monkeypatch):
    import sciad._field_course as course

    monkeypatch.setattr(course, "WEIGHTS", (1.0,))  # at once at full weight, and stopped long before the end
    problem = sd.PDEProblem(LINE, data=noisy(), network=SMALL)
    fit = sd.fit(problem, Decay(), solver=sd.Collocation(points=64, hold=3, max_steps=7), progress=False)
    assert not fit.stats["solved"]
    assert any("Estimates would still move if the fit went on: rate by" in told for told in fit.warnings), fit.warnings


def test_residuals_of_the_data_are_by_their_noise():
    problem = sd.PDEProblem(LINE, data=noisy(20), noise=sd.Normal(0.05), network=SMALL)
    fit = sd.fit(problem, Decay(), solver=sd.Collocation(points=64, hold=5, max_steps=5), progress=False)
    found = fit.residuals
    assert list(found.coords) == ["x"]
    away = np.abs(fit.prediction()[:, 0] - noisy(20)["u"].to_numpy())
    assert np.abs(found["u"].to_numpy()) == pytest.approx(away / 0.05)


def test_films_and_pictures(tmp_path):
    from PIL import Image

    problem = sd.PDEProblem(sd.Box(x=(0, 1), t=(0, 1)), conditions=[sd.Initial(lambda p: jnp.sin(jnp.pi * p.x))])
    few = sd.LastLayer(width=40, points=100)
    fit = sd.fit(problem, lambda u, p: sd.d(u, "t")(p) + u(p), solver=few, progress=False)
    with Image.open(fit.animate(tmp_path / "decay.gif", frames=4)) as film:
        assert film.n_frames == 4
    assert len(fit.draw().axes) == 3
    plane = sd.fit(sd.PDEProblem(sd.Box(x=(0, 1), y=(0, 1), t=(0, 1)), conditions=[sd.Initial(1.0)]),
                   lambda u, p: sd.d(u, "t")(p) + u(p), solver=few, progress=False)  # fmt: skip
    assert plane.animate(tmp_path / "plane.gif", frames=2).exists()
    with pytest.raises(sd.InputError, match=r"ends in \.gif"):
        fit.animate(tmp_path / "decay.mp4")
    with pytest.raises(sd.InputError, match=r"animate\(over='z'\)"):
        fit.animate(tmp_path / "decay.gif", over="z")
    with pytest.raises(sd.InputError, match="two or more"):
        fit.animate(tmp_path / "decay.gif", frames=1)
    with pytest.raises(sd.InputError, match="There is no field 'v'"):
        fit.animate(tmp_path / "decay.gif", field="v")
    with pytest.raises(sd.InputError, match="no residuals of data"):
        fit.residuals  # noqa: B018
