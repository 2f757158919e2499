"""The least-squares engine: certified answers, SciPy's answers under bounds and robust losses, derivatives."""

import jax
import jax.numpy as jnp
import numpy as np
import optimistix as optx
import pytest
from scipy import optimize

import sciad as sd
from sciad import GaussNewton, huber, soft_l1, student_t
from sciad.solvers.gauss_newton import descend
from tests import nist

RNG = np.random.default_rng(7)


def solve(fn, y0, args=None, *, solver=None, **options):
    settings = {"max_steps": 2000, "throw": False}
    return optx.least_squares(fn, solver or GaussNewton(), y0, args, options=options, **settings)


@pytest.mark.parametrize("name", nist.PROBLEMS)
def test_certified_regressions_to_six_digits_from_both_starts(name):
    problem, fn = nist.PROBLEMS[name], nist.residuals(name)
    certified = np.array(problem["certified"])
    found = jax.jit(jax.vmap(lambda start: solve(fn, start)))(jnp.array(problem["starts"]))
    for i in range(2):
        result = jax.tree.map(lambda x, i=i: x[i], found)
        assert bool(result.result == optx.RESULTS.successful)
        np.testing.assert_allclose(result.value, certified, rtol=1e-6, err_msg=f"{name}, start {i + 1}")
        n, p = result.stats["jacobian"].shape
        square = np.sum(np.asarray(result.stats["residuals"]) ** 2)
        if name == "Lanczos1":  # generated to 14 digits: what is left is their rounding
            assert square < 1e-20
            continue
        np.testing.assert_allclose(square, problem["residual_sum_of_squares"], rtol=1e-6)
        inverse = np.linalg.pinv(result.stats["jacobian"], rcond=1e-15)
        errors = np.sqrt(np.sum(inverse**2, axis=1) * square / (n - p))
        np.testing.assert_allclose(errors, problem["standard_deviations"], rtol=1e-4)


def curve(y, args):
    t, data = args
    return data - y[0] * jnp.exp(-y[1] * t) - y[2]


T = np.linspace(0.0, 4.0, 40)
DATA = 2.0 * np.exp(-1.3 * T) + 0.5 + 0.05 * RNG.standard_normal(40)
OUTLIERS = np.where(np.arange(40) % 9 == 4, 4.0, DATA)


@pytest.mark.parametrize("bounds", [([-9, -9, 0.6], [9, 9, 9]), ([0, 0, -9], [1.5, 9, 9]), ([0, 2, 0], [1.8, 3, 0.4])])
def test_under_bounds_the_answer_is_scipys(bounds):
    lower, upper = (jnp.array(b, float) for b in bounds)
    theirs = optimize.least_squares(
        lambda y: np.asarray(curve(y, (T, DATA))), np.clip([1.0, 1.0, 1.0], *bounds), bounds=bounds, xtol=1e-14,
        ftol=1e-14, gtol=1e-14,
    )  # fmt: skip
    ours = solve(curve, jnp.clip(jnp.ones(3), lower, upper), (T, DATA), lower=lower, upper=upper)
    assert bool(ours.result == optx.RESULTS.successful)
    np.testing.assert_allclose(ours.value, theirs.x, rtol=1e-5)
    assert np.any((ours.value == lower) | (ours.value == upper))


@pytest.mark.parametrize("loss", [huber, soft_l1])
def test_robust_losses_are_scipys(loss):
    start = jnp.array([1.0, 1.0, 1.0])
    expected = optimize.least_squares(
        lambda y: np.asarray(curve(y, (T, OUTLIERS))), start, loss=loss.__name__, f_scale=0.1, xtol=1e-14, ftol=1e-14,
        gtol=1e-14,
    )  # fmt: skip
    found = solve(lambda y, args: loss(curve(y, args), 0.1), start, (T, OUTLIERS))
    np.testing.assert_allclose(found.value, expected.x, rtol=1e-5)
    np.testing.assert_allclose(found.value, [2.0, 1.3, 0.5], atol=0.15)


@pytest.mark.parametrize("loss", [huber, soft_l1, student_t])
def test_robust_residuals_are_smooth_through_zero_and_grow(loss):
    r = jnp.array([-30.0, -1.0, -1e-9, 0.0, 1e-9, 1e-4, 1.0, 30.0])
    value, slope = jax.vmap(jax.value_and_grad(loss))(r)
    np.testing.assert_allclose(value, -np.asarray(loss(-r)), rtol=1e-12)
    assert np.all(np.isfinite(slope) & (slope > 0))
    assert np.all(np.abs(value) <= 1.2 * np.abs(r))
    assert abs(value[-1]) < 15.0


