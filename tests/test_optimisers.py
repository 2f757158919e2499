"""Other optimisers for fields: forms of Gauss-Newton, first-order descent, quasi-Newton, schedules and weights."""

import functools
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import optimistix as optx
import pytest

import sciad as sd
from sciad.models.networks import MLP
from sciad.solvers.gauss_newton import GaussNewton
from sciad.solvers.quasi_newton import SSBroyden, _updated
from sciad.solvers.rounds import one_after_the_other
from sciad.solvers.step_forms import bytes_of
from sciad.solvers.weighting import NTK, Causal, GradientNorm, ReLoBRaLo, Seen, chosen, equal

RNG = np.random.default_rng(3)
SMALL = functools.partial(MLP, width=8, depth=2)
LINE = sd.Box(x=(0, 1))


class Rows(NamedTuple):
    points: Any
    beside: Any


class Setting(NamedTuple):
    rows: dict
    weights: dict


class Curves(eqx.Module):
    """Two groups of residuals ``(tanh(points @ theta) - beside) / sqrt(n)``: quick to compile."""

    timed: bool = eqx.field(static=True, default=True)

    def parts(self, location, setting):
        return {
            name: setting.weights[name] * (jnp.tanh(rows.points @ location) - rows.beside) / np.sqrt(len(rows.points))
            for name, rows in setting.rows.items()
        }

    def residuals(self, location, setting):
        return jnp.concatenate([*self.parts(location, setting).values()]), None

    def linearised(self, location, setting):
        return jax.jacrev(lambda at: self.residuals(at, setting)[0])(location), self.residuals(location, setting)

    def leaves(self, location):
        return {"a": location[:2], "b": location[2:]}

    def flat(self, leaves):
        return jnp.concatenate([leaves["a"], leaves["b"]])

    def times(self, setting):
        return jnp.linspace(0.0, 1.0, len(setting.rows["equation"].points)) if self.timed else None

    def root_mean_squares(self, location, setting):
        parts = self.parts(location, setting)
        return {name: jnp.sqrt(jnp.sum(part**2)) / setting.weights[name] for name, part in parts.items()}


def setting_of(number=0, *, parameters=6, rows=(20, 8), exact=True):
    random = np.random.default_rng(abs(number))
    truth, found = np.linspace(-1.0, 1.0, parameters), {}
    for name, n in zip(("equation", "face"), rows, strict=True):
        points = random.standard_normal((n, parameters))
        off = 0.0 if exact else 0.1 * random.standard_normal(n)
        found[name] = Rows(jnp.asarray(points), jnp.asarray(np.tanh(points @ truth) + off))
    return Setting(found, {"equation": jnp.array(1.0), "face": jnp.array(3.0)})


def draw(number, location):
    del location
    return setting_of(99 if number < 0 else 0)


def descended(solver, posed=None, start=None):
    return solver.solve(posed or Curves(), jnp.zeros(6) if start is None else start, draw)


# --- forms of Gauss-Newton ---


def steps_of(form, parameters, rows, number=8):
    engine = GaussNewton(1e-15, 1e-15, form=form, scaled=False, damping=1e-2, iterations=200)
    solver, found = sd.Collocation(engine=engine, hold=100), []
    setting = setting_of(parameters=parameters, rows=rows, exact=False)
    for made in solver.descend(Curves(), 0.1 * jnp.ones(parameters), setting, (100, 100), None):
        found.append(np.asarray(made.location))
        if len(found) == number:
            break
    return np.array(found)


@pytest.mark.parametrize(("parameters", "rows"), [(6, (20, 8)), (40, (8, 4))])
def test_forms_take_the_same_steps(parameters, rows):
    expected = steps_of("primal" if parameters == 6 else "dual", parameters, rows)
    assert np.abs(expected[-1] - expected[0]).max() > 0.1
    for form in ("normal", "dual", "iterative"):
        np.testing.assert_allclose(steps_of(form, parameters, rows), expected, rtol=1e-7, atol=1e-9, err_msg=form)


