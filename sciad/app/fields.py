"""What a run keeps and a report shows of a fitted field."""

from typing import Any

import numpy as np
import xarray as xr

from sciad._describe import Row, describe
from sciad._field_pictures import shown_grid
from sciad.app.model import noise_words, parameter

FINE = 121  # points along each side of a picture


def fit_facts(fit: Any) -> dict[str, Any]:
    """Describe a fit as `fit.json` keeps it."""
    solved = bool(fit.stats["solved"])
    return {
        "table": fit.table().to_dict(orient="index"),
        "loss": None,
        "result": "solved" if solved else "not solved yet",
        "converged": solved,
        "advice": "Give the fit more time, or read the warnings: equation, conditions and data may contradict.",
        "stats": {**fit.stats, **{f"residual of {group}": value for group, value in fit.held_out.items()}},
        "diagnostics": {},
        "warnings": list(fit.warnings),
        "identifiability": None,
        "held_out": dict(fit.held_out),
        "unsolved": dict(fit.unsolved),
    }


def field_parts(fit: Any) -> dict[str, xr.Dataset]:
    """Evaluate what is drawn: ``field``, over a grid, with errors and the equation's residual; ``rounds``; ``seen``.

    Parameters
    ----------
    fit : FieldFit
        What was fitted.
    """
    problem = fit.problem
    at = shown_grid(problem.domain, FINE)
    field = fit(**at)
    if fit.spread is not None:
        field = field.merge(fit.field_error(**at).rename({name: f"error of {name}" for name in problem.fields}))
    field["equation missed by"] = fit.equation_residual(**at)
    history = fit.history.rename_axis("round")
    parts = {"field": field.squeeze(drop=True), "rounds": xr.Dataset.from_dataframe(history)}
    return parts if problem.observations is None else parts | {"seen": fit.residuals}


def field_facts(problem: Any, program: Any) -> dict[str, Any]:
    """Describe a problem and its complete program, for a page and for JSON; see `sciad.app.model.model_facts`."""
    rows = {row.path: row for row in describe(program)}
    weights = sum(int(np.prod(row.shape)) for path, row in rows.items() if path.startswith("network."))
    name = getattr(program.equation, "__name__", type(program.equation).__name__)
    words = (type(program.equation).__doc__ or "").strip().split("\n")[0] if _is_module(program.equation) else ""
    return {
        "equation": f"{name}{words and ': ' + words}",
        "solver": f"a network of {weights} weights",
        "interventions": [str(problem)],
        "states": [],
        "noise": noise_words(program, rows),
        "parameters": [
            parameter(path.removeprefix("equation."), row) for path, row in rows.items() if _told(path, row)
        ],
    }


def _is_module(equation: Any) -> bool:
    return not callable(getattr(equation, "__get__", None)) and type(equation).__module__ != "builtins"


def _told(path: str, row: Row) -> bool:
    return path.startswith(("equation.", "values.")) and row.role != "frozen"


def residual_words(values: np.ndarray) -> str:
    """Say what standardised residuals should be like, and are."""
    seen = values[np.isfinite(values)]
    beyond = int((np.abs(seen) > 1.96).sum())
    return (
        f"Standardised residuals: mean {round(float(seen.mean()), 2) + 0.0:+.2f}, standard deviation "
        f"{seen.std():.2f} (1 expected), {beyond} of {seen.size} beyond ±1.96 (about {0.05 * seen.size:.0f} expected)."
    )
