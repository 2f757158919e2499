"""DeepXDE on the cases of `benchmarks.pde_references`, in an environment of its own: no JAX is imported here.

Networks, points and optimisers are those of its published examples: ``Burgers.py``, ``Poisson_Lshape.py``,
``Helmholtz_Dirichlet_2d.py``, ``Allen_Cahn.py`` (there with Dirichlet data; periodic here, by cos and sin of x as
coordinates, the start imposed exactly as there) and ``wave_1d.py`` (its network of random features has no PyTorch
version, so that a plain one of the same size stands in). Convection and KdV have no example: the network, points
and optimisers are those of ``Allen_Cahn.py``. Adam has at most half the budget, so that L-BFGS, which finds most of
the digits, has its turn.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks.pde_references import BETA, DIFFUSION, DISPERSION, NU, REFERENCES, START
from benchmarks.pinn_trace import Trace

PERIODIC = ("convection", "allen_cahn", "kdv")
LBFGS_CHUNK = 50  # iterations between two looks at the clock


@dataclass(frozen=True)
class Setting:
    """What an example says: layers between input and output, points, Adam's iterations."""

    widths: tuple[int, ...]
    points: tuple[int, int, int]  # in the domain, on the boundary, at the start
    adam: int
    activation: str = "tanh"
    initializer: str = "Glorot normal"


SETTINGS = {
    "poisson2d": Setting((50,) * 4, (1200, 120, 0), 50_000, initializer="Glorot uniform"),
    # Ten points a wavelength, as in the example: the shortest is 0.5, and the square has sides of length two.
    "helmholtz": Setting((150,) * 3, (1600, 160, 0), 5_000, "sin", "Glorot uniform"),
    "burgers": Setting((20,) * 3, (2540, 80, 160), 15_000),
    "convection": Setting((20,) * 3, (8000, 400, 800), 40_000),
    "wave": Setting((100,) * 3, (360, 360, 360), 10_000, initializer="Glorot uniform"),
    "allen_cahn": Setting((20,) * 3, (8000, 400, 800), 40_000),
    "kdv": Setting((20,) * 3, (8000, 400, 800), 40_000),
}
CASES = tuple(SETTINGS)


def measure(case: str, seconds: float, seed: int = 0, precision: str = "float32") -> dict[str, Any]:
    """Train for a number of seconds; return the trace of pairs (seconds, relative L2), and the iterations made."""
    os.environ["DDE_BACKEND"] = "pytorch"
    import deepxde as dde  # pyright: ignore[reportMissingImports]

    dde.config.set_random_seed(seed)
    dde.config.set_default_float(precision)
    trace = Trace(case, seconds)
    model = dde.Model(_data(dde, case), _network(dde, case))
    trace.start()
    watch = _watch(dde, trace)
    _adam(dde, case, model, [watch(0.5)])
    if not trace.over():
        dde.optimizers.config.LBFGS_options["iter_per_step"] = LBFGS_CHUNK
        weights = model.loss_weights
        model.compile("L-BFGS", loss_weights=weights)
        model.train(callbacks=[watch(1.0)], display_every=10**9, verbose=0)
    trace.look(model.predict, now=True)
    return {"trace": trace.pairs, "iterations": int(model.train_state.iteration), "compile_seconds": 0.0}


def _watch(dde: Any, trace: Trace) -> Callable[[float], Any]:
    """Return the maker of callbacks that look at the error and stop the training when a share of the time is gone."""

    class Watch(dde.callbacks.Callback):
        def __init__(self, share: float) -> None:
            super().__init__()
            self.share = share

        def on_epoch_end(self) -> None:
            trace.look(self.model.predict)
            self.model.stop_training = self.model.stop_training or trace.over(self.share)

    return Watch


def _adam(dde: Any, case: str, model: Any, callbacks: list[Any]) -> None:
    decay, weights = None, None
    if case == "wave":
        decay = ("inverse time", 2000, 0.9)
        model.compile("adam", lr=1e-3)
        history, _ = model.train(iterations=0, verbose=0)
        weights = 5 / np.asarray(history.loss_train[0])
        callbacks = [*callbacks, dde.callbacks.PDEPointResampler(period=1)]
    model.compile("adam", lr=1e-3, decay=decay, loss_weights=weights)
    model.train(iterations=SETTINGS[case].adam, callbacks=callbacks, display_every=10**9, verbose=0)