def test_the_form_follows_the_shape():
    assert sd.Collocation().form(3000, 900) == "normal"
    assert sd.Collocation().form(3000, 9000) == "dual"
    assert sd.Collocation().form(30_000, 30_000) == "iterative"
    assert sd.Collocation(engine=GaussNewton(form="primal")).form(30, 300) == "primal"
    assert bytes_of("normal", 100, 10) == 8 * (100 * 10 + 2 * 10 * 10)
    assert sd.Collocation().memory(30_000, 30_000) < 1e7 < 4e9 < bytes_of("dual", 30_000, 30_000)


def test_without_a_matrix_the_answer_is_the_same():
    truth = jnp.linspace(-1.0, 1.0, 6)
    for form in ("normal", "dual", "iterative"):
        engine = GaussNewton(1e-15, 1e-15, form=form, scaled=False)
        found = descended(sd.Collocation(engine=engine, hold=30, tolerance=1e-12, budget=60.0))
        np.testing.assert_allclose(found.location, truth, atol=1e-10, err_msg=form)


def test_bounds_hold_without_a_matrix():
    setting = setting_of(exact=False)
    found = [
        optx.least_squares(
            lambda y, args: Curves().residuals(y, args)[0], GaussNewton(form=form, scaled=False), jnp.zeros(6), setting,
            options={"lower": -0.5, "upper": 0.5}, max_steps=500,
        ).value for form in ("primal", "iterative")
    ]  # fmt: skip
    np.testing.assert_allclose(found[1], found[0], atol=1e-8)
    assert float(jnp.abs(found[0]).max()) == pytest.approx(0.5)


def test_the_size_of_a_jacobian_is_told_from_random_signs():
    from sciad.solvers.step_forms import Maps, size_of

    jacobian = jnp.asarray(RNG.standard_normal((400, 30)))
    maps = Maps(lambda v: jacobian @ v, lambda u: u @ jacobian)
    assert float(size_of(maps, jnp.zeros(400))) == pytest.approx(float(jnp.linalg.norm(jacobian)), rel=0.05)


# --- descent ---


@pytest.mark.parametrize("batch", [None, 5])
def test_descent_takes_the_steps_of_optax(batch):
    optimiser, location, setting = optax.adam(0.05), 0.1 * jnp.ones(6), setting_of()
    solver = sd.Descent(optimiser, points=20, batch=batch, hold=12, max_steps=12)
    *_, last = solver.descend(Curves(), location, setting, (12, 12), None)
    state = optimiser.init(location)
    for step in range(12):
        rows = setting.rows
        if batch is not None:  # 4 sets: of the equation's 20 rows 5, of the face's 8 rows 2
            part = {"equation": (5, step % 4 * 5), "face": (2, step % 4 * 2)}
            rows = {name: jax.tree.map(lambda x, p=part[name]: x[p[1] : p[1] + p[0]], rows[name]) for name in rows}
        part = setting._replace(rows=rows)
        slope = jax.grad(lambda at, part=part: 0.5 * jnp.sum(Curves().residuals(at, part)[0] ** 2))(location)
        with jax.numpy_dtype_promotion("standard"):
            updates, state = optimiser.update(slope, state)
        location = optax.apply_updates(location, updates)
    assert last.steps == 12
    np.testing.assert_allclose(last.location, location, rtol=1e-12)


def test_descent_keeps_its_momentum_from_round_to_round():
    one = descended(sd.Descent(optax.adam(0.05), batch=None, hold=20, max_steps=40))
    two = descended(sd.Descent(optax.adam(0.05), batch=None, hold=40, max_steps=40))
    np.testing.assert_allclose(one.location, two.location, rtol=1e-12)  # the points are the same here
    assert one.history[:, 0].tolist() == [0, 20, 40]
    assert one.stats["rounds"] == 2


