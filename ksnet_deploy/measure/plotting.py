"""Plots of evaluation reports. Needs Matplotlib (``pip install 'ksnet-deploy[plots]'``)."""

from __future__ import annotations

from pathlib import Path

from ksnet_deploy.base.errors import BackendError, OutputError
from ksnet_deploy.measure.evaluation import EvaluationReport

__all__ = ["check_plotting", "plot_psnr"]


def check_plotting(path: Path) -> None:
    """Raise, before any work is done, when a plot could not be written."""
    try:
        import matplotlib.figure  # noqa: F401
    except ImportError as error:
        raise BackendError(
            "a plot needs Matplotlib, which is not installed; run pip install 'ksnet-deploy[plots]'"
        ) from error
    if path.suffix.lower() not in (".png", ".svg", ".pdf"):
        raise OutputError(f"{path} is no picture's name; end it in .png, .svg or .pdf")
    if not path.parent.is_dir():
        raise OutputError(f"the folder {path.parent} does not exist; make it first, or give another name")


def plot_psnr(report: EvaluationReport, path: Path) -> None:
    """PSNR over the frame index, a line per clip: a network whose state drifts shows as a falling line."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.add_subplot()
    for clip in report.clips:
        axes.plot(clip.psnr_per_frame, label=f"{clip.name} ({clip.psnr_db:.2f} dB)")
    axes.set_xlabel("frame")
    axes.set_ylabel(f"PSNR in dB ({report.space.upper()})")
    axes.set_title(f"{report.method} on {report.protocol}, {report.degradation}")
    axes.grid(alpha=0.3)
    axes.legend(fontsize="small")
    figure.savefig(path, dpi=120)
