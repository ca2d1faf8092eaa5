"""Log of a run: means of the loss, speed, the share of time spent on data; as values and as CSV."""

from __future__ import annotations

import csv
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from ksnet_deploy.base.errors import KSNetError, OutputError
from ksnet_deploy.base.files import replacing
from ksnet_deploy.training.pace import Fit

__all__ = ["Meter", "Progress", "append_line", "drop_lines_after"]


@dataclass(frozen=True)
class Progress:
    """One line of the log: means since the last one."""

    iteration: int
    loss: float
    rate: float
    iterations_per_s: float
    samples_per_s: float
    data_share: float
    """Share of the time that went into waiting for data, in [0, 1]."""
    figures: Mapping[str, float]
    """Figures of the validation, where there was one."""
    fit: Fit | None = None
    """The length of a run that was given hours, where it has just become known."""


class Meter:
    """Means of the loss, and where the time went, since the last line of the log."""

    def __init__(self, world_size: int) -> None:
        self._world_size = world_size
        self.restart()

    def restart(self) -> None:
        """Begin to measure anew."""
        self._started, self._waited = time.monotonic(), 0.0
        self._losses: list[Tensor] = []
        self._samples = 0

    def timed(self, batches: Iterable[tuple[Tensor, ...]]) -> Iterator[tuple[Tensor, ...]]:
        iterator = iter(batches)
        while True:
            asked = time.monotonic()
            try:
                batch = next(iterator)
            except StopIteration:
                return
            except KSNetError as error:  # a worker process sends its traceback along
                raise type(error)(
                    str(error).strip().rpartition("\n")[2].partition("Error: ")[2] or str(error)
                ) from None
            self._waited += time.monotonic() - asked
            yield batch

    def add(self, loss: Tensor, samples: int) -> None:
        self._losses.append(loss)
        self._samples += samples

    def take(self, iteration: int, rate: float) -> Progress:
        """The means since the last restart."""
        loss = float(torch.stack(self._losses).mean())  # the only wait for the device
        seconds = max(time.monotonic() - self._started, 1e-9)
        return Progress(
            iteration,
            loss,
            rate,
            len(self._losses) / seconds,
            self._samples * self._world_size / seconds,
            self._waited / seconds,
            {},
        )


COLUMNS = ("iteration", "loss", "rate", "iterations_per_s", "samples_per_s", "data_share", "figures")


def append_line(path: Path, progress: Progress) -> None:
    """Write a line, after one of the columns' names in a new file. Raises OSError."""
    with path.open("a", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        if file.tell() == 0:
            writer.writerow(COLUMNS)
        figures = " ".join(f"{name}={value:.4f}" for name, value in progress.figures.items())
        writer.writerow(
            (
                progress.iteration,
                f"{progress.loss:.8f}",
                f"{progress.rate:.3e}",
                f"{progress.iterations_per_s:.3f}",
                f"{progress.samples_per_s:.2f}",
                f"{progress.data_share:.4f}",
                figures,
            )
        )


def drop_lines_after(path: Path, iteration: int) -> None:
    """Drop the lines after an iteration, which the resumed run writes again, and those that were damaged.

    Raises:
        OutputError: the file is not the log of a training; it stays.
        OSError: it cannot be read or written.
    """
    if not path.exists() or not (text := path.read_text(encoding="utf-8", errors="replace")):
        return
    head, *lines = text.splitlines()
    if not head.startswith(f"{COLUMNS[0]},"):
        raise OutputError(f"{path} is not the log of a training; move it, or give another --output")
    kept = [line for line in lines if line.split(",")[0].isdigit() and int(line.split(",")[0]) <= iteration]
    with replacing(path) as temporary:
        temporary.write_text("\n".join([head, *kept]) + "\n")
