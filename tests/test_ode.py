# ruff: noqa: ARG005  (a right-hand side takes t, y and args, whatever it uses)

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optimistix as optx
import pytest
from jax.extend.core import jaxpr_as_fun
from jax.flatten_util import ravel_pytree

from sciad._errors import InputError, OptionError
from sciad.solvers.ode import ODE
from tests.scenarios import SCENARIOS, Scenario, crossing


def solver(scenario: Scenario, **settings) -> ODE:
    return ODE(scenario.solver, **{"rtol": scenario.rtol, "atol": scenario.atol, "event": scenario.event} | settings)


def outputs(scenario: Scenario, **settings):
    """The flat map from theta to all that a solve gives: saved states before an event, the end's time and state."""
    ode, ts = solver(scenario, max_steps=20_000, **settings), np.array(scenario.ts)
    shown = slice(None, -1) if scenario.event else slice(None)

    def solve(theta):
        solution = ode(scenario.field, scenario.start(theta), args=theta, ts=ts, t0=0.0, throw=False)
        ys = jax.tree.map(lambda y: y[shown], solution.ys)
        return ravel_pytree((ys, solution.t1, solution.y1) if scenario.event else ys)[0]

    return solve


def exact(scenario: Scenario):
    """The same map in closed form."""

    def solve(theta):
        states = jax.vmap(lambda t: scenario.exact(theta, t))
        if scenario.event:
            return ravel_pytree((states(jnp.array(scenario.ts[:-1])), *scenario.final(theta)))[0]
        return ravel_pytree(states(jnp.array(scenario.ts)))[0]

    return solve


def differences(function, theta):
    """The Jacobian of `function` by central differences of fourth order."""
    columns = []
    for i in range(theta.size):
        h = 3e-3 * max(abs(theta[i]), 1e-3)
        near, far = (function(theta.at[i].add(k * h)) - function(theta.at[i].add(-k * h)) for k in (1, 2))
        columns.append((8 * near - far) / (12 * h))
    return jnp.stack(columns, axis=-1)


def distance(found, expected):
    """The largest error of each column, one column a parameter, in units of the column's largest entry."""
    return np.max(np.abs(found - expected), axis=0) / np.max(np.abs(expected), axis=0)


def scalar(function):
    """A scalar of all outputs, so weighted that none cancels another."""

    def loss(theta):
        out = function(theta)
        return jnp.sum(out * jnp.cos(jnp.arange(out.size, dtype=out.dtype)))

    return loss


# --- values and derivatives over the table ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] if name == "van_der_pol" else []) for name in SCENARIOS]
)
def test_values_and_forward_sensitivities_over_the_table(name):
    scenario = SCENARIOS[name]
    theta, solve = jnp.array(scenario.theta), outputs(scenario, sensitivity="forward")

    def with_values(theta):
        values = solve(theta)
        return values, values

    found = jax.jit(jax.jacrev(with_values, has_aux=True))
    jacobian, values = found(theta)
    if scenario.exact is None:
        expected = differences(lambda theta: found(theta)[1], theta)
    else:
        np.testing.assert_allclose(values, jax.jit(exact(scenario))(theta), rtol=1e-7, atol=1e-8)
        expected = jax.jit(jax.jacfwd(exact(scenario)))(theta)
    assert np.all(distance(jacobian, expected) < 1e-6)


FAST = {("reverse", "forced"), ("backsolve", "forced")}


@pytest.mark.parametrize(
    ("mode", "name"),
    [
        pytest.param(mode, name, marks=[] if (mode, name) in FAST else pytest.mark.slow)
        for mode in ("reverse", "backsolve")
        for name, scenario in SCENARIOS.items()
        if mode == "reverse" or (scenario.event is None and scenario.solver is None)
    ],
)
def test_reverse_modes_agree_with_exact_or_forward_derivatives_over_the_table(mode, name):
    theta = jnp.array(SCENARIOS[name].theta)
    scenario = SCENARIOS[name]
    known = exact(scenario) if scenario.exact else outputs(scenario, sensitivity="forward")
    # Their error control knows nothing of the derivative: a tenth of the tolerance makes up for it.
    losses = scalar(outputs(scenario, sensitivity=mode, rtol=scenario.rtol / 10)), scalar(known)
    found, expected = (jax.jit(jax.grad(loss))(theta) * theta for loss in losses)
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-7 * np.abs(expected).max())


