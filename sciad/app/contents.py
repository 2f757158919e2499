"""What a report shows, as plain tables and arrays: from the verbs' answers, or read back from a run's folder."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from sciad._checks import Check, check_posterior
from sciad._errors import InputError
from sciad.app.environment import describe
from sciad.app.run import Run, data_facts
from sciad.app.verdict import check_agreement, check_fit, compare

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


@dataclasses.dataclass
class Contents:
    """Everything that one page shows. Absent parts are None or empty, and the page leaves their sections out.

    Parameters
    ----------
    title, description : str
        Heading and introduction.
    settings, environment, data_facts, timings : dict
        As in the run's JSON files; timings in seconds.
    data : xarray.Dataset, optional
        Data as the model sees them.
    fit : dict, optional
        ``table`` (name to value, standard error and interval), ``loss``, ``result``, ``converged``, ``stats``,
        ``identifiability``.
    residuals, curve : xarray.Dataset, optional
        Standardised residuals, and the fit's prediction on a fine grid.
    field : dict of xarray.Dataset
        Of a fitted field, as :func:`sciad.app.fields.field_parts` gives it; else empty.
    tree : xarray.DataTree, optional
        Groups ``posterior``, ``sample_stats``, ``posterior_predictive``, ``observed_data``.
    summary : pandas.DataFrame, optional
        One row for each scalar parameter.
    diagnostics : dict
        The sampler's.
    predicted : xarray.Dataset, optional
        Quantiles of the posterior predictive of each field, ``quantile`` first, on a fine grid.
    model : dict, optional
        What was assumed, in words, as :func:`sciad.app.model.model_facts` gives it.
    priors : xarray.Dataset, optional
        For each scalar parameter its prior density over ``point``, and ``<name>@at``, where.
    reference : dict, optional
        The published posterior.
    comparison : pandas.DataFrame, optional
        Ours against the published one.
    checks : list of Check
        With their verdicts.
    warnings : list of str
        In plain words.
    program : PyTree, optional
        The fitted program; not shown, and not in a run's folder.
    interrupted : bool
        Whether the user stopped the sampling.
    """

    title: str
    description: str = ""
    settings: dict[str, Any] = dataclasses.field(default_factory=dict)
    environment: dict[str, Any] = dataclasses.field(default_factory=dict)
    data_facts: dict[str, Any] = dataclasses.field(default_factory=dict)
    timings: dict[str, float] = dataclasses.field(default_factory=dict)
    data: xr.Dataset | None = None
    fit: dict[str, Any] | None = None
    residuals: xr.Dataset | None = None
    curve: xr.Dataset | None = None
    field: dict[str, xr.Dataset] = dataclasses.field(default_factory=dict)
    tree: xr.DataTree | None = None
    summary: pd.DataFrame | None = None
    diagnostics: dict[str, Any] = dataclasses.field(default_factory=dict)
    predicted: xr.Dataset | None = None
    model: dict[str, Any] | None = None
    priors: xr.Dataset | None = None
    reference: dict[str, Any] | None = None
    comparison: pd.DataFrame | None = None
    checks: list[Check] = dataclasses.field(default_factory=list)
    warnings: list[str] = dataclasses.field(default_factory=list)
    program: Any = None
    interrupted: bool = False

    def group(self, name: str) -> xr.Dataset | None:
        """Give one group of the tree as a Dataset, or None when there is none."""
        if self.tree is None or name not in self.tree.children:
            return None
        return self.tree[name].to_dataset()

    @property
    def units(self) -> dict[str, str]:
        """The unit of each parameter that has one."""
        rows = (self.model or {"parameters": ()})["parameters"]
        return {row["name"]: row["unit"] for row in rows if row["unit"]}

    def bands(self, field: str) -> xr.DataArray | None:
        """Quantiles of the posterior predictive of one field, ``quantile`` first."""
        predictive = self.group("posterior_predictive")
        if predictive is None or field not in predictive:
            return None
        return predictive[field].quantile(QUANTILES, dim=("chain", "draw"))


def gather(
    *,
    problem: Any = None,
    fit: Any = None,
    posterior: Any = None,
    reference: Mapping[str, Any] | None = None,
    settings: Mapping[str, Any] | None = None,
    timings: Mapping[str, float] | None = None,
    title: str | None = None,
    description: str = "",
) -> Contents:
    """Collect what a report shows from the verbs' answers.

    Parameters
    ----------
    problem : optional
        Joins data and model; its ``data`` are shown.
    fit : Fit, optional
        Answer of :func:`sciad.fit`.
    posterior : Posterior, optional
        Answer of :func:`sciad.sample`.
    reference : mapping, optional
        Published moments, as :func:`sciad.app.verdict.compare` takes them.
    settings, timings, title, description : optional
        Shown as they are.

    Raises
    ------
    InputError
        When there is neither a fit nor a posterior, or the reference names an unknown parameter.
    """
    if fit is None and posterior is None:
        message = "a report needs a fit or a posterior: got neither."
        raise InputError(message)
    if fit is not None and not (is_field(fit) or hasattr(fit, "diagnostics")):
        message = (
            f"a report is of a fit of an ODEProblem or a PDEProblem: got a {type(fit).__name__}. Print it instead."
        )
        raise InputError(message)
    contents = Contents(title or "Report", description, dict(settings or {}), describe(), timings=dict(timings or {}))
    data = getattr(problem, "data", None)
    if isinstance(data, xr.Dataset):
        contents.data, contents.data_facts = data, data_facts(data)
    if fit is not None:
        contents.program = fit.program
        _add_fit(contents, fit, problem)
    if posterior is not None:
        add_posterior(contents, posterior, problem=problem, reference=reference)
    return contents


def _add_fit(contents: Contents, fit: Any, problem: Any) -> None:
    if is_field(fit):
        from sciad.app.fields import field_facts, field_parts, fit_facts  # imports JAX

        contents.fit, contents.field = fit_facts(fit), field_parts(fit)
        contents.model = field_facts(fit.problem, fit.program)
    else:
        _add_curve(contents, fit, problem)
    contents.warnings += list(fit.warnings)
    assert contents.fit is not None
    contents.checks.append(check_fit(contents.fit))


def is_field(fit: Any) -> bool:
    """Whether this is a fit of a field, which is looked at without importing JAX."""
    return hasattr(fit, "held_out")


def _add_curve(contents: Contents, fit: Any, problem: Any) -> None:
    converged = bool(fit.diagnostics.get("converged", True))
    result = "converged" if converged else _reason(fit.result)
    contents.fit = {
        "table": fit.table().to_dict(orient="index"),
        "loss": float(fit.loss),
        "result": result,
        "converged": converged,
        "stats": dict(fit.stats),
        "diagnostics": dict(fit.diagnostics),
        "warnings": list(fit.warnings),
        "identifiability": _identifiability(fit),
    }
    contents.residuals = fit.residuals
    if isinstance(getattr(problem, "data", None), xr.Dataset):
        contents.curve = fit.prediction(_fine_times(problem))
    if _is_equation(problem):
        from sciad.app.model import model_facts  # imports JAX, which reading back a run does without

        contents.model = model_facts(problem, fit.program)


def _reason(result: Any) -> str:
    from sciad._results import RESULTS  # imports JAX, which reading back a run does without

    return RESULTS[result] or "stopped early"


def _fine_times(problem: Any) -> np.ndarray:
    """Give 200 times from the start of the solve to the last observation."""
    times = problem.observations.times
    return np.unique(np.linspace(min(problem.t0, times[0]), times[-1], 200))


def _is_equation(problem: Any) -> bool:
    """Whether it is an ODEProblem, which is looked at without importing JAX."""
    return any(kind.__name__ == "ODEProblem" for kind in type(problem).__mro__)


def _identifiability(fit: Any) -> dict[str, Any] | None:
    """Give the table of combinations and the advice, where there are any."""
    if not hasattr(fit, "identifiability"):
        return None
    try:
        found = fit.identifiability()
    except InputError:
        return None
    return {"rows": found.table.to_dict(orient="records"), "advice": found.advice}


def add_posterior(
    contents: Contents, posterior: Any, *, problem: Any = None, reference: Mapping[str, Any] | None = None
) -> None:
    """Add a posterior, its checks, the comparison with ``reference``, and the prior densities of the fitted program."""
    contents.tree = posterior.tree
    contents.summary = posterior.summary()
    contents.diagnostics = dict(posterior.diagnostics)
    contents.warnings += notes(posterior)
    judge(contents, reference)
    if contents.program is not None:
        from sciad.app.priors import prior_curves  # imports JAX, which reading back a run does without

        if _is_equation(problem):
            from sciad.app.bands import predictive_bands

            draws, times = posterior.tree["posterior"].to_dataset(), _fine_times(problem)
            contents.predicted = predictive_bands(problem, contents.program, draws, times, QUANTILES)
        label = getattr(problem, "label", str)
        contents.priors = prior_curves(contents.program, contents.group("posterior"), label=label)


def notes(posterior: Any) -> list[str]:
    """Give a posterior's warnings, without those that follow from its draws: the checks say these, with names."""
    follow = type(posterior).of(posterior.tree, {}).warnings
    return [warning for warning in posterior.warnings if warning not in follow]


