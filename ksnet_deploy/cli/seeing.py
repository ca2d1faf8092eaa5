"""The commands that show pictures: preview and visualize. ``app.py`` adds them to the application."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ksnet_deploy.cli.options import Json, Overwrite
from ksnet_deploy.cli.terminal import progress

if TYPE_CHECKING:
    from ksnet_deploy.measure.inspection.report import Inspection
    from ksnet_deploy.measure.preview.report import Preview

__all__ = ["preview", "visualize"]


def preview(
    video: Annotated[Path, typer.Argument(help="A video or a folder of frames.")],
    models: Annotated[
        str | None,
        typer.Option(
            "--models", "-m", metavar="NAMES", help="lite,uni,net.pth ... (default: lite or uni, and lite-video)."
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FILE", help=".html, .png beside it (default: NAME_preview)."),
    ] = None,
    spots: Annotated[int, typer.Option("--spots", help="Frames to show.", min=1, max=12)] = 4,
    before: Annotated[int, typer.Option("--before", help="Frames the networks see before each.", min=0, max=100)] = 8,
    start: Annotated[str | None, typer.Option("--start", metavar="TIME", help="Look from there: 90 or 1:30.")] = None,
    end: Annotated[str | None, typer.Option("--end", metavar="TIME", help="Look until there.")] = None,
    device: Annotated[
        str | None, typer.Option("--device", metavar="NAME", help="cpu or cuda (default: a GPU if there is one).")
    ] = None,
    runtime: Annotated[
        str | None, typer.Option("--runtime", metavar="NAME", help="As upscale takes it (default: the fastest).")
    ] = None,
    precision: Annotated[
        str | None,
        typer.Option("--precision", metavar="NAME", help="fp32 or int8, on a CPU (default: auto)."),
    ] = None,
    whole_frames: Annotated[bool, typer.Option("--whole-frames", help="Whole frames, however long it takes.")] = False,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Show a few frames of a film by several networks, in one page and one picture, and what all of it would take."""
    from ksnet_deploy.base.hidden import fitting_name
    from ksnet_deploy.measure.preview.run import preview as make_preview
    from ksnet_deploy.video.kinds import Source

    target = output or video.parent / fitting_name(Source(video).stem, "_preview.html")
    with progress("Preview", show=not as_json) as bar:
        result = make_preview(
            video,
            models,
            target,
            spots=spots,
            before=before,
            start_s=start,
            end_s=end,
            runtime=runtime,
            device=device,
            precision=precision,
            whole_frames=whole_frames,
            overwrite=overwrite,
            on_phase=bar.begin,
            on_step=bar.advance,
            on_note=bar.say,
        )
    _print(result, as_json)


def visualize(
    video: Annotated[Path, typer.Argument(help="A video or a folder of frames.")],
    at: Annotated[str, typer.Option("--at", metavar="TIME", help="The frame to look at: 12.5 or 1:30.")] = "0",
    model: Annotated[str, typer.Option("--model", "-m", metavar="NAME", help="A bundled name, or a file.")] = "uni",
    frames: Annotated[int, typer.Option("--frames", help="The part: that frame and those before.", min=1)] = 12,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FILE", help=".html, .png beside it (default: NAME_inside)."),
    ] = None,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Show what a network looks at: flow, gradient maps, and the channels that it keeps and passes on."""
    from ksnet_deploy.base.hidden import fitting_name
    from ksnet_deploy.measure.inspection.run import visualize as look_inside
    from ksnet_deploy.video.kinds import Source

    target = output or video.parent / fitting_name(Source(video).stem, "_inside.html")
    with progress("Visualize", show=not as_json) as bar:
        result = look_inside(video, model, target, at_s=at, frames=frames, overwrite=overwrite, on_phase=bar.begin)
    _print(result, as_json)


def _print(result: Preview | Inspection, as_json: bool) -> None:
    """Print a result, and the names of its files."""
    if as_json:
        print(json.dumps(result.as_dict()))
        return
    print(result.as_text())
    for path in result.outputs:
        print(path)