@pytest.mark.parametrize("name", ["muon", "line search", "schedule_free"])
def test_descent_takes_what_optax_has(name):
    made = {
        "muon": lambda: optax.contrib.muon(0.05),
        "line search": lambda: optax.chain(optax.sgd(0.1), optax.scale_by_backtracking_linesearch(20)),
        "schedule_free": lambda: optax.contrib.schedule_free_adamw(0.1),
    }[name]()
    found = descended(sd.Descent(made, batch=None, hold=100, max_steps=200))
    assert found.stats["held_out"] < 0.1 * found.history[0, 3]


def test_steps_that_are_too_long_end_with_the_best():
    def draw(number, location):
        del number, location
        return Setting({"equation": Rows(jnp.full((2, 6), 1e200), jnp.ones(2))}, {"equation": jnp.array(1.0)})

    class Lines(Curves):
        def parts(self, location, setting):
            return {name: rows.points @ location - rows.beside for name, rows in setting.rows.items()}

    found = sd.Descent(optax.sgd(1.0), batch=None, hold=20).solve(Lines(), jnp.zeros(6), draw)
    assert found.stats["ended"] == "The residuals are not finite any more: take shorter steps."
    np.testing.assert_array_equal(found.location, jnp.zeros(6))


def test_a_budget_ends_a_descent_inside_a_round():
    found = descended(sd.Descent(optax.adam(1e-9), batch=None, hold=10**9, max_steps=10**9, budget=1.5))
    assert found.stats["ended"] == "The budget of seconds was spent."
    assert found.stats["seconds"] < 6.0


@pytest.mark.parametrize("solver", [sd.Descent(optax.adam(0.05), batch=None), sd.QuasiNewton()])
def test_an_interrupt_keeps_what_there_is(solver):
    def report(steps, *rest):
        del rest
        if steps > 10:
            raise KeyboardInterrupt

    found = solver.solve(Curves(), jnp.zeros(6), draw, report)
    assert "nterrupted" in found.stats["ended"]
    assert found.stats["held_out"] < found.history[0, 3]


# --- quasi-Newton ---


def rosenbrock(y, args):
    del args
    return jnp.sum(100.0 * (y[1:] - y[:-1] ** 2) ** 2 + (1.0 - y[:-1]) ** 2)


def test_the_update_is_the_formula():
    n = 5
    root = RNG.standard_normal((n, n))
    inverse, s = root @ root.T + np.eye(n), RNG.standard_normal(n)
    y = np.linalg.solve(inverse, s) + 0.3 * np.abs(RNG.standard_normal()) * s
    rho, hy = 1 / (s @ y), inverse @ y
    h, b = rho * y @ hy, rho * s @ np.linalg.solve(inverse, s)
    a = h * b - 1
    low = min(1, h * (1 - np.sqrt(a / (1 + a))))
    theta = max((low - 1) / a, min(1 / low, (1 - b) / b))
    sigma = 1 + a * theta
    power = sigma ** (1 / (1 - n))
    tau = min(1, 1 / b) * min(power, 1 / theta) if theta > 0 else min(min(1, 1 / b) * power, sigma)
    v = np.sqrt(y @ hy) * (rho * s - hy / (y @ hy))
    phi = (1 - theta) / sigma
    expected = (inverse - np.outer(hy, hy) / (y @ hy) + phi * np.outer(v, v)) / tau + rho * np.outer(s, s)
    args = (jnp.asarray(inverse), jnp.asarray(s), jnp.asarray(y), jnp.asarray(np.linalg.solve(inverse, s)))
    found = _updated(*args, jnp.array(False))
    np.testing.assert_allclose(found, expected, rtol=1e-10)
    np.testing.assert_allclose(found @ y, s, rtol=1e-10)  # the secant condition
    assert np.linalg.eigvalsh(found).min() > 0
    np.testing.assert_array_equal(_updated(args[0], args[1], -args[2], args[3], jnp.array(False)), args[0])