def test_forward_mode_transformations_agree_with_the_exact_ones():
    theta, scenario = jnp.array(SCENARIOS["decay"].theta), SCENARIOS["decay"]
    direction = jnp.array([0.3, -1.0])

    def derivatives(function):
        return jax.jacfwd(function)(theta), jax.jvp(function, (theta,), (direction,))[1]

    found, expected = jax.jit(lambda: derivatives(outputs(scenario)))(), derivatives(exact(scenario))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-9), found, expected)


@pytest.mark.parametrize("name", ["threshold", pytest.param("stiff_chain", marks=pytest.mark.slow)])
def test_second_derivatives_agree_with_the_exact_ones(name):
    scenario, theta = SCENARIOS[name], jnp.array(SCENARIOS[name].theta)
    found = jax.jit(jax.hessian(scalar(outputs(scenario))))(theta)
    expected = jax.jit(jax.hessian(scalar(exact(scenario))))(theta)
    assert np.all(distance(found, expected) < 1e-6)
    np.testing.assert_allclose(found, found.T, rtol=1e-6, atol=1e-7 * np.abs(found).max())


def test_hessian_vector_products_and_nested_forward_mode_agree_with_differences_of_gradients():
    scenario, theta = SCENARIOS["lotka_volterra"], jnp.array(SCENARIOS["lotka_volterra"].theta)
    loss = scalar(outputs(scenario))
    direction = theta * jnp.array([1.0, -1.0, 0.5, 2.0, -1.0, 1.0])

    @jax.jit
    def product(theta):
        gradient, along = jax.jvp(jax.grad(loss), (theta,), (direction,))
        return gradient, along, jax.jvp(jax.jacfwd(loss), (theta,), (direction,))[1]

    _, along, nested = product(theta)
    h = 1e-3
    near, far = (product(theta + k * h * direction)[0] - product(theta - k * h * direction)[0] for k in (1, 2))
    np.testing.assert_allclose(along, (8 * near - far) / (12 * h), rtol=1e-6)
    np.testing.assert_allclose(along, nested, rtol=1e-8)


def test_vmap_and_grad_commute_over_parameters_and_initial_states():
    scenario = SCENARIOS["logistic"]
    thetas = jnp.array([scenario.theta, (1.3, 2.5, 0.6), (0.5, 6.0, 0.2)])
    loss = scalar(outputs(scenario))

    @jax.jit
    def both(thetas):
        return jax.vmap(jax.grad(loss))(thetas), jax.grad(lambda thetas: jnp.sum(jax.vmap(loss)(thetas)))(thetas)

    expected = jax.vmap(jax.grad(scalar(exact(scenario))))(thetas)
    for found in both(thetas):
        np.testing.assert_allclose(found, expected, rtol=1e-6)


@pytest.mark.parametrize(("method", "order"), [(diffrax.Tsit5(), 5), (diffrax.Heun(), 2)])
def test_global_error_falls_with_the_order_of_the_method(method, order):
    scenario = SCENARIOS["logistic"]
    theta = jnp.array(scenario.theta)

    @jax.jit
    def error(step):
        ode = ODE(method, controller=diffrax.ConstantStepSize(), dt0=step)
        solution = ode(scenario.field, scenario.start(theta), args=theta, t0=0.0, t1=4.0, throw=False)
        return jnp.abs(solution.y1 - scenario.exact(theta, 4.0))

    errors = [error(4.0 / steps) for steps in (40, 80)]
    assert np.log2(errors[0] / errors[1]) == pytest.approx(order, abs=0.35)


# --- derivatives in the times ----------------------------------------------------------------------------------------


def decayed(k, y, **options):
    ode = ODE(rtol=1e-9, atol=1e-9, **options)
    return ode(lambda t, y, _: -k * y, y[None], t0=0.0, t1=1.0, throw=False).y1[0]


