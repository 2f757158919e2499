"""Doses and infusions against superposed closed forms, and what cannot be a schedule."""

# ruff: noqa: ARG005  (a right-hand side takes t and y, whatever it uses)

import diffrax as dfx
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
import xarray as xr
from numpyro.distributions import constraints

import sciad as sd
from sciad.problems.easing import shortened, thinned

T = np.array([0.0, 1.0, 3.0, 5.0, 8.0, 8.5, 12.0, 20.0, 24.0])
ACCURATE = sd.ODE(rtol=1e-9, atol=1e-9)


class Oral(eqx.Module):
    """A gut that empties into a body, from which a drug is cleared."""

    ka: sd.Param = sd.param(1.1)
    ke: sd.Param = sd.param(0.2)
    f: sd.Param = sd.param(0.7)
    lag: sd.Param = sd.param(0.4)

    def __call__(self, t, y):
        del t
        return [-self.ka * y[0], self.ka * y[0] - self.ke * y[1]]


def bolus(t, ka, ke):
    """The body's answer to one unit in the gut, zero until after it is given."""
    return np.where(t > 0, ka / (ka - ke) * (np.exp(-ke * np.maximum(t, 0)) - np.exp(-ka * np.maximum(t, 0))), 0.0)


def infusion(t, ke, duration):
    """The body's answer to one unit a time put straight into it for so long."""
    t = np.maximum(t, 0.0)
    risen = (1 - np.exp(-ke * np.minimum(t, duration))) / ke
    return risen * np.exp(-ke * np.maximum(t - duration, 0.0))


def seen(doses, times=T, values=None, **options):
    data = xr.Dataset({"body": ("t", np.ones_like(times) if values is None else values)}, coords={"t": times})
    options = {"noise": sd.Normal(1.0), "initial": {"gut": 0.0, "body": 0.0}, "solver": ACCURATE} | options
    return sd.ODEProblem(data, states=("gut", "body"), doses=doses, **options)


def curve(problem, model, times=None):
    return np.asarray(jax.jit(lambda: problem.predict(model, times).mean[..., 0])())


# --- known answers ---------------------------------------------------------------------------------------------------

DOSES = [
    sd.Doses("gut", time=1.0, amount=10.0, every=7.0, repeats=2, fraction=lambda m: {"gut": m.f}, lag=lambda m: m.lag),
    sd.Doses("body", time=[2.0, 3.5], amount=[6.0, 4.0], duration=[3.0, 9.0]),
    sd.Doses("body", time=5.0, amount=2.0),
]


def superposed(p):
    ka, ke, f, lag = p
    oral = sum(10.0 * f * bolus(T - lag - t, ka, ke) for t in (1.0, 8.0, 15.0))
    infused = 2.0 * infusion(T - 2.0, ke, 3.0) + 4.0 / 9.0 * infusion(T - 3.5, ke, 9.0)
    return oral + infused + np.where(T > 5.0, 2.0 * np.exp(-ke * (T - 5.0)), 0.0)


POINT = np.array([1.1, 0.2, 0.7, 0.4])


@pytest.mark.parametrize("sensitivity", ["forward", pytest.param("reverse", marks=pytest.mark.slow)])
def test_boluses_and_infusions_superpose_with_derivatives_in_rates_fraction_and_lag(sensitivity):
    problem = seen(DOSES).with_sensitivity(sensitivity)
    vectorized = sd.vectorize(problem.complete(Oral()))
    jacobian = jax.jacfwd if sensitivity == "forward" else jax.jacrev

    @jax.jit
    def both(v):
        def mean(v):
            found = problem.predict(vectorized.program(v)).mean[0, :, 0]
            return found, found

        return jacobian(mean, has_aux=True)(v)

    slopes, value = both(vectorized.vector)
    np.testing.assert_allclose(value, superposed(POINT), atol=1e-7)
    for i, step in enumerate(1e-5 * np.eye(4)):
        expected = (superposed(POINT + step) - superposed(POINT - step)) / 2e-5
        np.testing.assert_allclose(slopes[:, i], expected, atol=1e-6)


def test_an_observation_at_the_time_of_a_dose_sees_the_state_before_it():
    doses = sd.Doses("body", time=0.0, amount=1.0, every=0.7, repeats=2)  # 3 x 0.7 and 2.1 differ by rounding
    times = np.array([0.0, 0.7, 1.4, 2.1])
    problem = seen(doses, times, initial={"gut": 0.0, "body": 5.0})
    still = curve(problem, lambda t, y: jnp.zeros_like(y))
    np.testing.assert_allclose(still[0], [5.0, 6.0, 7.0, 8.0], rtol=1e-12)