def _data(dde: Any, case: str) -> Any:
    """Return the equation, its domain and the conditions that the network does not fulfil by itself."""
    (low, begin), (high, end) = REFERENCES[case].low, REFERENCES[case].high
    domain, boundary, initial = SETTINGS[case].points
    if case in ("poisson2d", "helmholtz"):
        square = dde.geometry.Rectangle([low, begin], [high, end])
        zero = [] if case == "helmholtz" else [dde.icbc.DirichletBC(square, _zero, lambda _, on: on)]
        return dde.data.PDE(square, _residual(dde, case), zero, num_domain=domain, num_boundary=boundary)
    times = dde.geometry.TimeDomain(begin, end)
    strip = dde.geometry.GeometryXTime(dde.geometry.Interval(low, high), times)
    conditions = []
    if case not in PERIODIC:
        conditions.append(dde.icbc.DirichletBC(strip, _zero, lambda _, on: on))
        conditions.append(dde.icbc.IC(strip, lambda p: START[case](p[:, :1], np), lambda _, on: on))
    if case == "wave":

        def at_start(p: Any, _: Any) -> Any:
            return dde.utils.isclose(p[1], 0)

        conditions.append(dde.icbc.OperatorBC(strip, lambda p, u, _: dde.grad.jacobian(u, p, i=0, j=1), at_start))
    return dde.data.TimePDE(
        strip, _residual(dde, case), conditions, num_domain=domain, num_boundary=boundary, num_initial=initial
    )


def _network(dde: Any, case: str) -> Any:
    import torch  # pyright: ignore[reportMissingImports]

    setting = SETTINGS[case]
    activation = torch.sin if setting.activation == "sin" else setting.activation
    inputs = 3 if case in PERIODIC else 2
    network = dde.nn.FNN([inputs, *setting.widths, 1], activation, setting.initializer)
    if case in PERIODIC:
        wave = 2 * np.pi / (REFERENCES[case].high[0] - REFERENCES[case].low[0])
        network.apply_feature_transform(
            lambda p: torch.cat([torch.cos(wave * p[:, :1]), torch.sin(wave * p[:, :1]), p[:, 1:]], 1)
        )
        network.apply_output_transform(lambda p, u: START[case](p[:, :1], torch) + p[:, 1:] * u)
    if case == "helmholtz":
        network.apply_output_transform(lambda p, u: (1 - p[:, :1] ** 2) * (1 - p[:, 1:] ** 2) * u)
    if case == "wave":
        network.apply_feature_transform(lambda p: (p - 0.5) * 2 * 3**0.5)
    return network


def _zero(points: Any) -> Any:
    return np.zeros((len(points), 1))


def _residual(dde: Any, case: str) -> Callable[[Any, Any], Any]:
    """Return the equation's residual, of points and values."""
    import torch  # pyright: ignore[reportMissingImports]

    def first(p: Any, u: Any, axis: int) -> Any:
        return dde.grad.jacobian(u, p, i=0, j=axis)

    def second(p: Any, u: Any, axis: int) -> Any:
        return dde.grad.hessian(u, p, i=axis, j=axis)

    def product(p: Any, along_y: int) -> Any:
        return torch.sin(np.pi * p[:, :1]) * torch.sin(along_y * np.pi * p[:, 1:])

    def third(p: Any, u: Any) -> Any:
        return dde.grad.jacobian(second(p, u, 0), p, i=0, j=0)

    residuals: dict[str, Callable[[Any, Any], Any]] = {
        "poisson2d": lambda p, u: second(p, u, 0) + second(p, u, 1) + 2 * np.pi**2 * product(p, 1),
        "helmholtz": lambda p, u: second(p, u, 0) + second(p, u, 1) + u - (1 - 17 * np.pi**2) * product(p, 4),
        "burgers": lambda p, u: first(p, u, 1) + u * first(p, u, 0) - NU * second(p, u, 0),
        "convection": lambda p, u: first(p, u, 1) + BETA * first(p, u, 0),
        "wave": lambda p, u: second(p, u, 1) - 4 * second(p, u, 0),
        "allen_cahn": lambda p, u: first(p, u, 1) - DIFFUSION * second(p, u, 0) - 5 * (u - u**3),
        "kdv": lambda p, u: first(p, u, 1) + u * first(p, u, 0) + DISPERSION * third(p, u),
    }
    return residuals[case]
