"""A line of progress on standard error: stage, done, time left, and what the work says of itself."""

import sys
import time
from types import TracebackType
from typing import Any


class Progress:
    """Progress display; a live bar on a terminal, a line every few seconds elsewhere, nothing if `quiet`.

    Of `brief` work, which is often done at once, the bar goes when it is done, and elsewhere the ends of stages are not
    told.
    """

    def __init__(self, *, quiet: bool = False, every: float = 5.0, brief: bool = False) -> None:
        self._quiet, self._every, self._brief = quiet, every, brief
        self._live = not quiet and sys.stderr.isatty()
        self._bar: Any = None
        self._tasks: dict[str, Any] = {}
        self._began: dict[str, float] = {}
        self._told = time.monotonic() if brief else 0.0
        self.spoke = False  # whether a line was written

    def __enter__(self) -> "Progress":
        if self._live:
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
            from rich.progress import Progress as Bar

            clock = TimeElapsedColumn() if self._brief else TimeRemainingColumn()
            columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), clock)
            note = TextColumn("{task.fields[note]}")
            self._bar = Bar(*columns, note, console=Console(stderr=True), transient=self._brief)
            self._bar.start()
        return self

    def __exit__(self, kind: type | None, value: BaseException | None, trace: TracebackType | None) -> None:
        if self._bar is not None:
            self._bar.stop()

    def say(self, text: str) -> None:
        """Write one line."""
        if self._bar is not None:
            self._bar.console.print(text)
        elif not self._quiet:
            self._write(text)

    def update(self, stage: str, done: int, total: int, note: str = "") -> None:
        """Show that `done` of `total` are done."""
        now = time.monotonic()
        began = self._began.setdefault(stage, now)
        if self._bar is not None:
            if stage not in self._tasks:
                self._tasks[stage] = self._bar.add_task(stage, total=total, note=note)
            self._bar.update(self._tasks[stage], completed=done, total=total, note=note)
        elif not self._quiet and ((done >= total and not self._brief) or now - self._told > self._every):
            self._told, self.spoke = now, True
            left = (now - began) / done * (total - done) if done else 0.0
            ahead = f", {left:.0f} s left" if done < total and not self._brief else ""
            self._write(f"{stage}: {done}/{total}{ahead}{note and f', {note}'}")

    def _write(self, text: str) -> None:
        sys.stderr.write(text + "\n")
        sys.stderr.flush()