@pytest.mark.parametrize("kind", ["forward", "reverse"])
def test_a_computation_traced_with_two_batches_nested_has_the_derivative_of_its_batches(kind):
    # Of equal sizes, so that batches in the wrong order would go unseen but for the numbers.
    rates, starts = jnp.array([0.1, 0.7]), jnp.array([1.0, 3.0])

    def both(rates):
        return jax.vmap(lambda k: jax.vmap(lambda y: decayed(k, y, sensitivity=kind))(starts))(rates)

    traced = jaxpr_as_fun(jax.make_jaxpr(both)(rates))
    derivative = jax.jacrev if kind == "reverse" else jax.jacfwd
    found = jax.jit(derivative(lambda rates: traced(rates)[0]))(rates)
    wanted = jax.jacfwd(lambda rates: starts[None] * jnp.exp(-rates)[:, None])(rates)
    np.testing.assert_allclose(found, wanted, atol=1e-7)


def test_second_derivatives_through_a_loop_over_solves():
    def last(k):
        return jax.lax.scan(lambda y, _: (decayed(k, y), None), jnp.array(2.0), jnp.arange(3))[0]

    for second in (jax.hessian, lambda f: jax.jacfwd(jax.jacfwd(f))):
        np.testing.assert_allclose(jax.jit(second(last))(0.3), 18.0 * np.exp(-0.9), rtol=1e-6)


def test_derivatives_in_save_times_and_end_are_the_slopes():
    k = 0.7

    def states(ts, t1):
        solution = ODE(rtol=1e-10, atol=1e-10)(lambda t, y, _: -k * y, jnp.array(2.0), ts=ts, t0=0.0, t1=t1)
        return solution.ys, solution.y1

    (by_ts, by_t1), (end_by_ts, end_by_t1) = jax.jit(jax.jacrev(states, argnums=(0, 1)))(jnp.array([0.5, 1.0]), 2.0)
    np.testing.assert_allclose(by_ts, np.diag(-k * 2.0 * np.exp(-k * np.array([0.5, 1.0]))), rtol=1e-6)
    np.testing.assert_allclose(end_by_t1, -k * 2.0 * np.exp(-k * 2.0), rtol=1e-6)
    assert not np.any(by_t1)
    assert not np.any(end_by_ts)


def test_t0_has_no_forward_derivative():
    def end(t0):
        return ODE()(lambda t, y, _: -y, jnp.array(1.0), t0=t0, t1=1.0).y1

    with pytest.raises(OptionError, match=r"with respect to t0.*stop_gradient.*sensitivity='reverse'"):
        jax.grad(end)(0.0)


def test_an_event_that_does_not_strike_leaves_the_derivative_in_t1():
    ode = ODE(rtol=1e-10, atol=1e-10, event=crossing(lambda t, y, c, **_: y - c))

    @jax.jit
    def end(c, t1):
        return jax.value_and_grad(lambda t1: ode(lambda t, y, _: -y, jnp.array(1.0), args=c, t0=0.0, t1=t1).t1)(t1)

    assert end(0.01, 2.0) == (2.0, 1.0)
    assert end(0.5, 2.0) == (pytest.approx(np.log(2)), 0.0)


def test_the_condition_that_strikes_first_moves_the_end():
    conditions = [lambda t, y, c, **_: y - c[0], lambda t, y, c, **_: y - c[1], lambda t, y, c, **_: t > 9.0]
    ode = ODE(rtol=1e-10, atol=1e-10, event=diffrax.Event(conditions, optx.Newton(1e-12, 1e-12)))

    @jax.jit
    @jax.jacrev
    def slope(c):
        return ode(lambda t, y, _: -y, jnp.array(1.0), args=c, t0=0.0, t1=np.inf, ts=np.array([0.1])).t1

    np.testing.assert_allclose(slope(jnp.array([0.2, 0.5])), [0.0, -2.0], rtol=1e-6)


# --- what is pushed, and how a gradient compiles ---------------------------------------------------------------------


