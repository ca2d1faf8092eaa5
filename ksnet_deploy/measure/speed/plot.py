"""A benchmark as a picture: frames per second of every way, and its quality. Needs Matplotlib."""

from __future__ import annotations

from pathlib import Path

from ksnet_deploy.base.words import counted
from ksnet_deploy.measure.plotting import save_figure
from ksnet_deploy.measure.speed.report import PAPER, BenchReport

__all__ = ["plot_bench"]


def plot_bench(report: BenchReport, path: Path) -> None:
    """Three bars for each way, engine, pipeline and end to end, on a logarithmic axis; the paper's fps as a line.

    Args:
        path: checked by :func:`ksnet_deploy.measure.plotting.check_plotting`.
    """
    from matplotlib.figure import Figure

    rows = [(group, row) for group in report.groups for row in group.rows]
    figure = Figure(figsize=(9, 1.5 + 0.8 * len(rows)), layout="constrained")
    axes = figure.add_subplot()
    kinds = {
        "engine": [row.engine.fps for _, row in rows],
        "pipeline": [row.pipeline.fps for _, row in rows],
        "end to end": [row.end_to_end_fps for _, row in rows],
    }
    for index, (kind, values) in enumerate(kinds.items()):
        bars = axes.barh([place + (index - 1) * 0.27 for place in range(len(rows))], values, 0.25, label=kind)
        axes.bar_label(bars, fmt="%.2f", padding=3, fontsize="x-small")
    labels = [f"{group.model} {group.size}\n{row.way.label}\n{_in_db(row.quality)}" for group, row in rows]
    axes.set_yticks(range(len(rows)), labels, fontsize="small")
    axes.invert_yaxis()
    axes.set_xscale("log")
    axes.axvline(
        float(str(PAPER["fps"])),
        color="grey",
        linestyle="--",
        label="paper, uni at 180x320 on an RTX 3080, as published",
    )
    axes.set_xlabel("frames per second")
    axes.set_title(
        f"{report.machine}, {counted(report.cores, 'core')}" + (f", {report.card.name}" if report.card else "")
    )
    axes.grid(axis="x", alpha=0.3)
    axes.legend(fontsize="small")
    save_figure(figure, path)


def _in_db(quality: str) -> str:
    return f"{quality} dB" if quality[:1].isdigit() else quality