def judge(contents: Contents, reference: Mapping[str, Any] | None) -> None:
    """Add the comparison with the reference and the checks of the posterior, parameters in the order of the fit."""
    draws, summary = contents.group("posterior"), contents.summary
    assert summary is not None
    assert draws is not None
    first = [name for name in (contents.fit or {"table": ()})["table"] if name in summary.index]
    contents.summary = summary = summary.reindex([*first, *summary.index.difference(first, sort=False)])
    total = draws.sizes["chain"] * draws.sizes["draw"]
    contents.checks += check_posterior(summary, contents.diagnostics, draws=total)
    if reference is not None:
        contents.reference = dict(reference)
        contents.comparison = compare(summary, reference)
        contents.checks.append(check_agreement(contents.comparison))


def save_fit(run: Run, contents: Contents) -> None:
    """Write ``fit.json``, ``fit.nc`` and ``model.json``."""
    groups = {"residuals": contents.residuals, "curve": contents.curve, **contents.field}
    run.write("fit.nc", xr.DataTree.from_dict({name: part for name, part in groups.items() if part is not None}))
    run.write("fit.json", contents.fit)
    if contents.model is not None:
        run.write("model.json", contents.model)


def save_posterior(run: Run, contents: Contents) -> None:
    """Write ``posterior.json`` (table, diagnostics), ``priors.nc``, ``bands.nc``; the draws are in ``posterior.nc``."""
    assert contents.summary is not None
    table = contents.summary.to_dict(orient="index")
    run.write("posterior.json", {"summary": table, "diagnostics": contents.diagnostics, "warnings": contents.warnings})
    if contents.priors is not None:
        run.write("priors.nc", contents.priors)
    if contents.predicted is not None:
        run.write("bands.nc", contents.predicted)
    if contents.reference is not None:
        run.write("reference.json", contents.reference)


