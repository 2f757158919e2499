"""The report: one HTML page with its pictures and styles inside, which opens without a network."""

import importlib.resources
import itertools
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jinja2
import markupsafe
import numpy as np

from sciad._atomic import write_text
from sciad._errors import InputError
from sciad.app import maps, pictures
from sciad.app.contents import Contents, gather
from sciad.app.verdict import headline, overall


def report(
    folder: str | os.PathLike[str],
    *,
    problem: Any = None,
    fit: Any = None,
    posterior: Any = None,
    reference: Mapping[str, Any] | None = None,
    settings: Mapping[str, Any] | None = None,
    title: str | None = None,
) -> Path:
    """Write ``report.html`` about a fit, a posterior or both into a folder.

    The page says first whether the result can be used, then shows the data with the predictive bands, the parameters
    with their errors, the comparison with a published posterior, the draws, the residuals and the settings.

    Parameters
    ----------
    folder : str or os.PathLike
        Where to write; made when absent. An earlier page there is replaced, at once and whole.
    problem : optional
        The problem; its data are shown.
    fit : Fit, optional
        Answer of :func:`sciad.fit`.
    posterior : Posterior, optional
        Answer of :func:`sciad.sample`.
    reference : mapping, optional
        ``{"name": ..., "source": ..., "parameters": {name: {"mean", "sd", "mcse_mean", "mcse_sd"}}}``.
    settings : mapping, optional
        Shown in a table.
    title : str, optional
        Heading of the page.

    Returns
    -------
    pathlib.Path
        The page.

    Raises
    ------
    InputError
        When there is neither a fit nor a posterior, or the folder cannot be written.
    """
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        message = f"cannot write a report into {folder}: {error.strerror}. Give the name of a folder."
        raise InputError(message) from error
    contents = gather(
        problem=problem, fit=fit, posterior=posterior, reference=reference, settings=settings, title=title
    )
    return write(folder, contents)


def write(folder: str | os.PathLike[str], contents: Contents) -> Path:
    """Write the page of what was gathered, and give its place."""
    page = Path(folder) / "report.html"
    page.parent.mkdir(parents=True, exist_ok=True)
    write_text(page, render(contents))
    return page


def render(contents: Contents) -> str:
    """Give the page as text."""
    folder = importlib.resources.files("sciad.app")
    environment = jinja2.Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    environment.filters |= {"number": number, "seconds": seconds, "signed": signed, "words": words}
    template = environment.from_string((folder / "report.html.j2").read_text(encoding="utf-8"))
    names = itertools.count()
    return template.render(
        contents=contents,
        unit=lambda name: contents.units.get(name.partition("[")[0], ""),
        style=markupsafe.Markup((folder / "report.css").read_text(encoding="utf-8")),
        state=overall(contents.checks),
        headline=headline(contents.checks),
        facts=list(_facts(contents)),
        rows=list(_rows(contents)),
        predictions=list(pictures.predictions(contents, names)),
        maps=list(maps.pictures_of(contents, names)),
        marginals=list(pictures.marginals(contents, names)),
        chains=list(pictures.chains(contents, names)),
        pairs=pictures.pairs(contents, names),
        residuals=list(pictures.residuals(contents, names)),
        waterfall=pictures.waterfall(contents, names),
        optimiser=dict(_optimiser(contents.fit)),
        sampler={name: _brief(value) for name, value in contents.diagnostics.items()},
        machine={name: value for name, value in contents.environment.items() if name != "packages"},
    )


def table(contents: Contents) -> Iterator[str]:
    """Give the lines of a compact table of the parameters, for a terminal."""
    scores = {}
    if contents.comparison is not None:
        scores = contents.comparison.groupby("parameter")["z"].apply(lambda z: z.loc[z.abs().idxmax()]).to_dict()
    rows = list(_rows(contents))
    for group, size in (contents.fit or {}).get("held_out", {}).items():
        yield f"{group}: root mean square {number(size, 2)} on points held out"
    if not rows:
        return
    width = max(9, *(len(row["name"]) for row in rows))
    if contents.summary is None:
        yield f"{'parameter':<{width}} {'fit':>10} {'± s.e.':>10}"
        for row in rows:
            yield f"{row['name']:<{width}} {number(row['value']):>10} {number(row['standard_error'], 2):>10}"
        return
    extra = f" {'z':>6}" if scores else ""
    yield f"{'parameter':<{width}} {'mean':>10} {'sd':>10} {'5 %':>10} {'95 %':>10} {'R-hat':>7} {'ESS':>6}{extra}"
    for row in rows:
        numbers = " ".join(f"{number(row[column]):>10}" for column in ("mean", "sd", "q5", "q95"))
        score = f" {scores[row['name']]:>+6.2f}" if row["name"] in scores else ""
        yield f"{row['name']:<{width}} {numbers} {row['r_hat']:>7.4f} {row['ess_bulk']:>6.0f}{score}"


