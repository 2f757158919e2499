"""torchdiffeq on the same initial value problems, in an environment of its own: no JAX is imported here."""

import time
from collections.abc import Callable
from statistics import median
from typing import Any

CASES = ("lotka_volterra", "lorenz")  # it has no implicit method with adaptive steps
LEAST_ROUNDS = 5


def measure(case: str, seconds: float) -> dict[str, tuple[float, str]]:
    """Time a solve, and gradients through its steps and by the adjoint equation, and their errors, as for the others.

    One thread and float64: on two or three states, further threads only cost.
    """
    import torch  # pyright: ignore[reportMissingImports]
    from torchdiffeq import odeint, odeint_adjoint  # pyright: ignore[reportMissingImports]

    torch.set_num_threads(1)
    torch.set_default_dtype(torch.float64)
    field, y0, theta, ts, scale = _problem(case)
    module = _module(field, theta)

    def solve(method: Callable[..., Any]) -> Any:
        return method(module, y0, ts, rtol=1e-6, atol=1e-6, method="dopri5")[1:]

    def value() -> Any:
        with torch.no_grad():
            return solve(odeint)

    def gradient(method: Callable[..., Any]) -> Any:
        module.theta.grad = None
        (0.5 * ((solve(method) / scale) ** 2).sum()).backward()
        return module.theta.grad

    calls = {
        "run_seconds": value,
        "gradient_run_seconds": lambda: gradient(odeint),
        "adjoint_gradient_run_seconds": lambda: gradient(odeint_adjoint),
    }
    figures = {name: (_median_seconds(call, seconds / len(calls)), "s") for name, call in calls.items()}
    exact = gradient(lambda *args, **_: odeint(*args, rtol=1e-11, atol=1e-11, method="dopri8")).clone() * theta
    for name, method in {"gradient_rel_error": odeint, "adjoint_gradient_rel_error": odeint_adjoint}.items():
        error = torch.linalg.norm(gradient(method) * theta - exact) / torch.linalg.norm(exact)
        figures[name] = (float(error), "1")
    return figures


def _median_seconds(call: Callable[[], Any], seconds: float) -> float:
    call()
    taken, stop = [], time.perf_counter() + seconds
    while len(taken) < LEAST_ROUNDS or time.perf_counter() < stop:
        begun = time.perf_counter()
        call()
        taken.append(time.perf_counter() - begun)
    return median(taken)


def _module(field: Callable[..., Any], theta: Any) -> Any:
    import torch  # pyright: ignore[reportMissingImports]

    class Equation(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.theta = torch.nn.Parameter(theta)

        def forward(self, t: Any, y: Any) -> Any:
            del t
            return field(y, self.theta)

    return Equation()


def _problem(case: str) -> tuple[Callable[..., Any], Any, Any, Any, Any]:
    """Return right-hand side, state, parameters, times from zero on, and sizes: those of `benchmarks.ode_systems`."""
    import torch  # pyright: ignore[reportMissingImports]

    def lotka_volterra(y: Any, theta: Any) -> Any:
        alpha, beta, gamma, delta = theta
        return torch.stack([(alpha - beta * y[1]) * y[0], (delta * y[0] - gamma) * y[1]])

    def lorenz(y: Any, theta: Any) -> Any:
        sigma, rho, beta = theta
        return torch.stack([sigma * (y[1] - y[0]), y[0] * (rho - y[2]) - y[1], y[0] * y[1] - beta * y[2]])

    def tensors(*values: list[float]) -> list[Any]:
        return [torch.tensor(value, dtype=torch.float64) for value in values]

    if case == "lotka_volterra":
        y0, theta, scale = tensors([34.0, 5.9], [0.547, 0.0277, 0.800, 0.0241], [30.0, 20.0])
        return lotka_volterra, y0, theta, torch.arange(21.0, dtype=torch.float64), scale
    y0, theta, scale = tensors([1.0, 0.0, 0.0], [10.0, 28.0, 8 / 3], [10.0, 10.0, 20.0])
    return lorenz, y0, theta, torch.linspace(0.0, 5.0, 21, dtype=torch.float64), scale