def test_students_residual_is_its_likelihood():
    from scipy import stats

    r, df = np.array([0.3, -2.0, 40.0]), 3.0
    loss = stats.t(df).logpdf(0.0) - stats.t(df).logpdf(r)
    np.testing.assert_allclose(student_t(jnp.array(r), df) ** 2 / 2, loss, rtol=1e-10)


@pytest.mark.parametrize("units", [1e-9, 1.0, 1e9])
def test_units_of_the_parameters_do_not_matter(units):
    scale = jnp.array([1.0, units, 1.0])
    found = solve(lambda y, args: curve(y / scale, args), jnp.ones(3) * scale, (T, DATA))
    plain = solve(curve, jnp.ones(3), (T, DATA))
    np.testing.assert_allclose(found.value / scale, plain.value, rtol=1e-7)
    assert abs(int(found.stats["num_steps"]) - int(plain.stats["num_steps"])) <= 1


def test_primal_and_dual_form_take_the_same_steps():
    a, b = jnp.asarray(RNG.standard_normal((6, 40))), jnp.asarray(RNG.standard_normal(6))

    def wide(y, _):
        return jnp.tanh(a @ y) - 0.3 * b

    start = jnp.asarray(0.01 * RNG.standard_normal(40))
    found = [solve(wide, start, solver=GaussNewton(form=form)) for form in ("primal", "dual", "auto")]
    for one in found:
        assert bool(one.result == optx.RESULTS.successful)
        np.testing.assert_allclose(wide(one.value, None), 0.0, atol=1e-9)
        np.testing.assert_allclose(one.value, found[0].value, rtol=1e-6, atol=1e-9)


def test_parameters_and_residuals_may_be_trees_and_come_with_what_the_function_tells():
    def fn(y, args):
        near = {"a": y["u"] - args, "b": [(y["v"] * y["u"] - 1.0)[None]]}
        return near, {"product": y["u"] * y["v"]}

    found = optx.least_squares(fn, GaussNewton(), {"u": jnp.array(1.0), "v": jnp.array(1.0)}, 4.0, has_aux=True)
    np.testing.assert_allclose([found.value["u"], found.value["v"]], [4.0, 0.25], rtol=1e-9)
    np.testing.assert_allclose(found.aux["product"], found.value["u"] * found.value["v"], rtol=1e-14)


def test_the_answer_is_differentiated_by_the_implicit_function_theorem():
    def answer(data):
        return solve(curve, jnp.ones(3), (T, data), solver=GaussNewton(1e-13, 1e-13)).value

    reverse, forward = jax.jit(jax.jacrev(answer))(DATA), jax.jit(jax.jacfwd(answer))(DATA)
    np.testing.assert_allclose(forward, reverse, rtol=1e-8, atol=1e-10)
    for i in (0, 17):
        step = 1e-5 * np.eye(40)[i]
        difference = (answer(DATA + step) - answer(DATA - step)) / 2e-5
        np.testing.assert_allclose(reverse[:, i], difference, rtol=1e-5, atol=1e-8)


def test_points_that_cannot_be_evaluated_are_stepped_back_from():
    def fn(y, _):
        return jnp.stack([jnp.log(y[0]) + 3.0, 0.1 * (y[0] - 1.0)])  # a Gauss-Newton step from 5 leaps below zero

    found = solve(fn, jnp.array([5.0]))
    expected = optimize.least_squares(lambda x: [np.log(x[0]) + 3, 0.1 * (x[0] - 1)], [0.1], xtol=1e-14, ftol=1e-14)
    np.testing.assert_allclose(found.value, expected.x, rtol=1e-6)
    failed = solve(fn, jnp.array([-1.0]))
    assert bool(failed.result == optx.RESULTS.nonlinear_divergence)
    np.testing.assert_array_equal(failed.value, [-1.0])


def test_steps_that_run_out_are_told():
    few = optx.least_squares(
        nist.residuals("MGH10"), GaussNewton(), jnp.array([2.0, 4e5, 2.5e4]), max_steps=5, throw=False
    )
    assert bool(few.result == optx.RESULTS.nonlinear_max_steps_reached)