def number(value: Any, digits: int = 4) -> str:
    """Write a number to so many significant digits, and a missing one as a dash.

    Examples
    --------
    >>> number(0.02774731), number(1234.5678), number(None)
    ('0.02775', '1235', '–')
    """
    if value is None or (isinstance(value, float | np.floating) and np.isnan(value)):
        return "–"
    if isinstance(value, int | np.integer):
        return f"{value}"
    size = abs(float(value))
    if size and not 1e-4 <= size < 1e6:
        return f"{value:.{digits - 1}e}"
    decimals = max(0, digits - 1 - int(np.floor(np.log10(size)))) if size else 1
    return f"{value:.{decimals}f}"


def signed(value: float) -> str:
    """Write a number with its sign, and a minus as wide as the plus.

    Examples
    --------
    >>> signed(0.513), signed(-0.2849)
    ('+0.51', '−0.28')
    """
    return f"{value:+.2f}".replace("-", "−")


def seconds(value: float) -> str:
    """Write a duration.

    Examples
    --------
    >>> seconds(0.0214), seconds(12.34), seconds(75.0)
    ('21 ms', '12.3 s', '1 min 15 s')
    """
    if value < 1:
        return f"{1000 * value:.0f} ms"
    return f"{value:.1f} s" if value < 60 else f"{int(value // 60)} min {value % 60:.0f} s"


def words(name: str) -> str:
    """Write a key of a JSON file as words."""
    return str(name).replace("_", " ")


def _brief(value: Any) -> str:
    if isinstance(value, list | tuple | np.ndarray):
        return ", ".join(_brief(item) for item in list(value)[:16])
    return number(value, 3) if isinstance(value, float | np.number) else str(value)


def _optimiser(fit: Mapping[str, Any] | None) -> Iterator[tuple[str, str]]:
    """Give the numbers on the optimisation and the quality of the fit; the losses have their picture."""
    told = {**fit["stats"], **fit.get("diagnostics", {})} if fit else {}
    for name, value in told.items():
        if name != "polished_losses" and not isinstance(value, Mapping):
            yield name, _brief(value)


def _facts(contents: Contents) -> Iterator[tuple[str, str]]:
    draws = contents.group("posterior")
    if contents.summary is not None and draws is not None:
        chains, length = draws.sizes["chain"], draws.sizes["draw"]
        yield "parameters", str(len(contents.fit["table"] if contents.fit else contents.summary))
        yield "draws", f"{chains} × {length}"
        yield "largest R-hat", f"{contents.summary['r_hat'].max():.3f}"
        yield "least bulk ESS", f"{contents.summary['ess_bulk'].min():.0f}"
        yield "divergences", number(contents.diagnostics.get("divergences"))
    elif contents.field and contents.fit is not None:
        yield "unknown numbers", str(len(contents.fit["table"]))
        for group, size in contents.fit["held_out"].items():
            yield f"{group} missed by", number(size, 2)
    elif contents.fit is not None:
        yield "parameters", str(len(contents.fit["table"]))
        yield "loss", number(contents.fit["loss"])
        if "aic" in contents.fit.get("diagnostics", {}):
            yield "AIC", number(contents.fit["diagnostics"]["aic"])
            yield "BIC", number(contents.fit["diagnostics"]["bic"])
    if contents.timings:
        yield "total time", seconds(sum(contents.timings.values()))


def _rows(contents: Contents) -> Iterator[dict[str, Any]]:
    """Rows of the table of parameters; the fit's and the posterior's numbers side by side."""
    fitted = contents.fit["table"] if contents.fit else {}
    if contents.summary is None:
        for name, row in fitted.items():
            yield {"name": name, **{key: row.get(key) for key in ("value", "standard_error", "lower", "upper")}}
        return
    for name, row in contents.summary.iterrows():
        point = fitted.get(name, {})
        yield {
            "name": name,
            "value": point.get("value"),
            "standard_error": point.get("standard_error"),
            **{column: row.get(column) for column in contents.summary.columns},
        }