def test_a_state_is_set_and_scaled_and_what_comes_at_once_comes_in_the_order_given():
    doses = [
        sd.Doses("body", time=1.0, amount=8.0, kind="set"),
        sd.Doses("body", time=1.0, amount=0.25, kind="scale"),
        sd.Doses("body", time=[1.0, 4.0], amount=[1.0, -2.0]),
    ]
    still = curve(seen(doses), lambda t, y: jnp.zeros_like(y), [1.0, 2.0, 6.0])
    np.testing.assert_allclose(still[0], [0.0, 3.0, 1.0], atol=1e-12)


def test_experiments_with_schedules_of_their_own_are_as_if_apart():
    first = sd.Doses("gut", time=0.0, amount=10.0, every=6.0, repeats=3, experiment="a")
    second = sd.Doses("body", time=2.0, amount=6.0, rate=1.5, experiment=["b"])
    data = xr.Dataset({"body": (("run", "t"), np.ones((3, T.size)))}, coords={"t": T, "run": ["a", "b", "c"]})
    options = {"states": ("gut", "body"), "noise": sd.Normal(1.0), "solver": ACCURATE}
    together = sd.ODEProblem(data, doses=[first, second], initial={"gut": 0.0, "body": 1.0}, **options)
    found = curve(together, Oral())
    rest = np.exp(-0.2 * T)
    oral = sum(10.0 * bolus(T - t, 1.1, 0.2) for t in (0.0, 6.0, 12.0, 18.0))
    np.testing.assert_allclose(found, [rest + oral, rest + 1.5 * infusion(T - 2.0, 0.2, 4.0), rest], atol=1e-7)


def test_predictions_at_other_times_end_before_later_doses():
    asked = np.array([0.5, 1.0, 1.4, 2.0])
    found = curve(seen(sd.Doses("gut", time=[1.0, 1.5, 12.0], amount=10.0)), Oral(), asked)
    expected = 10.0 * (bolus(asked - 1.0, 1.1, 0.2) + bolus(asked - 1.5, 1.1, 0.2))
    np.testing.assert_allclose(found[0], expected, atol=1e-7)


def test_doses_are_read_from_a_table_as_pharmacometrics_keeps_them():
    frame = pd.DataFrame(
        {
            "ID": [1, 1, 1, 2, 2],
            "TIME": [0.0, 1.0, 6.0, 2.0, 5.0],
            "AMT": ["10", ".", "4", "6", "0"],
            "RATE": [0.0, 0.0, 2.0, 0.0, 0.0],
            "II": [3.0, 0.0, 0.0, 0.0, 0.0],
            "ADDL": [1, 0, 0, 0, 0],
            "CMT": ["gut", "gut", "body", "gut", "gut"],
        }
    )
    columns = {"time": "TIME", "amount": "AMT", "rate": "RATE", "every": "II", "repeats": "ADDL", "experiment": "ID"}
    table = sd.Doses.from_table(frame, state="CMT", **columns)
    assert [dose[:4] for dose in table.doses] == [
        (0.0, 10.0, "gut", 0.0),
        (3.0, 10.0, "gut", 0.0),
        (6.0, 4.0, "body", 2.0),
        (2.0, 6.0, "gut", 0.0),
    ]
    data = xr.Dataset({"body": (("ID", "t"), np.ones((2, T.size)))}, coords={"t": T, "ID": [2, 1]})
    initial = {"gut": 0.0, "body": 0.0}
    schedule = sd.ODEProblem(data, states=("gut", "body"), doses=table, noise=sd.Normal(1.0), initial=initial).schedule
    never = np.inf
    np.testing.assert_array_equal(schedule.times, [[2.0, *[never] * 4], [0.0, 3.0, 6.0, 8.0, never]])
    np.testing.assert_array_equal(schedule.rate, [[0.0] * 5, [0.0, 0.0, 2.0, -2.0, 0.0]])


def test_steps_of_a_given_size_keep_it_between_doses():
    """Euler's method with steps of one has a closed form, which shows where each step began and how long it was."""
    euler = sd.ODE(dfx.Euler(), controller=dfx.ConstantStepSize(), dt0=1.0)
    dose = sd.Doses("body", time=2.0, amount=4.0)
    problem = seen(dose, np.array([0.0, 2.0, 5.0]), solver=euler, initial={"gut": 0.0, "body": 1.0})
    found = curve(problem, lambda t, y: -0.5 * y)
    np.testing.assert_allclose(found[0], [1.0, 0.25, (0.25 + 4.0) * 0.125], rtol=1e-12)


