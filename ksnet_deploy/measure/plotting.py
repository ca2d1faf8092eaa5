"""Plots of evaluations and trainings. Needs Matplotlib (``pip install 'ksnet-deploy[plots]'``)."""

from __future__ import annotations

import csv
import math
from pathlib import Path
from typing import TYPE_CHECKING

from ksnet_deploy.base.errors import BackendError, OutputError
from ksnet_deploy.base.files import check_new_file, replacing, writing
from ksnet_deploy.measure.evaluation import EvaluationReport

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["check_plotting", "plot_log", "plot_psnr", "save_figure"]


def check_plotting(path: Path | None = None, *, overwrite: bool = False) -> None:
    """Raise, before any work is done, when a plot could not be drawn, or not be written under a name."""
    try:
        import matplotlib.figure  # noqa: F401
    except ImportError as error:
        raise BackendError(
            "a plot needs Matplotlib, which is not installed; run pip install 'ksnet-deploy[plots]'"
        ) from error
    if path is None:
        return
    if path.suffix.lower() not in (".png", ".svg", ".pdf"):
        raise OutputError(f"{path} is no picture's name; end it in .png, .svg or .pdf")
    check_new_file(path, path.suffix, overwrite=overwrite)


def save_figure(figure: Figure, path: Path) -> None:
    """Write a figure in the format that the path's suffix names, whole or not at all.

    Raises:
        OutputError: it cannot be written.
    """
    with writing(path, "choose another place"), replacing(path) as temporary:
        figure.savefig(temporary, dpi=120, format=path.suffix.lower().removeprefix("."))


def plot_psnr(report: EvaluationReport, path: Path) -> None:
    """PSNR over the frame index, a line per clip: a network whose state drifts shows as a falling line."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.add_subplot()
    for clip in report.clips:
        axes.plot(clip.psnr_per_frame, label=f"{clip.name} ({clip.psnr_db:.2f} dB)")
    axes.set_xlabel("frame")
    axes.set_ylabel(f"PSNR in dB ({report.space.upper()})")
    axes.set_title(f"{report.method} on {report.protocol}, {report.input_in_words}")
    axes.grid(alpha=0.3)
    axes.legend(fontsize="small")
    save_figure(figure, path)


def plot_log(folder: Path) -> None:
    """Draw ``log.png`` beside a training's ``log.csv``: the loss, and below it each figure of the validations."""
    from matplotlib.figure import Figure

    with (folder / "log.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    if not rows:
        return
    figures: dict[str, list[tuple[int, float]]] = {}
    for row in rows:
        for each in row["figures"].split():
            name, _, value = each.partition("=")
            figures.setdefault(name, []).append((int(row["iteration"]), float(value)))
    losses = [(int(row["iteration"]), float(row["loss"])) for row in rows]
    figure = Figure(figsize=(8, 3 * (1 + len(figures))), layout="constrained")
    charts = figure.subplots(1 + len(figures), sharex=True, squeeze=False)[:, 0]
    for axes, (name, points) in zip(charts, [("loss", losses), *figures.items()], strict=True):
        axes.plot(*zip(*points, strict=True), marker="." if len(points) < 60 else "")
        axes.set_ylabel(name.replace("_", " "))
        axes.grid(alpha=0.3)
    if all(math.isfinite(loss) and loss > 0 for _, loss in losses):
        charts[0].set_yscale("log")
    charts[-1].set_xlabel("iteration")
    with replacing(folder / "log.png") as temporary:
        figure.savefig(temporary, dpi=120, format="png")
