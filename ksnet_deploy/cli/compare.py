"""The command that compares two versions. ``cli.py`` adds it to the application."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from ksnet_deploy.cli.terminal import progress

if TYPE_CHECKING:
    from ksnet_deploy.measure.compare import Comparison, Figures

__all__ = ["compare"]


def compare(
    reference: Annotated[Path, typer.Argument(help="The original: a video, a picture or a folder of frames.")],
    found: Annotated[Path, typer.Argument(help="What is measured against it, of the same kind.")],
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", help="Show both in a video, or the worst frame in a .png; figures only if absent."
        ),
    ] = None,
    mode: Annotated[
        Literal["side-by-side", "wipe", "difference"], typer.Option("--mode", help="How the output shows both.")
    ] = "side-by-side",
    gain: Annotated[float, typer.Option("--gain", help="What a difference is multiplied by.")] = 8.0,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing output.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead of text.")] = False,
) -> None:
    """Measure PSNR and SSIM of one video, picture or folder of frames against another, and show both in one."""
    from ksnet_deploy.measure.compare import compare as compare_versions
    from ksnet_deploy.measure.layout import Layout

    with progress("Comparing", show=not as_json) as bar:
        result = compare_versions(
            reference,
            found,
            output,
            Layout(mode, gain),
            overwrite=overwrite,
            on_start=lambda size, frames: bar.begin(str(size), frames),
            on_frame=bar.advance,
        )
    if as_json:
        print(json.dumps(_as_dict(result)))
        return
    print(_table(result))
    for note in result.notes:
        print(note)
    if result.target is not None:
        print(result.target)


def _as_dict(result: Comparison) -> dict[str, Any]:
    """JSON knows no infinity: the PSNR of what is identical becomes null."""

    def figures(of: Figures) -> dict[str, float | None]:
        return {name: None if value == math.inf else value for name, value in vars(of).items()}

    return {
        "reference": str(result.reference),
        "found": str(result.found),
        "output": None if result.target is None else str(result.target),
        "height": result.size.height,
        "width": result.size.width,
        "frames": result.frames,
        "identical": result.identical_frames == result.frames,
        "identical_frames": result.identical_frames,
        "mean": figures(result.mean),
        "worst": {
            "frame": result.worst_frame,
            "time_s": result.worst_at if isinstance(result.worst_at, float) else None,
            "picture": result.worst_at if isinstance(result.worst_at, str) else None,
            **figures(result.worst),
        },
        "unmatched": {"reference": result.unmatched[0], "found": result.unmatched[1]},
        "notes": result.notes,
    }


def _table(result: Comparison) -> str:
    single = result.frames == 1
    what = f"{result.size} (height x width)" if single else f"{result.frames} frames of {result.size} (height x width)"
    lines = [
        f"{result.found} against {result.reference}, {what}",
        f"{'':<12}{'PSNR RGB':>12}{'PSNR Y':>12}{'SSIM Y':>10}",
    ]
    for name, figures in [("", result.mean)] if single else [("mean", result.mean), ("worst frame", result.worst)]:
        similarity = "-" if figures.ssim_y is None else f"{figures.ssim_y:.4f}"
        lines.append(f"{name:<12}{_decibels(figures.psnr_rgb_db)}{_decibels(figures.psnr_y_db)}{similarity:>10}")
    if not single:
        at = f"at {result.worst_at:.3f} s" if isinstance(result.worst_at, float) else result.worst_at
        lines.append(f"The worst is frame {result.worst_frame} of the original, counted from 0: {at}.")
        lines.append(
            f"{result.identical_frames} of {result.frames} frames are identical; in a mean each counts 100 dB."
        )
    return "\n".join(lines)


def _decibels(value: float) -> str:
    return f"{'infinite' if value == math.inf else f'{value:.2f} dB':>12}"