def load(run: Run) -> Contents:
    """Read back from a run's folder what its report shows.

    Raises
    ------
    InputError
        When the run has neither a fit nor a posterior.
    """
    settings = run.read("settings.json")
    contents = Contents(
        settings.get("title", run.folder.name),
        settings.get("description", ""),
        settings.get("settings", {}),
        run.read("environment.json") if run.has("environment.json") else {},
        run.read("data.json") if run.has("data.json") else {},
        run.read("timings.json") if run.has("timings.json") else {},
    )
    contents.data = run.read("data.nc") if run.has("data.nc") else None
    if run.has("fit.json"):
        _load_fit(contents, run)
    if run.has("posterior.nc") and run.has("posterior.json"):
        _load_posterior(contents, run)
    if contents.fit is None and contents.summary is None:
        message = f"{run.folder} holds neither a fit nor a posterior: the run ended before its first result."
        raise InputError(message)
    return contents


def _load_fit(contents: Contents, run: Run) -> None:
    fit = run.read("fit.json")
    contents.fit = fit
    contents.model = run.read("model.json") if run.has("model.json") else None
    contents.warnings += fit.get("warnings", [])
    contents.checks.append(check_fit(fit))
    if run.has("fit.nc"):
        with xr.open_datatree(run.path("fit.nc"), engine="h5netcdf") as tree:
            parts = {name: group.to_dataset().load() for name, group in tree.children.items()}
        contents.residuals, contents.curve = parts.pop("residuals", None), parts.pop("curve", None)
        contents.field = parts


def _load_posterior(contents: Contents, run: Run) -> None:
    stored = run.read("posterior.json")
    contents.summary = pd.DataFrame.from_dict(stored["summary"], orient="index").astype(float)
    contents.diagnostics = stored["diagnostics"]
    contents.warnings = stored["warnings"]
    with xr.open_datatree(run.path("posterior.nc"), engine="h5netcdf") as tree:
        contents.tree = tree.load()
    contents.priors = run.read("priors.nc") if run.has("priors.nc") else None
    contents.predicted = run.read("bands.nc") if run.has("bands.nc") else None
    judge(contents, run.read("reference.json") if run.has("reference.json") else None)
