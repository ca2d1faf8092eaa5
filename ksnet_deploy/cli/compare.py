"""The command that compares two versions. ``app.py`` adds it to the application."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Literal

import typer

from ksnet_deploy.cli.options import Json, Overwrite
from ksnet_deploy.cli.terminal import progress

__all__ = ["compare"]


def compare(
    reference: Annotated[Path, typer.Argument(help="The original: a video, a picture or a folder of frames.")],
    found: Annotated[Path, typer.Argument(help="What is measured against it, of the same kind.")],
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="Show both in an .html page, a video, or the worst frame in a .png (default: figures).",
        ),
    ] = None,
    source: Annotated[
        Path | None,
        typer.Option("--source", help="What the second was made from: shown and measured too, by bicubic."),
    ] = None,
    mode: Annotated[
        Literal["side-by-side", "wipe", "difference"], typer.Option("--mode", help="How the output shows both.")
    ] = "side-by-side",
    gain: Annotated[float, typer.Option("--gain", help="What a difference is multiplied by.")] = 8.0,
    overwrite: Overwrite = False,
    as_json: Json = False,
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
            source=source,
            overwrite=overwrite,
            on_start=lambda size, frames: bar.begin(str(size), frames),
            on_frame=bar.advance,
        )
    if as_json:
        print(json.dumps(result.as_dict()))
        return
    print(result.as_text())
    for note in result.notes:
        print(note)
    if result.target is not None:
        print(result.target)
