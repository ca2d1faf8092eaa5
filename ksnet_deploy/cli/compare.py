"""The command that compares two versions. ``app.py`` adds it to the application."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Literal

import typer

from ksnet_deploy.base.errors import ConfigError
from ksnet_deploy.base.words import without_effect
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
        Literal["side-by-side", "wipe", "difference"] | None,
        typer.Option("--mode", help="How a video or a picture shows both (default: side-by-side)."),
    ] = None,
    gain: Annotated[
        float | None, typer.Option("--gain", help="What a difference is multiplied by (default: 8).")
    ] = None,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Measure PSNR and SSIM of one video, picture or folder of frames against another, and show both in one."""
    from ksnet_deploy.measure.compare import compare as compare_versions
    from ksnet_deploy.measure.layout import Layout

    _check_effect(output, mode, gain)
    usual = Layout()
    layout = Layout(mode or usual.mode, usual.gain if gain is None else gain)
    with progress("Comparing", show=not as_json) as bar:
        result = compare_versions(
            reference,
            found,
            output,
            layout,
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


def _check_effect(output: Path | None, mode: str | None, gain: float | None) -> None:
    """Raise ConfigError for an option that would have no effect."""
    given = [name for name, value in (("--mode", mode), ("--gain", gain)) if value is not None]
    if given and (output is None or output.suffix.lower() == ".html"):
        what = "figures alone" if output is None else "a page"
        raise ConfigError(f"{without_effect(given, what)}, or give a video or a .png with --output")
    if gain is not None and mode != "difference":
        raise ConfigError("--gain is of --mode difference; give both, or leave it out")
