# ruff: noqa: ARG005  (a right-hand side takes t and y, whatever it uses)

import inspect
import re

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr

import sciad as sd
from sciad.problems.observations import observations

T = np.array([0.0, 1.0, 2.0, 4.0])


class Decay(eqx.Module):
    rate: sd.Param = sd.param(0.5)

    def __call__(self, t, y):
        del t
        return -self.rate * y


class Fed(eqx.Module):
    """``y' = gain * u(t) + slope``, whose solution is known for an input that is a straight line."""

    gain: sd.Param = sd.param(2.0)

    def __call__(self, t, y, inputs):
        del t
        return jnp.broadcast_to(self.gain * inputs["feed"] + inputs["base"], y.shape)


def table(time=T, **columns):
    columns = columns or {"mass": 8.0 * np.exp(-0.5 * T)}
    return xr.Dataset({name: ("t", np.asarray(values)) for name, values in columns.items()}, coords={"t": time})


@pytest.fixture(scope="module")
def problem():
    return sd.ODEProblem(table(mass=[8.0, 5.0, np.nan, 1.0]), noise=sd.LogNormal(0.1), initial={"mass": sd.param(8.0)})


# --- what a problem computes -----------------------------------------------------------------------------------------


def test_predictions_at_other_times_follow_the_solution(problem):
    mean = jax.jit(lambda: problem.predict(Decay(), [0.0, 0.5, 7.0]).mean)()
    np.testing.assert_allclose(mean[0, :, 0], 8.0 * np.exp(-0.5 * np.array([0.0, 0.5, 7.0])), rtol=1e-5)


def test_a_missing_observation_counts_as_if_it_were_not_there(problem):
    kept = sd.ODEProblem(problem.data.dropna("t"), noise=sd.LogNormal(0.1), initial={"mass": sd.param(8.0)})

    def density(problem, rate):
        return problem.log_likelihood(problem.complete(Decay(sd.param(rate))))

    with_gap, without = (jax.jit(jax.value_and_grad(lambda r, p=p: density(p, r)))(0.6) for p in (problem, kept))
    np.testing.assert_allclose(with_gap, without, rtol=1e-6)
    expected = jnp.sum(
        sd.unwrap(sd.LogNormal(0.1))
        .distribution(8.0 * jnp.exp(-0.6 * T[[0, 1, 3]]))
        .log_prob(jnp.array([8.0, 5.0, 1.0]))
    )
    np.testing.assert_allclose(with_gap[0], expected, rtol=1e-4)


@pytest.mark.parametrize("model", [lambda t, y: y**2, lambda t, y: -100.0 * jnp.ones_like(y)])
def test_a_solve_that_fails_or_goes_negative_has_no_likelihood_and_no_gradient(problem, model):
    def density(initial):
        program = problem.complete(model)
        program = eqx.tree_at(lambda p: p.initial["mass"], program, sd.param(initial))
        return problem.log_likelihood(program)

    value, slope = jax.jit(jax.value_and_grad(density))(8.0)  # y² blows up at t = 1/8
    assert value == -jnp.inf
    assert slope == 0.0


def test_an_impossible_prediction_where_nothing_was_observed_does_not_count():
    data = table(mass=[np.nan, 1.0, 2.0, 4.0])  # starts at zero, where a log-normal median cannot be
    problem = sd.ODEProblem(data, noise=sd.LogNormal(0.1), initial={"mass": 0.0})

    def density(speed):
        return problem.log_likelihood(problem.complete(lambda t, y: speed * jnp.ones_like(y)))

    value, slope = jax.jit(jax.value_and_grad(density))(1.0)
    expected = sum(-np.log(y * 0.1 * np.sqrt(2 * np.pi)) for y in (1.0, 2.0, 4.0))
    np.testing.assert_allclose([value, slope], [expected, 0.0], atol=1e-4)


def test_what_is_impossible_is_replicated_as_missing(key):
    data = table(mass=[np.nan, 1.0, 2.0, 4.0])
    problem = sd.ODEProblem(data, noise=sd.LogNormal(sd.param(0.1)), initial={"mass": 0.0})
    program = problem.complete(lambda t, y: jnp.ones_like(y))
    new, likelihood = jax.jit(problem.replicator(program))(sd.vectorize(program).vector, key)
    assert np.isnan(new[0, 0, 0])
    assert np.isfinite(new[0, 1:]).all()
    assert np.isfinite(likelihood).all()