def test_self_scaled_broyden_against_bfgs():
    start = -jnp.ones(10)
    ours = optx.minimise(rosenbrock, SSBroyden(1e-12, 1e-12), start, max_steps=500)
    np.testing.assert_allclose(ours.value, jnp.ones(10), atol=1e-10)
    scales = jnp.logspace(0.0, 6.0, 30)

    def valley(y, args):
        del args
        return 0.5 * jnp.sum(scales * y**2), y[:2]

    settings = {"max_steps": 2000, "has_aux": True}
    found = optx.minimise(valley, SSBroyden(1e-10, 1e-10), jnp.ones(30), **settings)
    theirs = optx.minimise(valley, optx.BFGS(1e-10, 1e-10), jnp.ones(30), **settings)
    np.testing.assert_allclose(found.value, 0.0, atol=1e-9)
    np.testing.assert_array_equal(found.aux, found.value[:2])
    assert int(found.stats["num_evaluations"]) < int(theirs.stats["num_steps"])


def test_a_quadratic_converges_faster_than_linearly():
    matrix = jnp.diag(jnp.linspace(1.0, 5.0, 6))

    def bowl(y, args):
        del args
        return 0.5 * y @ matrix @ y

    found = optx.minimise(bowl, SSBroyden(1e-12, 1e-12), jnp.ones(6), max_steps=40)
    assert float(jnp.abs(found.value).max()) < 1e-12
    assert int(found.stats["num_steps"]) < 30


def test_a_minimiser_says_how_it_ended():
    at_once = optx.minimise(lambda y, _: jnp.sum((y - 1.0) ** 2), SSBroyden(), jnp.ones(2))
    assert int(at_once.stats["num_steps"]) == 1
    bad = optx.minimise(lambda y, _: jnp.sum(jnp.log(y)), SSBroyden(), -jnp.ones(2), throw=False)
    assert bool(bad.result == optx.RESULTS.nonlinear_divergence)


@pytest.mark.parametrize("method", [None, optx.BFGS(1e-15, 1e-15), optx.LBFGS(1e-15, 1e-15)])
def test_quasi_newton_rounds_go_on(method):
    found = descended(sd.QuasiNewton(method, hold=40, max_steps=200, tolerance=1e-7))
    assert found.stats["held_out"] < 1e-7
    np.testing.assert_allclose(found.location, jnp.linspace(-1.0, 1.0, 6), atol=1e-5)


def test_what_a_quasi_newton_method_holds_is_counted():
    assert sd.QuasiNewton().memory(10, 1000) == pytest.approx(2 * 8 * 1000**2, rel=0.01)
    assert sd.QuasiNewton(optx.LBFGS(1e-9, 1e-9)).memory(10, 1000) < 1e6


# --- weights ---


def losses(**values):
    return {name: jnp.asarray(value) for name, value in values.items()}


def test_relobralo_is_its_formula():
    rule = ReLoBRaLo(temperature=0.5, memory=0.9, lookback=0.0)
    weights = equal(losses(a=1.0, b=1.0))
    for a, b in [(4.0, 2.0), (2.0, 1.8)]:
        weights = rule.update(weights, Seen(losses(a=a, b=b), dict, dict))
    ratios = np.exp(np.array([2.0 / 4.0, 1.8 / 2.0]) / 0.5)
    share = 2 * ratios / ratios.sum()  # since the first and since the last: they are the same here
    np.testing.assert_allclose([*weights.factors.values()], 0.9 * share + 0.1 * share, rtol=1e-12)
    stays = ReLoBRaLo(temperature=0.5, memory=0.9, lookback=1.0).update(weights, Seen(losses(a=2.0, b=1.8), dict, dict))
    np.testing.assert_allclose([*stays.factors.values()], 0.9 * share + 0.1, rtol=1e-12)