def test_a_descent_of_one_step_evaluates():
    fn = nist.residuals("Misra1a")
    y = jnp.array([250.0, 5e-4])
    once = descend(lambda y, args: (fn(y, args), None), GaussNewton(), y, None, {}, 1)
    np.testing.assert_array_equal(once.value, y)
    np.testing.assert_allclose(once.at.residuals, fn(y, None), rtol=1e-14)
    np.testing.assert_allclose(once.at.jacobian, jax.jacfwd(fn)(y, None), rtol=1e-12)
    whole = descend(lambda y, args: (fn(y, args), None), GaussNewton(), y, None, {}, 100)
    np.testing.assert_allclose(whole.value, nist.PROBLEMS["Misra1a"]["certified"], rtol=1e-7)


def test_the_function_is_traced_once_for_shapes_and_once_for_steps():
    calls = []

    def fn(y, args):
        calls.append(None)
        return curve(y, args)

    jax.jit(lambda y: solve(fn, y, (T, DATA)).value)(jnp.ones(3))
    assert len(calls) <= 2


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: GaussNewton(rtol=0.0), r"GaussNewton\(rtol=0.0\): expected a positive number"),
        (lambda: GaussNewton(form="both"), "form='both' is not an option. Expected one of 'auto', 'primal', 'dual'"),
        (lambda: solve(curve, jnp.ones(3), (T, DATA), bound=1.0), "options jac, lower, reach and upper; got bound"),
        (lambda: solve(curve, jnp.ones(3), (T, DATA), jac="forward"), "jac='forward' is not an option"),
    ],
)
def test_settings_that_do_not_exist_are_refused(build, message):
    with pytest.raises(sd.OptionError, match=message):
        build()


def test_random_linear_problems_in_a_box_have_scipys_solution():
    @jax.jit
    def found(a, b, low, high):
        return solve(lambda y, args: args[0] @ y - args[1], jnp.zeros(3), (a, b), lower=low, upper=high)

    for _ in range(100):
        a, b, low, high = RNG.standard_normal((6, 3)), 3 * RNG.standard_normal(6), -RNG.random(3), RNG.random(3)
        expected, ours = optimize.lsq_linear(a, b, (low, high), tol=1e-14), found(a, b, low, high)
        assert bool(ours.result == optx.RESULTS.successful)
        np.testing.assert_allclose(ours.value, expected.x, atol=1e-6)


def test_a_step_that_the_bounds_turn_uphill_is_not_the_end():
    a, b = jnp.array([[1.0, 1.0], [0.0, 0.2]]), jnp.array([0.0, -2.0])
    found = solve(lambda y, _: a @ y - b, jnp.zeros(2), solver=GaussNewton(damping=1e-6), upper=jnp.array([0.5, 9.0]))
    np.testing.assert_allclose(found.value, [0.5, -0.9 / 1.04], rtol=1e-7)


def test_a_start_outside_the_bounds_is_moved_inside():
    found = solve(lambda y, _: y - 10.0, jnp.array([5.0]), upper=1.0)
    assert bool(found.result == optx.RESULTS.successful)
    np.testing.assert_array_equal(found.value, [1.0])


def test_no_step_is_longer_than_the_reach():
    def line(y, _):
        return y - jnp.array([10.0, 10.0]), None

    args = (line, GaussNewton(damping=1e-6), jnp.zeros(2), None, {"reach": jnp.array([3.0, jnp.inf])})
    np.testing.assert_allclose(descend(*args, 2).value, [3.0, 10.0], rtol=1e-5)
    np.testing.assert_allclose(descend(*args, 9).value, [10.0, 10.0], rtol=1e-9)


def test_a_point_that_is_not_stationary_is_no_success():
    @jax.custom_jvp
    def wrong(y):
        return y + 10.0

    wrong.defjvp(lambda y, dy: (wrong(*y), -dy[0]))
    for fn in (lambda y, _: wrong(y), lambda y, _: jnp.where(y > 0, y + 5.0, jnp.nan)):
        assert bool(solve(fn, jnp.array([1.0])).result == optx.RESULTS.nonlinear_divergence)


def test_bounds_that_cross_and_mixed_precision_are_refused():
    with pytest.raises(sd.InputError, match="a lower bound is above its upper bound"):
        solve(curve, jnp.ones(3), (T, DATA), lower=3.0, upper=2.0)
    with pytest.raises(sd.InputError, match=r"of dtypes float32, float64\. Give all the same"):
        solve(lambda y, _: y.astype(jnp.float64), jnp.ones(3, jnp.float32))
