"""What the command line shows besides its results: progress and complaints, both on standard error."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

__all__ = ["Bar", "complain", "progress"]


class Bar:
    """A progress bar on standard error, or nothing."""

    def __init__(self, title: str, show: bool) -> None:
        self._progress: Any = None
        self._task: Any = None
        if show:
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

            self._progress = Progress(
                TextColumn(title + " {task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("{task.fields[rate]}"),
                TimeRemainingColumn(),
                console=Console(stderr=True),
            )
            self._progress.start()

    def begin(self, what: str, total: int | None) -> None:
        if self._progress is not None:
            if self._task is not None:
                self._progress.remove_task(self._task)
            self._task = self._progress.add_task(what, total=total, rate="")

    def describe(self, what: str, rate: str = "") -> None:
        """Change the text and the speed beside the bar."""
        if self._progress is not None and self._task is not None:
            self._progress.update(self._task, description=what, rate=rate)

    def reach(self, done: int) -> None:
        """Set how much is done."""
        if self._progress is not None and self._task is not None:
            self._progress.update(self._task, completed=done)

    def advance(self) -> None:
        if self._progress is not None and self._task is not None:
            self._progress.advance(self._task)
            speed = self._progress.tasks[0].speed
            self._progress.update(self._task, rate=f"{speed:.2f} fps" if speed else "")

    def say(self, line: str) -> None:
        """Print a line that stays."""
        if self._progress is not None:
            self._progress.console.print(line, highlight=False)

    def close(self) -> None:
        if self._progress is not None:
            self._progress.stop()


@contextmanager
def progress(title: str, *, show: bool) -> Iterator[Bar]:
    bar = Bar(title, show)
    try:
        yield bar
    finally:
        bar.close()


def complain(sentence: str) -> None:
    print(f"Error: {sentence}.", file=sys.stderr)