def test_experiments_share_parameters_and_have_their_own_inputs_and_starts():
    times = np.linspace(0.0, 3.0, 4)
    data = xr.Dataset(
        {
            "y": (("run", "t"), np.zeros((2, 4)), {"units": "g"}),
            "feed": (("t", "run"), np.stack([times, 2 * times], 1)),
        },
        coords={"t": times, "run": ["a", "b"], "base": ("run", [1.0, -1.0])},
    )
    initial = {"y": sd.param([5.0, 6.0])}
    problem = sd.ODEProblem(data, fields="y", inputs=("feed", "base"), noise=sd.Normal(1.0), initial=initial)
    mean = jax.jit(lambda: problem.predict(Fed()).mean)()
    exact = np.stack([5.0 + times**2 + times, 6.0 + 2 * times**2 - times])
    np.testing.assert_allclose(mean[..., 0], exact, rtol=1e-6)
    named = problem.dataset(mean)
    assert named["y"].dims == ("run", "t")
    assert named["y"].attrs == {"units": "g"}
    assert list(named["run"]) == ["a", "b"]


def test_fields_follow_from_hidden_states_by_name_or_by_function():
    data = table(total=[3.0, 3.0, 3.0, 3.0])
    options = {"states": ("a", "b"), "initial": {"a": 1.0, "b": sd.param(2.0)}, "noise": sd.Normal(1.0)}

    def turn(t, y):
        del t
        return [-y[0], y[0]]  # a list, as for other solvers

    by_sum = sd.ODEProblem(data, observe=lambda model, t, y: {"total": y[0] + y[1]}, **options)
    np.testing.assert_allclose(jax.jit(lambda: by_sum.predict(turn).mean)()[0, :, 0], 3.0, rtol=1e-6)
    by_name = sd.ODEProblem(data, observe={"total": "b"}, **options)
    np.testing.assert_allclose(jax.jit(lambda: by_name.predict(turn).mean)()[0, -1, 0], 3.0 - np.exp(-4.0), rtol=1e-5)


def test_initial_values_are_guessed_where_states_are_observed():
    guessed = sd.ODEProblem(table(mass=[np.nan, 5.0, 3.0, 1.0])).complete(Decay()).initial["mass"]
    assert (float(guessed), guessed.role, str(guessed.constraint)) == (5.0, "inner", "Positive(lower_bound=0.0)")
    counts = sd.ODEProblem(table(mice=[0, 2, 3, 1]), noise=sd.NegativeBinomial()).complete(Decay()).initial["mice"]
    assert float(counts) == 0.5
    renamed = sd.ODEProblem(
        table(weight=[-1.0, 2.0, 3.0, 1.0]), states=["m"], observe={"weight": "m"}, noise=sd.Normal()
    )
    assert float(renamed.complete(Decay()).initial["m"]) == -1.0


def test_integer_columns_are_numbers():
    assert sd.ODEProblem(table(mice=np.array([9, 5, 3, 1]))).observations.values.dtype == float


def test_a_complete_program_stays_and_fits_no_other_problem(problem):
    program = problem.complete(Decay())
    assert problem.complete(program) is program
    other = sd.ODEProblem(table(mice=[9.0, 5.0, 3.0, 1.0]))
    with pytest.raises(sd.InputError, match=r"initial names mass, and the problem's mice: .*`program\.model`"):
        other.complete(program)


def test_replicated_data_have_the_scatter_of_the_noise(problem, key):
    program = problem.complete(Decay())
    replicate = problem.replicator(program)
    vector = sd.vectorize(program).vector
    new, likelihood = jax.jit(jax.vmap(lambda k: replicate(vector, k)))(jax.random.split(key, 2000))
    spread = jnp.std(jnp.log(new), axis=0)[0, :, 0]
    np.testing.assert_allclose(spread, 0.1, rtol=0.1)
    total = jax.jit(lambda: problem.log_likelihood(program))()
    np.testing.assert_allclose(jnp.sum(likelihood[0]), total, rtol=1e-6)


# --- bad input -------------------------------------------------------------------------------------------------------

GRID = xr.Dataset({"y": (("run", "t"), np.ones((2, 4))), "z": ("t", np.ones(4))}, coords={"t": T})
DATES = np.array(["2020-01-01", "2020-01-02", "2020-01-03", "2020-01-04"], dtype="datetime64[ns]")


