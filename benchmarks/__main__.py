"""``python -m benchmarks list`` and ``python -m benchmarks NAME``: run a benchmark, print one JSON line last."""

import argparse
import json
import sys
from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from benchmarks import BENCHMARKS, load
from benchmarks.measure import Row, machine, progress, versions
from sciad._atomic import write_text


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code: 0, 1 if a measurement of sciad failed, 2 for a bad request."""
    request = _parser().parse_args(argv)
    if request.name == "list":
        sys.stdout.writelines(f"{_line(name)}\n" for name in BENCHMARKS)
        return 0
    try:
        _check("benchmark", request.name, BENCHMARKS)
        benchmark = load(request.name)
        cases = benchmark.CASES if request.case is None else (request.case,)
        _check(f"case of {request.name}", cases[0], benchmark.CASES)
    except ValueError as error:
        sys.stderr.write(f"benchmarks: {error}\n")
        return 2
    rows: list[Row] = []
    for case in cases:
        rows += benchmark.run(case, request.budget, request.peers)
        _keep(request, rows)
    return _report(request, rows)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Measure sciad against its peers.")
    parser.add_argument("name", metavar="NAME", help="a benchmark, or 'list'")
    parser.add_argument("--case", help="measure one case only")
    parser.add_argument(
        "--budget",
        type=_seconds,
        default=300.0,
        metavar="SECONDS",
        help="time for each system of a case, or each of its seeds (default 300)",
    )
    parser.add_argument("--peers", action="store_true", help="include peers that live in environments of their own")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also keep the figures in FILE, case by case")
    return parser


def _seconds(text: str) -> float:
    seconds = float(text)
    if not 0 < seconds < float("inf"):
        message = f"got {text}, expected a positive number of seconds"
        raise argparse.ArgumentTypeError(message)
    return seconds


def _line(name: str) -> str:
    benchmark = load(name)
    summary = (benchmark.__doc__ or "").splitlines()[0]
    return f"{name:<14}{summary}\n{'':<14}cases: {', '.join(benchmark.CASES)}"


def _check(kind: str, name: str, known: Sequence[str]) -> None:
    """Raise a ValueError with the nearest known name unless ``name`` is known."""
    if name in known:
        return
    near = get_close_matches(name, known, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"there are: {', '.join(known)}"
    message = f"no {kind} is called {name!r}; {hint}"
    raise ValueError(message)


def _answer(name: str, rows: list[Row]) -> dict[str, Any]:
    return {"benchmark": name, "machine": machine(), "versions": versions(), "rows": rows}


def _keep(request: argparse.Namespace, rows: list[Row]) -> None:
    """Write what has been measured so far to the file; cases measured there before, on the same ground, stay."""
    if request.json is None:
        return
    answer = _answer(request.name, rows)
    if request.json.exists():
        before = json.loads(request.json.read_text())
        if all(before[key] == answer[key] for key in ("benchmark", "machine", "versions")):
            measured = {row["case"] for row in rows}
            answer["rows"] = [row for row in before["rows"] if row["case"] not in measured] + rows
        else:
            progress(f"{request.json} is of another machine or other versions: its figures are replaced")
    request.json.parent.mkdir(parents=True, exist_ok=True)
    write_text(request.json, json.dumps(answer, allow_nan=False) + "\n")
    progress(f"wrote {request.json}")


def _report(request: argparse.Namespace, rows: list[Row]) -> int:
    """Print the rows as a table and then as one JSON line, and return the exit code."""
    sys.stdout.writelines(_shown(row) for row in rows)
    sys.stdout.write(json.dumps(_answer(request.name, rows), allow_nan=False) + "\n")
    return int(any(row["metric"] == "failed" and row["system"].startswith("sciad") for row in rows))


def _shown(row: Row) -> str:
    value = "not finite" if row["value"] is None else f"{row['value']:.6g}"
    return f"{row['case']:<28}{row['system']:<28}{row['metric']:<32}{value:>14} {row['unit']}\n"


if __name__ == "__main__":
    sys.exit(main())
