"""What the command line says: people's words and the program's result, each to its own stream."""

import contextlib
import os
import sys
from collections.abc import Callable, Iterator
from typing import TextIO


class Console:
    """Writes words for people and results for programs.

    Parameters
    ----------
    quiet : bool
        Say nothing but errors and results.
    to_stderr : bool
        Put the words for people on stderr, so that stdout holds only the result.
    """

    def __init__(self, *, quiet: bool = False, to_stderr: bool = False) -> None:
        self.quiet = quiet
        self._words: TextIO = sys.stderr if to_stderr else sys.stdout
        self._listener: Callable[[str], None] | None = None
        self.place = ""

    def attach(self, listener: Callable[[str], None], place: str) -> None:
        """From now on, write to the log of the run in ``place`` too."""
        self._listener, self.place = listener, place

    def log(self, text: str) -> None:
        """Write to the log of the run alone, once there is a run."""
        if self._listener is not None:
            self._listener(text)

    def say(self, text: str) -> None:
        """Tell people, at once, and the log."""
        self.log(text)
        if self.quiet:
            return
        try:
            _write(self._words, text)
        except BrokenPipeError:  # nobody reads the words any more: the work goes on without them
            self.quiet = True

    @contextlib.contextmanager
    def busy(self, text: str) -> Iterator[None]:
        """Tell people what is going on while it goes on; on a terminal a clock runs beside the words."""
        if self.quiet or not self._words.isatty():
            self.say(f"{text} …")
            yield
            return
        from rich.console import Console as Terminal
        from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

        self.log(f"{text} …")
        columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
        with Progress(*columns, console=Terminal(file=self._words), transient=True) as progress:
            progress.add_task(text, total=None)
            yield

    def warn(self, text: str) -> None:
        """Tell people of something that they should know, quiet or not, and the log."""
        self.log(f"warning: {text}")
        _write(sys.stderr, f"warning: {text}")

    def error(self, text: str) -> None:
        """Tell people why there is no result, and the log."""
        self.log(f"error: {text}")
        _write(sys.stderr, f"sciad: {text}")

    def result(self, text: str) -> None:
        """Write what was asked for on stdout."""
        _write(sys.stdout, text)


def _write(stream: TextIO, text: str) -> None:
    """Write a line and flush it; what the stream's encoding lacks is replaced, never a crash."""
    encoding = getattr(stream, "encoding", None) or "utf-8"
    try:
        stream.write(text.encode(encoding, "replace").decode(encoding) + "\n")
        stream.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())  # or Python complains once more as it ends
        raise
