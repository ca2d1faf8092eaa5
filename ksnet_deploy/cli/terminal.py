"""Progress and complaints, both on standard error; and standard streams that last."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, Protocol, TextIO

__all__ = [
    "Bar",
    "Progress",
    "build_progress",
    "complain",
    "memory_sentence",
    "out_of_memory_sentence",
    "progress",
    "show_notes",
]

Style = Literal["bar", "json", "none"]


class Progress(Protocol):
    """Receiver of what is going on."""

    def begin(self, what: str, total: int | None, done: int = 0) -> None:
        """Something of ``total`` steps begins, ``done`` of which were done before."""

    def extend(self, total: int | None) -> None:
        """Number of steps in all of what began, as far as it is known now."""

    def tell(self, **counts: int) -> None:
        """Counts beside the steps, by their names."""

    def advance(self) -> None:
        """A step is done."""

    def say(self, line: str) -> None:
        """A line that stays, on standard error."""

    def say_result(self, text: str) -> None:
        """A result, on standard output."""

    def complain(self, sentence: str) -> None:
        """Something that went wrong while others go on, on standard error."""


class LastingStream:
    """A text stream whose reader may go away: what is written then is lost, and the work goes on."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        try:
            return self._stream.write(text)
        except OSError:
            self._let_go()
            return len(text)

    def flush(self) -> None:
        try:
            self._stream.flush()
        except OSError:
            self._let_go()

    def _let_go(self) -> None:
        """Send what is still to come, and what waits in the buffer, nowhere."""
        with contextlib.suppress(OSError, ValueError), Path(os.devnull).open("wb") as nowhere:
            os.dup2(nowhere.fileno(), self._stream.fileno())