@pytest.mark.parametrize(
    ("data", "options", "message"),
    [
        (table(), {"fields": ("mas",)}, "no variable 'mas'. Did you mean 'mass'?"),
        (table(), {"fields": ()}, "No field is observed"),
        (table(mass=["8", "4", "n/a", "1"]), {}, "'mass' holds text, not numbers: convert it"),
        (table(mass=[8.0, np.inf, 2.0, 1.0]), {}, "1 infinite values: correct them"),
        (table(mass=[np.nan] * 4), {}, "No observation is left of mass: every value is missing"),
        (table().isel(t=slice(0)), {}, "No data are left: 't' is empty"),
        (table([0.0, 2.0, 1.0, 4.0]), {}, r"'t' goes back at entry 2 \(1 after 2\): times must ascend. Sort them"),
        (table([0.0, 1.0, 1.0, 4.0]), {}, r"'t' repeats at entry 2 .* average repeated ones"),
        (table([0.0, 1.0, np.nan, 4.0]), {}, "1 missing or infinite times"),
        (table(["a", "b", "c", "d"]), {}, "'t' holds text; expected times as numbers"),
        (table(DATES), {}, "'t' holds dates; an equation needs numbers.*time_unit='day'"),
        (table(), {"t0": 1.5}, r"2 of 4 observations lie before t0=1.5, the first at 0"),
        (table(mass=[8.0, -4.0, 2.0, 1.0]), {}, r"1 of 4 values of 'mass' are unfit \(-4 first\): log-normal"),
        (table(), {"time": "hour"}, "no dimension 'hour'. There is: t"),
        (GRID, {"fields": ("y", "z")}, r"'z' has dimensions \('t',\); expected \('run', 't'\)"),
        (GRID.rename(t="x"), {"fields": ("y",)}, "Which of the dimensions run, x is time"),
        (
            table(),
            {"noise": {"mss": sd.Normal()}},
            "`noise` names 'mss', which is no observed field. Did you mean 'mass'",
        ),
        (table(), {"noise": {"mass": 0.3}}, "noise of 'mass' is 0.3; expected a noise model"),
        (table(), {"noise": {}}, "noise of 'mass' is nothing"),
        (table(), {"initial": {"mas": 1.0}}, "`initial` names 'mas', which is no state. Did you mean 'mass'"),
        (table(), {"states": ("m",)}, "Nothing predicts mass: the states are m. Give `observe={field: state}`"),
        (table(), {"observe": {"weight": "mass"}}, "`observe` names 'weight', which is no observed field"),
        (table(), {"states": ("mass", "food")}, "'food' is not observed and has no initial value. Give"),
        (table(), {"inputs": ("dose",)}, "no input 'dose'"),
        (table(mass=T, dose=[1.0, np.nan, 1.0, 1.0]), {"inputs": ("dose",)}, "an input must be known everywhere"),
        (GRID.isel(run=0).assign(u=("k", [1.0])), {"fields": ("y",), "inputs": ("u",)}, "Input 'u' has dimension k"),
        (GRID.where(GRID.run == 0), {"fields": ("y",)}, "'y' is never observed in 1 of 2 experiments"),
    ],
)
def test_data_and_options_that_do_not_fit(data, options, message):
    with pytest.raises(sd.InputError, match=re.compile(message, re.DOTALL)):
        sd.ODEProblem(data, **options)


def test_what_is_no_dataset_is_refused():
    with pytest.raises(sd.InputError, match=r"`data` is a list; expected an xarray\.Dataset"):
        inspect.unwrap(observations)([1.0, 2.0], ("mass",), None, None, None)  # without the tests' own check of types


def test_an_unknown_option_is_an_error():
    with pytest.raises(TypeError, match="unexpected keyword argument 'noize'"):
        sd.ODEProblem(table(), noize=sd.Normal())


def test_a_prior_on_a_frozen_leaf_is_an_error():
    with pytest.raises(sd.InputError, match="A prior on a frozen leaf has no effect"):
        sd.param(1.0, prior=sd.LogNormal().sigma.prior, role="frozen")


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (3.0, "The model is a float; expected a callable"),
        (lambda t, y: jnp.zeros(3), r"returned shape \(3,\) for the 1 states mass: return one slope for each"),
        (lambda t, y: y[0], r"returned shape \(\) for the 1 states mass"),
        (lambda t, y: jnp.log(-y), r"right-hand side is \[nan\] at t=0, y=\[8\.\]: not finite at the very start"),
    ],
)
def test_right_hand_sides_that_do_not_fit(model, message):
    with pytest.raises(sd.InputError, match=message):
        sd.ODEProblem(table()).complete(model)