# --- the verbs -------------------------------------------------------------------------------------------------------


def treated():
    doses = sd.Doses("gut", time=0.0, amount=10.0, every=8.0, repeats=2, fraction=lambda m: m.f)
    exact = sum(7.0 * bolus(T - t, 1.1, 0.2) for t in (0.0, 8.0, 16.0))
    values = exact + 0.01 * np.random.default_rng(0).standard_normal(T.size)
    iv = sd.Doses("body", time=4.0, amount=5.0)
    values += np.where(T > 4.0, 5.0 * np.exp(-0.2 * (T - 4.0)), 0.0)
    problem = seen([doses, iv], values=values, noise=sd.Normal(0.01))

    return problem, exact + np.where(T > 4.0, 5.0 * np.exp(-0.2 * (T - 4.0)), 0.0) - values


def positive(ka, ke, f):
    return Oral(*(sd.param(x, constraint=constraints.positive) for x in (ka, ke, f)), lag=sd.frozen(0.0))


def test_a_fit_finds_rates_and_fraction():
    problem, _ = treated()
    found = sd.fit(problem, positive(0.5, 0.4, 0.5), starts=0)
    assert found.message == "Converged."
    np.testing.assert_array_less(np.abs(found.values - [1.1, 0.2, 0.7]), 4.0 * np.sqrt(np.diag(found.covariance)))


def test_a_horizon_holds_the_doses_within():
    problem, off = treated()
    program = problem.complete(positive(1.1, 0.2, 0.7))
    eased, _ = jax.jit(lambda ease: shortened(thinned(problem), program, ease))(1 / 9.0)
    np.testing.assert_allclose(eased[0, 6:], 0.0)
    np.testing.assert_allclose(np.abs(eased[0, :6, 0]), np.abs(off[:6]) / 0.01 * np.sqrt(9 / 6), atol=1e-4)


def test_a_schedule_is_sampled_from_the_same_density_that_is_fitted():
    """The density that `sample` differentiates in reverse: its value and slope in a rate, by the closed form."""
    problem = seen(sd.Doses("body", time=1.0, amount=3.0, fraction=lambda m: m.f))
    vectorized = sd.vectorize(problem.complete(Oral()))
    value, slope = jax.jit(jax.value_and_grad(lambda v: problem.log_likelihood(vectorized.program(v))))(
        vectorized.vector
    )
    after = T > 1.0
    mean = np.where(after, 2.1 * np.exp(-0.2 * (T - 1.0)), 0.0)
    np.testing.assert_allclose(value, -0.5 * np.sum((1.0 - mean) ** 2) - T.size * 0.5 * np.log(2 * np.pi), rtol=1e-7)
    by_rate = np.where(after, -(T - 1.0) * mean, 0.0)
    expected = [0.0, np.sum((1 - mean) * by_rate), np.sum((1 - mean) * mean) / 0.7, 0.0]
    np.testing.assert_allclose(slope, expected, atol=1e-6)


def test_a_dose_that_would_come_before_the_start_fails_the_solve():
    problem = seen(sd.Doses("gut", time=1.0, amount=1.0, lag=lambda m: m.lag))
    predict = jax.jit(lambda lag: problem.predict(Oral(lag=sd.param(lag))).ok[0])
    assert not predict(-2.0)
    assert predict(-1.0)


# --- messages --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"time": np.nan}, r"Doses\(time=...\) holds 1 missing or infinite values: every dose needs its time."),
        ({"amount": "much"}, r"Doses\(amount='much'\): expected numbers."),
        ({"duration": -1.0}, r"a duration is -1; expected at least zero"),
        ({"rate": 0.0}, r"rates and amounts must be positive; got 0 and 1 as the smallest"),
        ({"repeats": 2}, r"needs the time from one dose to the next: give a positive `every`"),
        ({"every": 2.0}, r"needs the number of times that the dose is given again: give `repeats`"),
        ({"every": 1.0, "repeats": 1.5}, r"Doses\(repeats=\[1.5\]\): expected whole numbers"),
        ({"time": [1.0, 2.0], "amount": [1.0, 2.0, 3.0]}, r"different numbers of values \(2 in time, 3 in amount\)"),
    ],
)
@pytest.mark.usefixtures("unchecked")
def test_numbers_that_are_no_doses(given, message):
    with pytest.raises(sd.InputError, match=message):
        sd.Doses("gut", **({"time": 1.0, "amount": 1.0} | given))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"duration": 1.0, "rate": 2.0}, r"Doses\(duration=..., rate=...\): give one of them"),
        ({"kind": "set", "duration": 1.0}, r"Doses\(kind='set'\) happens at once"),
        ({"kind": "multiply"}, r"kind='multiply' is not an option. Expected one of 'add', 'set', 'scale'"),
    ],
)
def test_options_that_cannot_be_combined(given, message):
    with pytest.raises(sd.OptionError, match=message):
        sd.Doses("gut", time=1.0, amount=1.0, **given)


