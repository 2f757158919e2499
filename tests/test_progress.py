# ruff: noqa: ARG001, ARG005  (what is called back takes all that it is given)
"""What a fit says while it goes on, and what an interrupt leaves."""

import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr

import sciad as sd
from sciad._progress import Progress
from sciad.solvers.least_squares import Path

UNSURE = Path([], 1.0, exact=lambda found: False, doubtful=lambda found: True, shortcuts=lambda: [])
STARTS = np.array([[3.0], [1.0], [-2.0], [5.0]])


def quadratic(x, noise):
    return jnp.concatenate([x - 1.0, 0.1 * x]), x


def nothing(noise, x):
    return 0.5 * jnp.sum(jnp.square(quadratic(x, noise)[0]))


def estimate(report, path=UNSURE):
    solver = sd.LeastSquares(polished=2, paths=0)
    return solver.estimate(quadratic, nothing, STARTS, np.zeros(0), path=path, report=report)


def test_stages_are_told_in_order_with_the_least_loss():
    told = []
    found = estimate(lambda *words: told.append(words))
    stages = list(dict.fromkeys(stage for stage, *_ in told))
    assert stages == ["first descents", "starts", "descents"]
    assert [words[1:3] for words in told if words[0] == "starts"] == [(1, 3), (2, 3), (3, 3)]
    assert told[0] == ("first descents", 0, 1, np.inf)
    assert told[-1] == ("descents", 2, 2, found.loss)
    assert "interrupted" not in found.stats


def interrupting(stage, number):
    def report(now, done, total, loss):
        if (now, done) == (stage, number):
            raise KeyboardInterrupt

    return report


def test_an_interrupt_leaves_the_best_so_far():
    found = estimate(interrupting("descents", 1))
    assert found.stats["interrupted"]
    assert len(found.stats["polished_losses"]) == 2
    np.testing.assert_allclose(found.point.location, 1 / 1.01, rtol=1e-6)


@pytest.mark.parametrize(("stage", "path"), [("first descents", UNSURE), ("first descents", None)])
def test_an_interrupt_before_there_is_an_answer_goes_on_up(stage, path):
    with pytest.raises(KeyboardInterrupt):
        estimate(interrupting(stage, 0), path)


def test_a_fit_that_was_stopped_says_so(monkeypatch):
    data = xr.Dataset({"y": ("t", [1.0, 2.0, 3.0])}, coords={"t": [0.0, 1.0, 2.0]})
    problem = sd.ODEProblem(data, noise=sd.Normal(0.5), initial={"y": sd.param(0.7)})
    stop = interrupting("starts", 2)
    monkeypatch.setattr(Progress, "update", lambda self, stage, done, total, note: stop(stage, done, total, 0.0))
    found = sd.fit(problem, lambda t, y: 0.0 * y, starts=4)
    assert "Stopped by the user: this is the best of the first descents, of which" in found.warnings[0]
    np.testing.assert_allclose(found.values, [2.0], rtol=1e-6)


def test_brief_work_says_nothing_until_it_has_lasted(capsys):
    with Progress(brief=True) as display:
        display.update("starts", 3, 3, "least loss 1")
    assert capsys.readouterr().err == ""
    with Progress(brief=True, every=0.0) as display:
        display.update("starts", 1, 3, "least loss 1")
    assert "starts: 1/3" in capsys.readouterr().err
    with Progress(brief=True, every=0.0, quiet=True) as display:
        display.update("starts", 1, 3, "least loss 1")
    assert capsys.readouterr().err == ""