@pytest.mark.parametrize("rule", [GradientNorm(memory=0.25, every=1), NTK(memory=0.25, every=1)])
def test_slopes_and_traces_are_balanced(rule):
    location, setting = 0.1 * jnp.ones(6), setting_of()
    solver = sd.Descent(optax.sgd(0.0), batch=None, weighting=rule)
    *_, last = solver.descend(Curves(), location, setting, (1, 1), None)
    parts = jax.jacrev(lambda at: Curves().parts(at, setting))(location)
    if isinstance(rule, NTK):
        size = {name: np.sum(np.asarray(part) ** 2) for name, part in parts.items()}
    else:
        values = Curves().parts(location, setting)
        size = {name: np.linalg.norm(np.asarray(values[name] @ parts[name])) for name in parts}
    for name, factor in last.kept.weights.factors.items():
        assert float(factor) == pytest.approx(0.25 + 0.75 * sum(size.values()) / size[name], rel=1e-10)


def test_causal_weights_are_their_formula():
    times, residuals = jnp.array([0.9, 0.1, 0.4, 0.2]), jnp.array([1.0, 2.0, 3.0, 4.0]) / 2  # 1/sqrt(n) is in them
    rule = Causal(strictness=0.1, slices=2)
    late = np.exp(-0.1 * (4 + 9 + 16) / 3)
    np.testing.assert_allclose(rule.weights(residuals, times), [late, 1.0, 1.0, 1.0], rtol=1e-12)
    np.testing.assert_allclose(rule(residuals, times), residuals * np.sqrt([late, 1.0, 1.0, 1.0]), rtol=1e-12)
    several = jnp.stack([residuals, residuals], axis=1).ravel()
    assert rule(several, times).shape == (8,)


def test_weights_are_chosen_by_name():
    balance, causal = chosen(["ntk", "causal"])
    assert isinstance(balance, NTK)
    assert isinstance(causal, Causal)
    assert chosen(None) == (None, None)
    assert isinstance(chosen("relobralo")[0], ReLoBRaLo)
    with pytest.raises(sd.OptionError, match=r"'gradientnorm' is not a rule\. Did you mean 'gradient_norm'"):
        chosen("gradientnorm")
    with pytest.raises(sd.OptionError, match="one rule for the groups at most"):
        chosen(["ntk", "relobralo"])


def test_rules_that_have_nothing_to_rule_are_refused():
    alone = setting_of()._replace(rows={"equation": setting_of().rows["equation"]})
    with pytest.raises(sd.InputError, match=r"balances groups of residuals, and there is one: the equation"):
        next(sd.Descent(weighting="ntk").descend(Curves(), jnp.zeros(6), alone, (1, 1), None))
    with pytest.raises(sd.InputError, match="Causal weights need a first time"):
        next(sd.Descent(weighting="causal").descend(Curves(timed=False), jnp.zeros(6), setting_of(), (1, 1), None))


# --- fields ---


def squared(u, p):
    return sd.d(u, "x", "x")(p) - 2 * u(p) ** 3  # with the solution 1/(1 + x)


CORNERS = (sd.Dirichlet(1.0, "x_min"), sd.Dirichlet(0.5, "x_max", hard=False))


def test_histories_are_joined():
    solvers = [sd.Descent(optax.adam(0.05), batch=None, hold=20, max_steps=40), sd.QuasiNewton(hold=5, max_steps=10)]
    first = descended(solvers[0])
    last = descended(solvers[1], start=first.location)
    both = one_after_the_other(solvers, [first, last])
    assert both.history[:, 0].tolist() == [0, 20, 40, 45, 50]
    np.testing.assert_allclose(both.history[3:, 1], first.history[-1, 1] + last.history[1:, 1])
    np.testing.assert_array_equal(both.history[3:, 2:], last.history[1:, 2:])
    assert both.stats["steps"] == 50
    assert both.stats["held_out"] == last.stats["held_out"]
    ended = "The greatest number of steps was made."
    assert both.stats["ended"] == f"Descent: {ended} QuasiNewton: {ended}"


