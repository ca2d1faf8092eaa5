"""Carries out what ``train`` and ``train-flow`` ask for, with its progress on the terminal and in a plot."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from ksnet_deploy.cli.terminal import Bar, progress

if TYPE_CHECKING:
    from ksnet_deploy.training.log import Progress

__all__ = ["carry_out"]

Request = TypeVar("Request")
OnStart = Callable[[int | None, str], None]


def carry_out(
    run: Callable[
        [Request, Callable[[int | None, str], None], Callable[[Progress], None], Callable[[str], None]], Path
    ],
    request: Request,
    plotted: Path | None = None,
) -> None:
    """Run a training with its progress shown, the log in a folder plotted, and print the path of its weights."""
    from ksnet_deploy.measure.plotting import check_plotting, plot_log

    leads = os.environ.get("RANK", "0") == "0"  # the only process, or torchrun's first
    if plotted is not None:
        check_plotting()
    reports: list[Progress] = []
    with progress("Training", show=leads) as bar:
        show = _reporter(bar)

        def start(iterations: int | None, what: str) -> None:
            bar.say(f"Training on {what}.")
            bar.begin("", iterations)

        def plot() -> None:
            if plotted is None or not leads:
                return
            try:
                plot_log(plotted)
            except OSError as error:  # a training does not end over a picture of it
                bar.say(f"log.png could not be drawn ({error.strerror or error}).")

        def report(state: Progress) -> None:
            reports[:] = [state]
            show(state)
            if state.figures:
                plot()

        path = run(request, start, report, bar.say)
        if not reports:
            bar.say("This run was finished before, and nothing was trained; give another --output for a new one.")
        plot()
    if leads:
        print(path)


def _reporter(bar: Bar) -> Callable[[Progress], None]:
    """Shows the state of a run: one changing line on a terminal, else a line for each entry of the log."""
    live = sys.stderr.isatty()

    def report(state: Progress) -> None:
        figures = "".join(f", {name} {value:.3f}" for name, value in state.figures.items())
        speed = f"{state.iterations_per_s:.2f} it/s, {state.samples_per_s:.1f} samples/s, data {state.data_share:.0%}"
        if state.fit is not None:
            bar.say(f"{state.fit}.")
            bar.begin("", state.fit.iterations, state.iteration)
        line = f"loss {state.loss:.5f}, rate {state.rate:.1e}"
        if live:
            bar.reach(state.iteration)
            bar.describe(line, speed)
        if figures or not live:
            bar.say(f"{state.iteration}: {line}, {speed}{figures}")

    return report