def make_streams_last() -> None:
    """Let no reader that goes away from standard output or error end the work, nor a name that it cannot be told."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is not None and not isinstance(stream, LastingStream):
            if getattr(stream, "errors", None) == "strict":  # names of files may be no text in the stream's encoding
                stream.reconfigure(errors="backslashreplace")
            setattr(sys, name, LastingStream(stream))


class Bar:
    """A progress bar on standard error, or nothing; lines that stay alone where that is no terminal."""

    def __init__(self, title: str, show: bool) -> None:
        self._progress: Any = None
        self._task: Any = None
        self._what = ""
        if show:
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

            # Names of files are text, whatever brackets and colons are in them.
            console = Console(stderr=True, markup=False, emoji=False, highlight=False)
            self._progress = Progress(
                TextColumn(title + " {task.description}", markup=False),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("{task.fields[rate]}", markup=False),
                TimeRemainingColumn(),
                console=console,
                disable=not console.is_terminal,  # else the bar is printed once, after the result
            )
            self._progress.start()

    def begin(self, what: str, total: int | None, done: int = 0) -> None:
        self._what = what
        if self._progress is not None:
            if self._task is not None:
                self._progress.remove_task(self._task)
            self._task = self._progress.add_task(what, total=total, completed=done, rate="")

    def describe(self, what: str, rate: str = "") -> None:
        """Change the text and the speed beside the bar."""
        if self._progress is not None and self._task is not None:
            self._progress.update(self._task, description=what, rate=rate)

    def reach(self, done: int) -> None:
        """Set how much is done."""
        if self._progress is not None and self._task is not None:
            self._progress.update(self._task, completed=done)

    def extend(self, total: int | None) -> None:
        """Set how much there is in all."""
        if self._progress is not None and self._task is not None:
            self._progress.update(self._task, total=total)

    def tell(self, **counts: int) -> None:
        """Show counts after the text."""
        words = ", ".join(f"{count} {name.replace('_', ' ')}" for name, count in counts.items())
        self.describe(f"{self._what} ({words})")

    def advance(self) -> None:
        if self._progress is not None and self._task is not None:
            self._progress.advance(self._task)
            speed = self._progress.tasks[0].speed
            self._progress.update(self._task, rate=f"{speed:.2f} fps" if speed else "")

    def say(self, line: str) -> None:
        if self._progress is not None:
            self._progress.console.print(line, soft_wrap=True)

    def say_result(self, text: str) -> None:
        if self._progress is not None:
            self._progress.refresh()
        print(text, flush=True)

    def complain(self, sentence: str) -> None:
        complain(sentence)

    def close(self) -> None:
        if self._progress is not None:
            self._progress.stop()


class JsonLines:
    """Progress for a program: one JSON object a line, results on standard output, all else on standard error.

    How far it is it tells no more than twice a second.
    """

    INTERVAL_S = 0.5

    def __init__(self) -> None:
        self._done = self._first = 0
        self._total: int | None = None
        self._counts: dict[str, int] = {}
        self._began = self._told = time.monotonic()

    def _tell(self, event: str, *, file: TextIO | None = None, **values: Any) -> None:
        print(json.dumps({"event": event, **values}), file=file or sys.stderr, flush=True)

    def begin(self, what: str, total: int | None, done: int = 0) -> None:
        self._done = self._first = done
        self._total = total
        self._began = self._told = time.monotonic()
        self._tell("begin", what=what, total=total, done=done)

    def describe(self, what: str, rate: str = "") -> None:
        """Nothing: phases of a build are many, and short."""

    def reach(self, done: int) -> None:
        """Set how much is done."""
        self._done = done - 1
        self.advance()

    def extend(self, total: int | None) -> None:
        """Set how much there is in all."""
        self._total = total

    def tell(self, **counts: int) -> None:
        """Counts for the next line."""
        self._counts = counts

    def advance(self) -> None:
        self._done += 1
        now = time.monotonic()
        if now - self._told >= self.INTERVAL_S or self._done == self._total:
            self._told = now
            fps = (self._done - self._first) / max(now - self._began, 1e-9)
            left = (self._total - self._done) / fps if self._total and fps else None
            counts: dict[str, Any] = {**self._counts}
            left_s = left and round(left, 1)
            self._tell("progress", done=self._done, total=self._total, fps=round(fps, 3), left_s=left_s, **counts)

    def say(self, line: str) -> None:
        self._tell("note", text=line)

    def say_result(self, text: str) -> None:
        self._tell("result", text=text, file=sys.stdout)

    def complain(self, sentence: str) -> None:
        self._tell("error", text=sentence)

    def close(self) -> None:
        pass


@contextmanager
def progress(title: str, *, show: bool = True, style: Style = "bar") -> Iterator[Any]:
    """Progress in a style; ``show=False`` is the style ``none``."""
    bar = JsonLines() if style == "json" else Bar(title, show and style == "bar")
    try:
        yield bar
    finally:
        bar.close()


def build_progress(bar: Any) -> Callable[[str, int, int], None]:
    """Shows the progress of an engine's build: a bar for each number of steps, named after the phase."""
    shown: list[int] = []

    def on_progress(phase: str, done: int, total: int) -> None:
        if shown != [total]:
            shown[:] = [total]
            bar.begin("", total)
        bar.describe(phase.lower().removeprefix("building "))
        bar.reach(done)

    return on_progress


def complain(sentence: str) -> None:
    print(f"Error: {sentence}.", file=sys.stderr)


def show_notes(notes: Iterable[str]) -> None:
    """Print sentences that a user should know, whatever form the result has."""
    for note in notes:
        print(note, file=sys.stderr)


def out_of_memory_sentence(error: Exception) -> str:
    """Sentence on used up memory, for an error that says it in a library's words."""
    if type(error).__name__ == "OutOfMemoryError":  # PyTorch's
        return (
            "the GPU has too little memory; give smaller frames, or train with a smaller batch or patch (--stage) or "
            "with --no-recorded"
        )
    return (
        "the memory is used up, of this machine or as far as its limits grant it (ulimit); close other programs, give "
        "smaller frames, upscale in smaller --tiles, or train with a smaller batch or patch (--stage)"
    )


def memory_sentence(needed_bytes: int) -> str:
    """An estimate of memory, for a user before the work."""
    return f"This takes about {needed_bytes / 1e9:.1f} GB of memory."
