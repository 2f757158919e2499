"""The nonlinear regression problems of NIST's Statistical Reference Datasets: models, data and certified answers.

The data are in the public domain (https://www.itl.nist.gov/div898/strd/nls/nls_main.shtml). Two starts each, the first
far from the answer; certified to 11 digits.
"""

# ruff: noqa: E731

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax.numpy as jnp

PROBLEMS: dict[str, dict[str, Any]] = json.loads((Path(__file__).parent / "data" / "nist_strd.json").read_text())

Model = Callable[[Any, Any], Any]


def _peaks(b: Any, x: Any) -> Any:
    first, second = jnp.exp(-(((x - b[3]) / b[4]) ** 2)), jnp.exp(-(((x - b[6]) / b[7]) ** 2))
    return b[0] * jnp.exp(-b[1] * x) + b[2] * first + b[5] * second


def _cubics(b: Any, x: Any) -> Any:
    return (b[0] + b[1] * x + b[2] * x**2 + b[3] * x**3) / (1 + b[4] * x + b[5] * x**2 + b[6] * x**3)


def _oscillations(b: Any, x: Any) -> Any:
    def wave(period: Any, cosine: Any, sine: Any) -> Any:
        angle = 2 * jnp.pi * x / period
        return cosine * jnp.cos(angle) + sine * jnp.sin(angle)

    return b[0] + wave(12.0, b[1], b[2]) + wave(b[3], b[4], b[5]) + wave(b[6], b[7], b[8])


_rise: Model = lambda b, x: b[0] * (1 - jnp.exp(-b[1] * x))
_decay: Model = lambda b, x: jnp.exp(-b[0] * x) / (b[1] + b[2] * x)
_decays: Model = lambda b, x: sum(b[i] * jnp.exp(-b[i + 1] * x) for i in (0, 2, 4))

MODELS: dict[str, Model] = {
    "Bennett5": lambda b, x: b[0] * (b[1] + x) ** (-1 / b[2]),
    "BoxBOD": _rise,
    "Chwirut1": _decay,
    "Chwirut2": _decay,
    "DanWood": lambda b, x: b[0] * x ** b[1],
    "ENSO": _oscillations,
    "Eckerle4": lambda b, x: b[0] / b[1] * jnp.exp(-0.5 * ((x - b[2]) / b[1]) ** 2),
    "Gauss1": _peaks,
    "Gauss2": _peaks,
    "Gauss3": _peaks,
    "Hahn1": _cubics,
    "Kirby2": lambda b, x: (b[0] + b[1] * x + b[2] * x**2) / (1 + b[3] * x + b[4] * x**2),
    "Lanczos1": _decays,
    "Lanczos2": _decays,
    "Lanczos3": _decays,
    "MGH09": lambda b, x: b[0] * (x**2 + x * b[1]) / (x**2 + x * b[2] + b[3]),
    "MGH10": lambda b, x: b[0] * jnp.exp(b[1] / (x + b[2])),
    "MGH17": lambda b, x: b[0] + b[1] * jnp.exp(-x * b[3]) + b[2] * jnp.exp(-x * b[4]),
    "Misra1a": _rise,
    "Misra1b": lambda b, x: b[0] * (1 - (1 + b[1] * x / 2) ** -2),
    "Misra1c": lambda b, x: b[0] * (1 - (1 + 2 * b[1] * x) ** -0.5),
    "Misra1d": lambda b, x: b[0] * b[1] * x / (1 + b[1] * x),
    "Nelson": lambda b, x: b[0] - b[1] * x[0] * jnp.exp(-b[2] * x[1]),  # of the logarithm of y
    "Rat42": lambda b, x: b[0] / (1 + jnp.exp(b[1] - b[2] * x)),
    "Rat43": lambda b, x: b[0] / (1 + jnp.exp(b[1] - b[2] * x)) ** (1 / b[3]),
    "Roszman1": lambda b, x: b[0] - b[1] * x - jnp.arctan(b[2] / (x - b[3])) / jnp.pi,
    "Thurber": _cubics,
}


def residuals(name: str) -> Callable[[Any, Any], Any]:
    """Return ``(b, args) -> y - f(x, b)``."""
    x, y = jnp.asarray(PROBLEMS[name]["x"]), jnp.asarray(PROBLEMS[name]["y"])
    y = jnp.log(y) if name == "Nelson" else y
    return lambda b, _: y - MODELS[name](b, x)
