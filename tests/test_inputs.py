"""Stepwise inputs, against closed forms."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr

import sciad as sd

T = np.array([0.0, 1.0, 1.5, 4.0, 5.0, 7.0])
PUMP = np.array([[1.0, 1.0, -3.0, 2.0, 2.0, 9.0], [0.0, 5.0, 5.0, 5.0, 0.0, 0.0]])


def pumped(**options):
    data = xr.Dataset(
        {
            "y": (("run", "t"), np.zeros((2, 6))),
            "pump": (("run", "t"), PUMP),
            "warmth": ("t", T),
            "base": ("run", [1.0, 2.0]),
        },
        coords={"t": T},
    )
    ways = {"pump": "step", "warmth": "linear", "base": "constant"}
    return sd.ODEProblem(
        data, **({"fields": "y", "inputs": ways, "noise": sd.Normal(1.0), "initial": {"y": 3.0}} | options)
    )


def model(t, y, inputs):
    del t
    return jnp.broadcast_to(inputs["pump"] + inputs["warmth"] + inputs["base"], y.shape)


def exact(times):
    """The integral of the inputs from 0 on."""
    ends = np.append(T, np.inf)
    steps = [[np.sum(u * np.diff(np.minimum(ends, t))) for t in times] for u in PUMP]
    warmth = np.minimum(times, 7.0) ** 2 / 2 + 7.0 * np.maximum(times - 7.0, 0.0)  # held beyond the last time
    return 3.0 + np.array(steps) + warmth + np.array([[1.0], [2.0]]) * times


def test_a_step_is_held_to_the_next_time_and_the_solver_steps_onto_it():
    """With slopes that are straight lines between steps the solver is exact, if it never goes across a step."""
    times = np.sort(np.concatenate([T, [0.3, 1.2, 4.5, 6.9]]))
    found = jax.jit(lambda: pumped().predict(model, times).mean[..., 0])()
    np.testing.assert_allclose(found, exact(times), rtol=1e-12)


def test_the_last_step_is_held_beyond_the_data():
    later = np.array([7.0, 8.0])  # the linear input stops rising at 7, and the solver need not step onto that
    found = jax.jit(lambda: pumped().predict(model, later).mean[..., 0])()
    np.testing.assert_allclose(found, exact(later), rtol=1e-3)


def test_steps_and_doses_go_together():
    doses = [sd.Doses("y", time=4.0, amount=10.0), sd.Doses("y", time=0.5, amount=3.0, duration=2.0, experiment=1)]
    found = jax.jit(lambda: pumped(doses=doses).predict(model).mean[..., 0])()
    given = np.stack([10.0 * (T > 4.0), 10.0 * (T > 4.0) + 1.5 * np.clip(T - 0.5, 0.0, 2.0)])
    np.testing.assert_allclose(found, exact(T) + given, rtol=1e-12)


@pytest.mark.parametrize(
    ("ways", "message"),
    [
        ({"base": "step"}, r"inputs\['base'\] is 'step', and the variable does not change over time. Take 'constant'"),
        ({"pump": "constant"}, r"is 'constant', and the variable changes over time. Take 'linear' or 'step'"),
    ],
)
def test_ways_that_an_input_does_not_go(ways, message):
    with pytest.raises(sd.InputError, match=message):
        pumped(inputs=ways)


@pytest.mark.usefixtures("unchecked")
def test_ways_that_there_are_not():
    with pytest.raises(sd.OptionError, match=r"inputs\['pump'\]='steps' is not an option.*Did you mean 'step'"):
        pumped(inputs={"pump": "steps"})