def loops(jaxpr):
    """The shapes of the states of all while loops inside."""
    shapes = []
    for equation in jaxpr.eqns:
        if equation.primitive.name == "while":
            shapes += [v.aval.shape for v in equation.outvars]
        for sub in jax.tree.leaves(tuple(equation.params.values()), is_leaf=lambda x: hasattr(x, "eqns")):
            inner = getattr(sub, "jaxpr", sub)
            if hasattr(inner, "eqns"):
                shapes += loops(inner)
    return shapes


def test_only_differentiated_numbers_that_enter_the_equation_are_pushed():
    table = jnp.linspace(0.0, 1.0, 50)

    def loss(args, y0):
        def field(t, y, args):
            return -args["used"] * y * args["held"] + jnp.interp(t, table, table)

        return jnp.sum(ODE()(field, y0, args=args, t0=0.0, t1=1.0, throw=False).y1)

    def gradient(used, held, unused):
        return jax.grad(lambda used: loss({"used": used, "held": held, "unused": unused}, jnp.ones(7)))(used)

    shapes = loops(jax.make_jaxpr(gradient)(2.0, 3.0, jnp.ones(11)).jaxpr)
    assert (7 * 2,) in shapes  # the state and one sensitivity
    assert not [shape for shape in shapes if shape and shape[-1] > 7 * 2]


def test_auto_counts_traced_numbers_only():
    assert ODE().mode(10, 100) == "forward"
    assert ODE().mode(10, 101) == "reverse"
    assert ODE(sensitivity="forward").mode(2, 10**6) == "forward"
    table = jnp.linspace(0.0, 1.0, 1000)

    def end(k):
        return ODE()(lambda t, y, k: -k * y + jnp.interp(t, table, table), jnp.array(1.0), args=k, t0=0.0, t1=1.0).y1

    assert "custom_jvp_call" in str(jax.make_jaxpr(end)(0.5))


@pytest.mark.parametrize("mode", ["forward", "reverse"])
def test_a_gradient_without_throw_holds_no_host_callback_so_that_it_can_be_cached(mode):
    def end(k):
        event = crossing(lambda t, y, k, **_: y - k / 2) if mode == "forward" else None
        ode = ODE(sensitivity=mode, dt0=0.1, event=event)
        return ode(lambda t, y, k: -k * y, jnp.array(1.0), args=k, ts=np.array([0.5, 1.0]), t0=0.0, throw=False).y1

    assert "callback" not in jax.jit(jax.grad(end)).lower(0.5).as_text()


def test_a_gradient_traces_the_right_hand_side_a_bounded_number_of_times_and_never_again():
    traces = 0

    def field(t, y, k):
        nonlocal traces
        traces += 1
        return -k * y * jnp.cos(t)

    gradient = jax.jit(jax.grad(lambda k: ODE()(field, jnp.array(1.0), args=k, t0=0.0, t1=1.0, throw=False).y1))
    gradient(0.5)
    assert traces == 1
    gradient(0.6)
    assert traces == 1


def test_arguments_closures_and_numpy_constants_give_the_same_gradient():
    weights = np.array([1.0, 2.0])

    def by_argument(k):
        return ODE()(lambda t, y, k: -k * weights * y, jnp.ones(2), args=k, t0=0.0, t1=1.0).y1.sum()

    def by_closure(k):
        return ODE()(lambda t, y, _: -k * jnp.array(weights) * y, jnp.ones(2), t0=0.0, t1=1.0).y1.sum()

    np.testing.assert_allclose(*jax.jit(lambda k: (jax.grad(by_argument)(k), jax.grad(by_closure)(k)))(0.5))


def test_single_precision_states_stay_single_and_differentiate():
    def end(k, y0):
        return ODE(rtol=1e-4, atol=1e-4)(lambda t, y, k: -k.astype(y.dtype) * y, y0, args=k, t0=0.0, t1=1.0).y1

    value, slopes = jax.jit(jax.value_and_grad(end, argnums=(0, 1)))(0.5, jnp.float32(1.0))
    assert value.dtype == slopes[1].dtype == jnp.float32
    assert slopes[0].dtype == jnp.float64
    np.testing.assert_allclose(slopes, [-np.exp(-0.5), np.exp(-0.5)], rtol=1e-3)


