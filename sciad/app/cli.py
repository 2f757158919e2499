"""The command line: the library's verbs on studies, each run in a folder of its own."""

import argparse
import json
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sciad._errors import InputError, SciadError
from sciad.app import studies
from sciad.app.console import Console

PASSED, FAILED, BAD_INPUT, INTERRUPTED, CUT_SHORT = 0, 1, 2, 130, 141

_EPILOG = """exit status:
  0    done, and the result passed its checks
  1    done, but the result failed its checks: it did not converge, or is not the published one
  2    the input cannot be used; the message says why
  130  interrupted; what was finished is kept in the run's folder, and `sciad resume` goes on from there
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line, and give its exit status.

    Parameters
    ----------
    arguments : sequence of str, optional
        Words after ``sciad``; those of this process by default.

    Returns
    -------
    int
        0 done; 1 the result failed its checks; 2 bad input; 130 interrupted; 141 nobody reads the result.
    """
    options = _parser().parse_args(arguments)
    console = Console(quiet=getattr(options, "quiet", False), to_stderr=getattr(options, "json", False))
    try:
        return options.action(options, console)
    except KeyboardInterrupt:
        kept = f"; what was finished is kept: `sciad resume {console.place}` goes on" if console.place else ""
        return _give_up(options, console, INTERRUPTED, f"interrupted{kept}")
    except SciadError as error:
        return _give_up(options, console, BAD_INPUT, str(error))
    except BrokenPipeError:  # the reader of the result has gone, as in `sciad fit --json | true`
        return CUT_SHORT
    except Exception as error:  # a study is a user's code: what it raises is theirs to read, without our frames
        console.log(traceback.format_exc())
        return _give_up(options, console, BAD_INPUT, f"{type(error).__name__}: {error} (--debug shows where)")


def _give_up(options: argparse.Namespace, console: Console, status: int, message: str) -> int:
    if getattr(options, "debug", False):
        traceback.print_exc()
    console.error(message)
    if getattr(options, "json", False):
        console.result(json.dumps({"status": status, "error": message}))
    return status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="sciad",
        description="Differentiable science: fit a model to data, sample its posterior, read the report.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="store_true", help="print the version and exit")
    parser.set_defaults(action=_version_or_help)
    commands = parser.add_subparsers(title="commands", metavar="COMMAND")
    _running(commands, "demo", "run the study hudson-bay, from a poor guess to the report").set_defaults(
        action=_sample, study="hudson-bay"
    )
    _add(commands, "list", "list the built-in studies").set_defaults(action=_list)
    new = _add(commands, "new", "write a study of your own to start from")
    new.add_argument("name", metavar="NAME", help="name of the study: NAME.py and NAME.csv are written here")
    new.set_defaults(action=_new)
    for name, words, action in (
        ("fit", "find the best parameters of a study", _fit),
        ("sample", "fit a study and sample its posterior", _sample),
    ):
        command = _running(commands, name, words)
        command.add_argument("study", metavar="STUDY", help="a built-in name, or a Python file")
        command.set_defaults(action=action)
    resume = _add(commands, "resume", "go on with a run that was killed or interrupted")
    resume.add_argument("run", metavar="RUN", help="folder of the run, such as runs/hudson-bay")
    resume.add_argument("--quiet", action="store_true", help="say only errors, warnings and where the report is")
    resume.set_defaults(action=_resume)
    again = _add(commands, "report", "write the report of a run again")
    again.add_argument("run", metavar="RUN", help="folder of a run, such as runs/hudson-bay")
    again.set_defaults(action=_report)
    return parser


def _add(commands: Any, name: str, words: str) -> argparse.ArgumentParser:
    command = commands.add_parser(name, help=words, description=words[0].upper() + words[1:] + ".")
    command.add_argument("--json", action="store_true", help="print one line of JSON last, all else to stderr")
    command.add_argument("--debug", action="store_true", help="show where an error came from")
    return command


def _running(commands: Any, name: str, words: str) -> argparse.ArgumentParser:
    command = _add(commands, name, words)
    command.add_argument("--data", metavar="FILE", help="other data than the study's own")
    command.add_argument(
        "--set", metavar="KEY=VALUE", action="append", default=[], help="change a setting of the study; repeatable"
    )
    command.add_argument("--name", help="name of the run (default: the study's; an earlier run is kept as NAME.1)")
    command.add_argument("--runs", metavar="DIR", default="runs", help="folder of all runs (default: runs)")
    for setting, meaning in (("seed", "of the random numbers"), ("chains", "how many"), ("draws", "of each chain")):
        command.add_argument(f"--{setting}", metavar="N", help=meaning)
    command.add_argument("--quiet", action="store_true", help="say only errors, warnings and where the report is")
    return command


def _version_or_help(options: argparse.Namespace, console: Console) -> int:
    from importlib.metadata import version

    if options.version:
        console.result(f"sciad {version('sciad')}")
        return PASSED
    _parser().print_help()
    return BAD_INPUT


def _list(options: argparse.Namespace, console: Console) -> int:
    titles = studies.titles()
    if options.json:
        console.result(json.dumps({"studies": titles}))
        return PASSED
    width = max(map(len, titles))
    for name, title in titles.items():
        console.result(f"{name:<{width}}  {title}")
    return PASSED


def _new(options: argparse.Namespace, console: Console) -> int:
    from sciad.app.template import write_study

    study, data = write_study(Path(), options.name)
    console.say(f"wrote {study} and {data}; try: sciad sample {study}")
    if options.json:
        console.result(json.dumps({"status": PASSED, "study": str(study), "data": str(data)}))
    return PASSED


def _fit(options: argparse.Namespace, console: Console) -> int:
    return _run(options, console, sample=False)


def _sample(options: argparse.Namespace, console: Console) -> int:
    return _run(options, console, sample=True)


def _run(options: argparse.Namespace, console: Console, *, sample: bool) -> int:
    name = studies.find(options.study)
    changes = _changes(options)
    with console.busy("loading"):
        from sciad.app.workflow import Task, run_study
    task = Task(options.study, options.data, changes, sample)
    return _end(options, console, run_study(task, name=options.name or name, root=options.runs, console=console))


def _resume(options: argparse.Namespace, console: Console) -> int:
    with console.busy("loading"):
        from sciad.app.workflow import resume_run
    return _end(options, console, resume_run(options.run, console=console))


def _end(options: argparse.Namespace, console: Console, outcome: Mapping[str, Any]) -> int:
    status = INTERRUPTED if outcome["interrupted"] else PASSED if outcome["passed"] else FAILED
    if outcome["interrupted"]:
        console.say(f"`sciad resume {outcome['run']}` goes on to the draws that are missing")
    if options.quiet and not options.json:
        console.result(outcome["report"])
    if options.json:
        console.result(json.dumps({"status": status, **outcome}))
    return status


def _report(options: argparse.Namespace, console: Console) -> int:
    from sciad.app import contents, report
    from sciad.app.run import Run

    run = Run.open(options.run)
    page = report.write(run.folder, contents.load(run))
    console.say(f"wrote {page}")
    if options.json:
        console.result(json.dumps({"status": PASSED, "report": str(page)}))
    return PASSED


def _changes(options: argparse.Namespace) -> Mapping[str, str]:
    changes = {}
    for word in options.set:
        key, equals, value = word.partition("=")
        if not equals or not key:
            message = f"--set {word}: expected KEY=VALUE, such as --set draws=500."
            raise InputError(message)
        changes[key] = value
    for setting in ("seed", "chains", "draws"):
        if getattr(options, setting) is not None:
            changes[setting] = getattr(options, setting)
    return changes