@pytest.mark.slow
def test_solvers_run_one_after_the_other():
    problem, seen = sd.PDEProblem(LINE, conditions=CORNERS, network=SMALL), []
    first = sd.Descent(optax.adam(5e-3), points=128, batch=64, hold=100, max_steps=300, watch=seen.append)
    last = sd.Collocation(points=64, hold=30, max_steps=60)
    fit = sd.fit(problem, squared, solver=[first, last], progress=False)
    x = np.linspace(0, 1, 21)
    np.testing.assert_allclose(fit(x=x)["u"].to_numpy(), 1 / (1 + x), atol=1e-5)
    assert len(seen) == 3
    assert fit.history["steps"].is_monotonic_increasing
    assert fit.history["seconds"].is_monotonic_increasing
    assert fit.stats["steps"] == fit.history["steps"].iloc[-1] > 300
    assert fit.message.startswith("Descent: The greatest number of steps was made. Collocation: ")
    assert fit.history["held_out"].iloc[4] < fit.history["held_out"].iloc[3] < fit.history["held_out"].iloc[0]


@pytest.mark.slow
def test_a_field_by_self_scaled_broyden():
    problem = sd.PDEProblem(LINE, conditions=CORNERS, network=SMALL)
    fit = sd.fit(problem, squared, solver=sd.QuasiNewton(points=64, hold=100, max_steps=500), progress=False)
    x = np.linspace(0, 1, 21)
    np.testing.assert_allclose(fit(x=x)["u"].to_numpy(), 1 / (1 + x), atol=1e-6)


@pytest.mark.slow
def test_causal_weights_and_unknown_numbers_by_descent():
    problem = sd.PDEProblem(sd.Box(t=(0, 1)), conditions=[sd.Initial(0.0)], network=SMALL)
    solver = sd.Descent(optax.adam(5e-3), points=64, batch=None, hold=200, max_steps=2000, weighting="causal")
    fit = sd.fit(problem, lambda u, p: sd.d(u, "t")(p) - jnp.cos(p.t), solver=solver, progress=False)
    t = np.linspace(0, 1, 9)
    np.testing.assert_allclose(fit(t=t)["u"].to_numpy(), np.sin(t), atol=0.01)


@pytest.mark.usefixtures("unchecked")
def test_solvers_that_do_not_fit_are_refused():
    problem = sd.PDEProblem(LINE, conditions=CORNERS, network=SMALL)
    for wrong in ([], [sd.Descent(), sd.LastLayer()], optax.adam(1e-3)):
        with pytest.raises(sd.OptionError, match=r"solved by sd\.Collocation or sd\.LastLayer"):
            sd.fit(problem, squared, solver=wrong, progress=False)
    wide = sd.PDEProblem(LINE, conditions=CORNERS, network=functools.partial(MLP, width=300))
    with pytest.raises(sd.InputError, match=r"GB of matrices for sd\.QuasiNewton.*sd\.Descent\(\)"):
        sd.fit(wide, squared, solver=[sd.Descent(), sd.QuasiNewton()], progress=False)
    with pytest.raises(sd.OptionError, match="expected a transformation of Optax"):
        sd.Descent(0.01)
    with pytest.raises(sd.OptionError, match=r"batch=500\): there are 100 points"):
        sd.Descent(points=100)
    with pytest.raises(sd.OptionError, match="expected a minimiser of Optimistix"):
        sd.QuasiNewton(GaussNewton())
    with pytest.raises(sd.OptionError, match=r"hold=0\): expected a positive number"):
        sd.QuasiNewton(hold=0)
    with pytest.raises(sd.OptionError, match=r"growing=-1\): expected a number of parts"):
        sd.Descent(growing=-1)
    with pytest.raises(sd.OptionError, match="knows no lengths of columns"):
        GaussNewton(form="iterative")
    with pytest.raises(sd.OptionError, match=r"SSBroyden\(rtol=0\)"):
        SSBroyden(rtol=0)
    with pytest.raises(sd.OptionError, match="takes no options; got lower"):
        optx.minimise(rosenbrock, SSBroyden(), jnp.ones(2), options={"lower": 0.0})
