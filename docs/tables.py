"""Write what is generated: the tables of the page on benchmarks, and the list of public names.

Nothing is typed in. A number in a table is in the file of benchmarks/results/ that its benchmark wrote, and a ratio is
taken within one file; a name is in the `__all__` of its package.
"""

import importlib
import json
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"
DOCS = Path(__file__).resolve().parent
OURS = "sciad"
PACKAGES = {
    "sciad": "Language, problems and verbs",
    "sciad.models.domains": "Domains",
    "sciad.models.networks": "Networks",
    "sciad.models.physics": "Equations",
    "sciad.models.probability": "Noise models",
    "sciad.solvers": "Solvers",
}


def main():
    results = [json.loads(file.read_text()) for file in sorted(RESULTS.glob("*.json"))]
    (DOCS / "_generated").mkdir(exist_ok=True)
    tables = "\n".join(map(section, results)) or "No benchmark has been run yet.\n"
    (DOCS / "_generated" / "benchmarks.md").write_text(tables)
    seen = set()
    (DOCS / "api.md").write_text("\n".join(["# Reference", "", *(names(package, seen) for package in PACKAGES)]))


def names(package, seen):
    """One list for a package, of what an earlier package has not shown already."""
    surface = importlib.import_module(package)
    things = {name: getattr(surface, name) for name in surface.__all__}
    shown = [name for name, thing in things.items() if not isinstance(thing, ModuleType) and id(thing) not in seen]
    seen.update(map(id, things.values()))
    lines = [f"## {PACKAGES[package]}", "", "```{eval-rst}", f".. currentmodule:: {package}", "", ".. autosummary::"]
    entries = [f"   {name}" for name in shown]
    return "\n".join([*lines, "   :toctree: api", "   :nosignatures:", "", *entries, "```", ""])


def section(result):
    lines = [f"## `{result['benchmark']}`", "", f"Machine: {words(result['machine'])}.", ""]
    lines += [f"Versions: {words(result['versions'])}.", ""]
    for case in unique(row["case"] for row in result["rows"]):
        rows = [row for row in result["rows"] if row["case"] == case]
        lines += [f"### {case.replace('_', ' ')}", "", *table(rows), ""]
    return "\n".join(lines)


def table(rows):
    """One line a metric, one column a system, ours first, with its multiple of ours beside each of the others."""
    systems = sorted(unique(row["system"] for row in rows), key=lambda name: name != OURS)
    cells = {(row["metric"], row["system"]): row for row in rows}
    yield f"| metric | unit | {' | '.join(f'`{system}`' for system in systems)} |"
    yield "| --- | --- |" + " ---: |" * len(systems)
    for metric in unique(row["metric"] for row in rows):
        unit = next(row["unit"] for row in rows if row["metric"] == metric)
        ours = cells.get((metric, OURS))
        values = [cell(cells.get((metric, system)), ours) for system in systems]
        yield f"| {metric.replace('_', ' ')} | {unit} | {' | '.join(values)} |"


def cell(row, ours):
    if row is None or row["value"] is None:
        return "–"
    value = row["value"]
    if isinstance(value, bool | str):
        return str(value)
    text = f"{value:.3g}" if abs(value) < 1e5 else f"{value:.2e}"
    if row is ours or ours is None or not isinstance(ours["value"], int | float) or not ours["value"]:
        return text
    return f"{text} (×{value / ours['value']:.3g})"


def unique(names):
    return list(dict.fromkeys(names))


def words(mapping):
    return ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in mapping.items())


if __name__ == "__main__":
    main()
