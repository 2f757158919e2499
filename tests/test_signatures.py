"""What users write wrongly in functions and arguments is told in words."""

import equinox as eqx
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
import xarray as xr

import sciad as sd

DATA = xr.Dataset({"y": ("t", [1.0, 0.6, 0.4])}, coords={"t": [0.0, 1.0, 2.0]})


class Rate(eqx.Module):
    r: sd.Param = sd.param(0.5)


class Swapped(Rate):
    def __call__(self, y, t):  # noqa: ARG002
        return -self.r * y


class Branching(Rate):
    def __call__(self, t, y):  # noqa: ARG002
        return -self.r * y if y[0] < 5 else -y


class Numpy(Rate):
    def __call__(self, t, y):
        return -np.exp(self.r * t) * y


class Rounding(Rate):
    def __call__(self, t, y):  # noqa: ARG002
        return -float(y[0]) * y


WRONG = {
    "the state before the time": (Swapped(), r"takes \(y, t\) in this order"),
    "a branch": (Branching(), r"Write jnp\.where"),
    "NumPy": (Numpy(), r"Write jnp instead of np"),
    "a number": (Rounding(), r"by float\(\) or int\(\)"),
}


@pytest.mark.parametrize("kind", WRONG)
def test_a_right_hand_side_with(kind):
    model, words = WRONG[kind]
    with pytest.raises(sd.InputError, match=words):
        sd.ODEProblem(DATA).complete(model)


def decay(t, y):  # noqa: ARG001
    return -y


def fine(model, t, y):  # noqa: ARG001
    return y[0] - 0.5


RESETS = {
    "too few arguments": (lambda _t, y: y[0], lambda _m, _t, y: y, r"called as when\(model, t, y\)"),
    "swapped arguments": (lambda _m, y, time: y[0] + time, lambda _m, _t, y: y, r"takes \(y, time\)"),
    "nothing returned": (fine, lambda _m, _t, _y: None, r"Reset\(then=\.\.\.\) cannot be used"),
    "a dictionary": (fine, lambda _m, _t, y: {"y": y}, r"returns the state after it"),
    "NumPy": (lambda _m, _t, y: np.exp(y[0]), lambda _m, _t, y: y, "Write jnp instead of np"),
}


@pytest.mark.parametrize("kind", RESETS)
def test_resets_with(kind):
    when, then, words = RESETS[kind]
    with pytest.raises(sd.InputError, match=words):
        sd.ODEProblem(DATA, resets=sd.Reset(when, then)).complete(decay)


FRAMES = {
    "a list": ([1.0, 2.0], r'Write xr\.Dataset\(\{"y"'),
    "a dictionary": ({"y": [1.0]}, r'Write xr\.Dataset\(\{"y"'),
    "a table": (pd.DataFrame({"t": [0.0], "y": [1.0]}), r'from_dataframe\(df\.set_index\("t"\)\)'),
}


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("kind", FRAMES)
def test_data_in(kind):
    data, words = FRAMES[kind]
    with pytest.raises(sd.InputError, match=words):
        sd.ODEProblem(data)


@pytest.mark.usefixtures("unchecked")
def test_arguments_in_other_places():
    with pytest.raises(sd.InputError, match=r"`initial` is 0\.3; expected.*initial=\{'y': \.\.\.\}"):
        sd.ODEProblem(DATA, initial=0.3)
    with pytest.raises(sd.InputError, match="the first is a Numpy; expected an ODEProblem"):
        sd.multiple_shooting(Numpy(), sd.ODEProblem(DATA))
    with pytest.raises(sd.InputError, match=r"expected what `sd\.fit` returns"):
        sd.profile(sd.ODEProblem(DATA))
    with pytest.raises(sd.InputError, match=r"`observe` names 'biomas', which is no state. Did you mean 'biomass'"):
        sd.ODEProblem(DATA, states=["biomass"], observe={"y": "biomas"}, initial={"biomass": 1.0})


def test_an_experiment_without_observation_is_named():
    data = xr.Dataset(
        {"y": (("flask", "t"), [[1.0, 2.0], [np.nan, np.nan]])}, coords={"t": [0.0, 1.0], "flask": ["A", "D"]}
    )
    with pytest.raises(sd.InputError, match=r"never observed in 1 of 2 experiments \(D\)"):
        sd.ODEProblem(data)


class Bottle(eqx.Module):
    rate: sd.Param = sd.param(1.0)

    def __call__(self, t, y):  # noqa: ARG002
        return -self.rate * jnp.ones(1)


@pytest.mark.slow
def test_observations_at_a_reset_are_told_and_resets_that_never_happen():
    refilled = sd.Reset(when=lambda _m, _t, y: y[0], then=lambda _m, _t, y: jnp.ones_like(y), most=4)
    assert repr(refilled) == "Reset(where `when` falls through zero, 4 times at most)"
    times = np.array([0.5, 1.0, 1.5, 2.5])
    data = xr.Dataset({"y": ("t", [0.5, 0.0, 0.5, 0.5])}, coords={"t": times})
    options = {"initial": {"y": 1.0}, "noise": sd.Normal(0.1), "t0": 0.0, "resets": refilled}
    plain = sd.LeastSquares(starts=0, paths=0)
    problem = sd.ODEProblem(data, **options)
    assert problem.reset_times(Bottle())[0].tolist() == pytest.approx([1.0, 2.0, np.inf, np.inf])
    fit = sd.fit(problem, Bottle(), solver=plain, progress=False)
    assert any("The observation at t 1 lies at a reset" in warning for warning in fit.warnings), fit.warnings
    never = sd.Reset(when=lambda _m, _t, y: y[0] + 99.0, then=lambda _m, _t, y: y, most=1)
    full = sd.ODEProblem(data, **options | {"resets": never})
    assert any(
        "No reset happens" in warning for warning in sd.fit(full, Bottle(), solver=plain, progress=False).warnings
    )