def test_sensitivities_are_controlled_where_the_state_is_at_rest():
    def slope(control):
        ode = ODE(rtol=1e-6, atol=1e-6, control_sensitivities=control)
        solve = jax.grad(lambda c: ode(lambda t, y, c: -5.0 * (y - c), jnp.array(1.0), args=c, t0=0.0, t1=3.0).y1)
        return jax.jit(solve)(1.0)

    exact = 1 - np.exp(-15.0)
    assert slope(True) == pytest.approx(exact, rel=1e-5)
    assert slope(False) != pytest.approx(exact, rel=1e-2)


def test_a_norm_of_the_users_sees_the_structure_of_the_state():
    seen = []

    def norm(y):
        seen.append(jax.tree.structure(y))
        return optx.rms_norm(y["position"])

    ode = ODE(controller=diffrax.PIDController(rtol=1e-6, atol=1e-6, norm=norm))
    y0 = {"position": jnp.array(1.0), "clock": jnp.array(0.0)}

    def field(t, y, k):
        return {"position": -k * y["position"], "clock": jnp.cos(t)}

    jax.eval_shape(jax.grad(lambda k: ode(field, y0, args=k, t0=0.0, t1=1.0).y1["position"]), 0.5)
    assert set(seen) == {jax.tree.structure(y0)}


# --- solves that fail ------------------------------------------------------------------------------------------------

FAILURES = {
    "blow_up": (lambda t, y, k: k * y**2, {}),
    "nan": (lambda t, y, k: jnp.sqrt(k - t) * y, {}),
    "too_many_steps": (lambda t, y, k: jnp.cos(100 * k * t) * y, {"max_steps": 5}),
}


@pytest.mark.parametrize(("name", "mode"), [*((name, "forward") for name in FAILURES), ("nan", "reverse")])
def test_a_failed_solve_says_so_and_has_zero_gradient(name, mode):
    field, settings = FAILURES[name]
    ode = ODE(sensitivity=mode, **{"max_steps": 100} | settings)

    def loss(k):
        solution = ode(field, jnp.array(1.0), args=k, ts=np.array([0.5, 2.0]), t0=0.0, throw=False)
        return jnp.sum(jnp.where(jnp.isfinite(solution.ys), solution.ys, 0.0)), solution

    gradient, solution = jax.jit(jax.grad(loss, has_aux=True))(1.0)
    assert not solution.ok
    assert gradient == 0.0
    assert not np.isfinite(solution.y1)


def test_a_failed_solve_has_a_zero_hessian_too():
    def end(k):
        return ODE(max_steps=50)(lambda t, y, k: k * y**2, jnp.array(1.0), args=k, t0=0.0, t1=2.0, throw=False).y1

    assert jax.jit(jax.jacfwd(jax.grad(end)))(1.0) == 0.0


def test_one_failed_solve_of_a_batch_leaves_the_others_alone():
    @jax.jit
    def solve(k):
        def end(k):
            solution = ODE(max_steps=100)(lambda t, y, k: k * y**2, jnp.array(1.0), args=k, t0=0.0, t1=1.0, throw=False)
            return solution.y1, solution.ok

        return jax.vmap(jax.value_and_grad(end, has_aux=True))(k)

    (_, ok), gradients = solve(jnp.array([0.5, 2.0]))
    np.testing.assert_array_equal(ok, [True, False])
    np.testing.assert_allclose(gradients, [4.0, 0.0], rtol=1e-4)


@pytest.mark.parametrize(
    ("field", "settings", "message"),
    [
        (FAILURES["nan"][0], {}, r"maximum number of steps.*Kvaerno5.*NaN or blows up.*raise `max_steps`"),
        (lambda t, y, k: jnp.exp(y), {"controller": diffrax.ConstantStepSize(), "dt0": 0.1}, r"failed before its end"),
    ],
)
def test_a_failed_solve_raises_with_the_remedy(field, settings, message):
    solve = eqx.filter_jit(lambda k: ODE(max_steps=50, **settings)(field, jnp.array(1.0), args=k, t0=0.0, t1=2.0).y1)
    with pytest.raises(eqx.EquinoxRuntimeError, match=message):
        solve(1.0)


