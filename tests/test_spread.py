"""Independent calls side by side on the cores."""

import threading
import time

import equinox as eqx
import jax
import numpy as np
import pytest
import xarray as xr

import sciad as sd
from sciad._cores import cores
from sciad.solvers.spread import spread

pytestmark = pytest.mark.loose_promotion  # promotion set for the testing thread alone would keep all in it


def named(item):
    time.sleep(0.02)
    return item, threading.current_thread().name


def test_answers_come_in_order_the_first_from_the_calling_thread():
    items, names = zip(*spread(named, range(12)), strict=True)
    assert items == tuple(range(12))
    assert names[0] == threading.current_thread().name
    assert 1 <= len(set(names[1:])) <= cores()
    if cores() > 1:
        assert all(name.startswith("spread") for name in names[1:])
        assert len(set(names[1:])) > 1


def test_settings_of_the_calling_thread_alone_keep_all_calls_in_it():
    with jax.numpy_rank_promotion("warn"):
        names = {name for _, name in spread(named, range(4))}
    assert names == {threading.current_thread().name}


def test_an_error_in_a_thread_comes_up():
    def odd(item):
        if item == 5:
            message = "five"
            raise ValueError(message)
        return item

    calls = spread(odd, range(9))
    assert [next(calls) for _ in range(5)] == [0, 1, 2, 3, 4]
    with pytest.raises(ValueError, match="five"):
        next(calls)


def test_closed_early_it_waits_for_what_runs_and_begins_nothing_more():
    begun, ended = [], []

    def slow(item):
        begun.append(item)
        time.sleep(0.05)
        ended.append(item)

    calls = spread(slow, range(100))
    next(calls)
    next(calls)
    calls.close()
    assert sorted(begun) == sorted(ended)
    assert len(begun) < 20
    time.sleep(0.1)
    assert len(begun) == len(ended)


def test_a_fit_in_threads_is_that_in_one(monkeypatch):
    class Leaving(eqx.Module):
        rate: sd.Param = sd.param(3.0)

        def __call__(self, t, y):  # noqa: ARG002
            return -self.rate * y

    t = np.linspace(0.0, 3.0, 12)
    y = np.exp(-0.5 * t) + 0.05 * np.random.default_rng(0).standard_normal(12)
    problem = sd.ODEProblem(xr.Dataset({"y": ("t", y)}, coords={"t": t}), noise=sd.Normal())
    settings = sd.LeastSquares(starts=8, polished=4, paths=0)
    threaded = sd.fit(problem, Leaving(), solver=settings, progress=False)
    monkeypatch.setattr("sciad.solvers.spread.cores", lambda: 1)
    alone = sd.fit(problem, Leaving(), solver=settings, progress=False)
    assert len(alone.stats["polished_losses"]) == 5
    assert threaded.stats["polished_losses"] == alone.stats["polished_losses"]
    assert threaded.values.tolist() == alone.values.tolist()
