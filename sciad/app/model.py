"""What was assumed, in words: the equation, its states, the noise, and each parameter with its unit and prior."""

import re
from typing import Any

from sciad._describe import Row, describe

_MARKUP = re.compile(r":\w+:`([^`]*)`")
_VERBS = {"add": "{} to {}", "set": "{1} becomes {0}", "scale": "{1} is multiplied by {0}"}
_MOST = 12  # doses that are listed
_NOISE = {
    "Normal": "additive and normal, with standard deviation scale",
    "LogNormal": "multiplicative: the logarithm is normal about that of the prediction, with standard deviation sigma",
    "StudentT": "additive with heavy tails: Student's t with df degrees of freedom, times scale",
    "NegativeBinomial": "counts with mean μ and variance μ + dispersion · μ²",
}


def model_facts(problem: Any, program: Any) -> dict[str, Any]:
    """Describe a problem and its complete program, for a page and for JSON.

    Parameters
    ----------
    problem : ODEProblem
        The problem.
    program : ODEProgram
        The complete program.

    Returns
    -------
    dict
        ``equation``, ``solver``, ``interventions`` in words, and lists of rows:
        ``states`` (name, initial, unit), ``noise`` (field, words),
        ``parameters`` (name, role, value, range, prior, unit).
    """
    rows = {row.path: row for row in describe(program)}
    model = type(program.model)
    summary = (model.__doc__ or "").strip().split("\n")[0] if model.__module__ != "builtins" else ""
    summary = _MARKUP.sub(r"\1", summary)
    return {
        "equation": f"{getattr(program.model, '__name__', model.__name__)}{summary and ': ' + summary}",
        "solver": _solver(problem),
        "interventions": _interventions(problem),
        "states": [_state(state, rows[f"initial.{state}"], problem) for state in problem.states],
        "noise": noise_words(program, rows),
        "parameters": [parameter(problem.label(path), row) for path, row in rows.items() if _shown(path, row)],
    }


def noise_words(program: Any, rows: dict[str, Row]) -> list[dict[str, str]]:
    """Say for each observed field how its observations scatter."""
    noise = {name: (field, rest) for name in rows if name.startswith("noise.") for _, field, rest in [_split(name)]}
    return [
        {
            "field": field,
            "words": _NOISE.get(type(model).__name__, type(model).__name__),
            "numbers": ", ".join(_held(rest, rows[name]) for name, (of, rest) in noise.items() if of == field),
        }
        for field, model in program.noise.items()
    ]


def _split(name: str) -> tuple[str, str, str]:
    """Take ``noise.field.parameter`` apart, whatever dots the field has."""
    head, _, rest = name.partition(".")
    field, _, last = rest.rpartition(".")
    return head, field, last


def _solver(problem: Any) -> str:
    solver, control = problem.solver, problem.solver.controller
    tolerances = [f"{name}={getattr(control, name)}" for name in ("rtol", "atol") if hasattr(control, name)]
    return f"{type(solver.solver).__name__}({', '.join(tolerances)})"


def _state(state: str, row: Row, problem: Any) -> dict[str, str]:
    field = next((problem.fields[column] for name, column in problem.columns.items() if name == state), None)
    unit = row.unit or ("" if field is None else str(problem.data[field].attrs.get("units", "")))
    at_rest = problem.steady is not None and state not in problem.steady.held
    initial = f"at rest, searched from {row.value}" if at_rest else _held("", row)
    return {"name": state, "initial": initial, "unit": unit, "observed": field or ""}


def _interventions(problem: Any) -> list[str]:
    """Say what is done to the system, and what it remembers."""
    doses = [dose for group in problem.doses for dose in group.doses]
    said = [f"{_VERBS[d.kind].format(f'{d.amount:g}', d.state)} at {d.time:g}{_lasting(d)}" for d in doses[:_MOST]]
    said += [f"and {len(doses) - _MOST} doses more"] if len(doses) > _MOST else []
    said += [f"{name} is held from each time to the next" for name in problem.stepwise]
    said += [f"the state is reset by a condition on it, {reset.most} times at most" for reset in problem.resets]
    return said + (["with a delay"] if problem.delay is not None else [])


def _lasting(dose: Any) -> str:
    over = f" over {dose.duration:g}" if dose.duration else ""
    return over + (f" ({', '.join(map(str, dose.experiments))})" if dose.experiments is not None else "")


def _held(name: str, row: Row) -> str:
    """Say a value and whether it is known."""
    how = "known" if row.role == "frozen" else "estimated"
    return f"{name} = {row.value} ({how})" if name else f"{row.value} ({how})"


def parameter(name: str, row: Row) -> dict[str, str]:
    """Say what was known of a parameter beforehand."""
    known = row.role == "frozen"
    limits = "" if known or row.constraint == "real" else row.constraint
    return {
        "name": name,
        "role": "known" if known else "estimated",
        "value": row.value,
        "range": limits,
        "prior": row.prior,
        "unit": row.unit,
    }


def _shown(path: str, row: Row) -> bool:
    """Whether a leaf gets a row: what is known beforehand of states and noise stands with these."""
    return path.startswith("model.") or row.role != "frozen"