# --- bad input -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"sensitivity": "forwards"}, r"sensitivity='forwards' is not an option.*Did you mean 'forward'"),
        ({"rtol": -1e-3}, r"rtol=-0.001, atol=1e-06.*at least zero"),
        ({"rtol": 0.0, "atol": 0.0}, r"one of them positive"),
        ({"max_steps": 0}, r"max_steps=0.*at least 1"),
        ({"sensitivity": "backsolve", "event": crossing(lambda t, y, _, **__: y)}, r"'backsolve'.*cannot.*event"),
    ],
)
def test_wrong_options(settings, message):
    with pytest.raises(OptionError, match=message):
        ODE(**settings)


UNIT = {"t0": 0.0, "t1": 1.0}


@pytest.mark.parametrize(
    ("field", "y0", "times", "message"),
    [
        (lambda t, y, _: y[:1], jnp.ones(2), UNIT, r"returned shape \(1,\) for a state of shape \(2,\)"),
        (lambda t, y, _: (y, y), jnp.ones(2), UNIT, r"returned shape \(\(2,\), \(2,\)\).*in the same structure"),
        (lambda t, y, _: y, jnp.ones(2, int), UNIT, r"real floating-point arrays; got int64. Write 1.0 rather than 1"),
        (lambda t, y, _: y, 1, UNIT, r"real floating-point arrays; got int"),
        (lambda t, y, _: y, jnp.ones(2, complex), UNIT, r"real floating-point arrays; got complex128"),
        (lambda t, y, _: y, "one", UNIT, r"real floating-point arrays; got str"),
        (lambda t, y, _: y, {}, UNIT, r"`y0` is empty"),
        (lambda t, y, _: y, 1.0, {}, r"needs times: give `ts=`"),
        (lambda t, y, _: y, 1.0, {"t1": 1.0}, r"needs times: give `ts=`"),
        (lambda t, y, _: y, 1.0, {"ts": np.ones(0)}, r"non-empty vector of times; its shape is \(0,\)"),
        (lambda t, y, _: y, 1.0, {"ts": np.array([0.0, 2.0, 1.0])}, r"in order from t0=0 to t1=1: sort them"),
        (lambda t, y, _: y, 1.0, {"ts": np.array([0.5, 3.0])} | UNIT, r"1 of 2 save times.*\[0, 1\].*first at 3"),
        (lambda t, y, _: y, 1.0, {"ts": np.array([0.5, np.nan])} | UNIT, r"time is NaN.*1 of 2 save times"),
    ],
)
def test_wrong_input(field, y0, times, message):
    with pytest.raises(InputError, match=message):
        ODE()(field, y0, **times)


def test_a_first_step_that_leads_away():
    with pytest.raises(InputError, match=r"dt0=-0.1 leads from t0=0 away from t1=1"):
        ODE(dt0=-0.1)(lambda t, y, _: y, 1.0, **UNIT)


@pytest.mark.parametrize("k", [0.0, 1e-12, 1e-9, 1e-4, 1.0])
def test_the_sensitivity_to_a_parameter_near_zero_is_as_accurate_as_to_any_other(k):
    ode = ODE(sensitivity="forward")
    for y0 in (0.0, 1.0):  # a forced decay: linear in k, so that its derivative is the same for all
        end = jax.jit(jax.grad(lambda k, y0=y0: ode(
            lambda t, y, k: k * jnp.cos(20 * t) - y, jnp.array(y0), args=k, t0=0.0, t1=10.0
        ).y1))  # fmt: skip
        exact = (np.cos(200.0) + 20 * np.sin(200.0) - np.exp(-10.0)) / 401
        np.testing.assert_allclose(end(k), exact, rtol=1e-3)