@pytest.mark.parametrize(
    ("doses", "message"),
    [
        (sd.Doses("gat", time=1.0, amount=1.0), r"`doses` names 'gat', which is no state. Did you mean 'gut'\?"),
        (sd.Doses("gut", time=-1.0, amount=1.0), r"'gut' is given at t=-1, before the solve starts at t0=0: lower t0"),
        (sd.Doses("gut", time=24.0, amount=1.0), r"at t=24, and the last time of the data is 24: nothing could show"),
        (sd.Doses("gut", time=0.0, amount=1.0, experiment="a"), r"experiment='a'\): the data hold one experiment"),
        ([1.0], r"`doses` holds a float; expected sd.Doses"),
    ],
)
@pytest.mark.usefixtures("unchecked")
def test_schedules_that_do_not_fit_the_data(doses, message):
    with pytest.raises(sd.InputError, match=message):
        seen(doses)


def test_an_experiment_that_is_not_there():
    data = xr.Dataset({"body": (("run", "t"), np.ones((2, T.size)))}, coords={"t": T, "run": ["first", "second"]})
    doses = sd.Doses("body", time=1.0, amount=1.0, experiment="frist")
    with pytest.raises(sd.InputError, match=r"experiment='frist'\): no run of the data is called that. Did you mean"):
        sd.ODEProblem(data, doses=doses)


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        (lambda m: {"gat": 1.0}, r"`fraction` names 'gat', which is no state"),
        (lambda m: {"gut": jnp.ones(2)}, r"`fraction` gives an array of shape \(2,\) for 'gut'; expected one number"),
    ],
)
def test_fractions_that_do_not_fit(rule, message):
    problem = seen(sd.Doses("gut", time=1.0, amount=1.0, fraction=rule))
    with pytest.raises(sd.InputError, match=message):
        problem.complete(Oral())


def test_solvers_that_do_not_go_with_doses():
    dose = sd.Doses("gut", time=1.0, amount=1.0)
    event = dfx.Event(lambda t, y, args, **_: y[0] < 0)
    with pytest.raises(sd.InputError, match=r"ODE\(event=...\) and doses or stepwise inputs cannot be combined"):
        seen(dose, solver=sd.ODE(event=event))
    control = dfx.ClipStepSizeController(dfx.PIDController(rtol=1e-6, atol=1e-6), jump_ts=jnp.array([2.0]))
    with pytest.raises(sd.InputError, match=r"controller=ClipStepSizeController\(...\)\) cannot be combined"):
        seen(dose).with_solver(sd.ODE(controller=control))


def test_tables_that_hold_no_doses():
    frame = pd.DataFrame({"TIME": [0.0, 1.0], "AMT": [0.0, np.nan]})
    with pytest.raises(sd.InputError, match=r"No row of the table has an amount in 'AMT': there is no dose"):
        sd.Doses.from_table(frame, time="TIME", amount="AMT", state="gut")
    with pytest.raises(sd.InputError, match=r"`time` names 'TIMES', which is no column of the table. Did you mean"):
        sd.Doses.from_table(frame, time="TIMES", amount="AMT", state="gut")


@pytest.mark.usefixtures("unchecked")
def test_a_table_of_another_kind():
    with pytest.raises(sd.InputError, match=r"`frame` is a dict; expected a pandas.DataFrame"):
        sd.Doses.from_table({}, time="TIME", amount="AMT", state="gut")


def test_gradient_matching_refuses_jumps():
    with pytest.raises(sd.InputError, match=r"smooths the data, and doses and resets make them jump"):
        sd.gradient_matching(seen(sd.Doses("body", time=1.0, amount=1.0)), Oral())