def test_shapes_of_initial_values_and_observed_fields_are_checked():
    with pytest.raises(sd.InputError, match=r"initial\['mass'\] has shape \(3,\); expected one value, or one for each"):
        sd.ODEProblem(table(), initial={"mass": [1.0, 2.0, 3.0]}).complete(Decay())
    for observe, message in (
        (lambda m, t, y: {"weight": y[0]}, "`observe` gives no 'mass': return a dictionary with mass"),
        (lambda m, t, y: {"mass": y}, r"returned arrays of shape \(1,\); expected one number"),
    ):
        with pytest.raises(sd.InputError, match=message):
            sd.ODEProblem(table(), observe=observe, initial={"mass": 8.0}).complete(Decay())


@pytest.mark.parametrize("times", [[], [-1.0, 2.0], [2.0, 1.0], np.ones((1, 1)), [np.nan]])
def test_times_of_a_prediction_are_checked(problem, times):
    with pytest.raises(sd.InputError, match=r"`times` .* expected .*ascending times from t0=0"):
        problem.predict(problem.complete(Decay()), times)


# --- what users mistake ----------------------------------------------------------------------------------------------


def test_experiments_may_start_each_at_its_own_value_beside_a_state_that_starts_at_one():
    data = xr.Dataset({"mass": (("who", "t"), np.ones((3, 4)))}, coords={"t": T})
    initial = {"mass": np.array([1.0, 2.0, 4.0]), "rest": 0.0}
    problem = sd.ODEProblem(data, fields=["mass"], states=["mass", "rest"], noise=sd.Normal(1.0), initial=initial)
    mean = jax.jit(lambda: problem.predict(lambda t, y: jnp.zeros(2)).mean)()
    np.testing.assert_array_equal(mean[:, :, 0], np.repeat([[1.0], [2.0], [4.0]], 4, axis=1))


def test_one_name_may_be_given_as_it_is():
    data = table(d=np.ones(4), dose=np.ones(4))
    assert sd.ODEProblem(data, inputs="dose", noise=sd.Normal(1.0)).fields == ("d",)
    assert sd.ODEProblem(data, fields="d", states="d", noise=sd.Normal(1.0)).states == ("d",)


def test_the_absolute_tolerance_follows_small_data():
    large, small = (sd.ODEProblem(table(mass=size * np.ones(4)), noise=sd.Normal(1.0)) for size in (50.0, 1e-7))
    assert (large.solver.controller.atol, small.solver.controller.atol) == (1e-6, pytest.approx(1e-13))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Decay, r"The model is the class Decay itself; expected an instance: write Decay\(\)"),
        (lambda: Decay(0.5), r"'rate' is declared as a parameter and holds 0\.5\. Write sd\.param\(0\.5\), or"),
    ],
)
def test_models_that_hide_their_parameters_are_refused(problem, make, message):
    with pytest.raises(sd.InputError, match=message):
        problem.complete(make())


def test_a_program_of_another_problem_is_refused(problem):
    program = problem.complete(Decay())
    other = sd.ODEProblem(problem.data, noise=sd.StudentT(7.0, 3.0), initial={"mass": 8.0})
    with pytest.raises(sd.InputError, match="noise of 'mass' is LogNormal, and the problem's StudentT"):
        other.complete(program)
    two = xr.Dataset({"mass": (("who", "t"), np.ones((2, 4)))}, coords={"t": T})
    of_two = sd.ODEProblem(two, noise=sd.LogNormal(0.1), initial={"mass": sd.param([1.0, 2.0])}).complete(Decay())
    with pytest.raises(sd.InputError, match=r"initial.mass has a value of each experiment, of shape \(2,\), and"):
        problem.complete(of_two)


@pytest.mark.usefixtures("unchecked")
def test_what_is_no_solver_and_no_dictionary_of_fields_is_said():
    import diffrax

    with pytest.raises(sd.InputError, match=r"`solver` is a Kvaerno5; expected sd\.ODE\(\.\.\.\), such as sd\.ODE"):
        sd.ODEProblem(table(), solver=diffrax.Kvaerno5())
    wrong = sd.ODEProblem(table(), initial={"mass": 8.0}, observe=lambda model, t, y: y)
    with pytest.raises(sd.InputError, match=r"`observe` returned a .*; expected a dictionary {field: value} with mass"):
        wrong.complete(Decay())


def test_an_initial_value_that_cannot_be_is_named():
    with pytest.raises(sd.InputError, match=r"initial\['mass'\]: A parameter's value is nan"):
        sd.ODEProblem(table(mass=[8.0, 5.0, 3.0, 1.0]), initial={"mass": np.nan})


def test_a_problem_tells_itself_in_a_line(problem):
    assert repr(problem) == "<ODEProblem: 3 observations of mass at 4 times (t); LogNormal noise>"
