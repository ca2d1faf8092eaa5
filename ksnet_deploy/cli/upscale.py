"""The command that the others are for: upscale. ``cli.py`` adds it to the application."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from ksnet_deploy.base.errors import KSNetError
from ksnet_deploy.cli.terminal import Progress, progress

if TYPE_CHECKING:
    from ksnet_deploy.cli.answers import Answer

__all__ = ["upscale"]

EXIT_FAILED, EXIT_INCOMPLETE = 1, 3


def upscale(
    inputs: Annotated[
        list[str], typer.Argument(help="Videos, folders of videos or frames, patterns; - for y4m.", metavar="VIDEO...")
    ],
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="A video, a folder (of videos, or PNG frames if new), or - for y4m."),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            "--model", "-m", help="A checkpoint, .onnx or .engine, 'uni' or 'lite'; lite on a CPU, uni on a GPU."
        ),
    ] = None,
    backend: Annotated[
        Literal["onnxruntime", "torch"] | None,
        typer.Option("--backend", help="What runs a checkpoint; ONNX Runtime unless told."),
    ] = None,
    device: Annotated[
        Literal["cpu", "cuda"] | None, typer.Option("--device", help="Where the network runs; the CPU unless told.")
    ] = None,
    codec: Annotated[
        str | None,
        typer.Option("--codec", help="h264 (unless told), hevc, vp9, av1, prores, ffv1, or any FFmpeg encoder."),
    ] = None,
    crf: Annotated[int | None, typer.Option("--crf", help="Constant quality, on the encoder's scale.", min=0)] = None,
    preset: Annotated[str | None, typer.Option("--preset", help="Encoder preset, for example slow.")] = None,
    pixel_format: Annotated[
        str | None,
        typer.Option(
            "--pixel-format",
            help="FFmpeg's, for example yuv444p (default: depth and chroma of the source, 4:2:0 of RGB).",
        ),
    ] = None,
    target: Annotated[
        str | None, typer.Option("--target", help="Resize to a height, for example 1080p, from four times the size.")
    ] = None,
    fps: Annotated[
        str | None, typer.Option("--fps", help="Of a folder of frames: 25 unless told, for example 24000/1001.")
    ] = None,
    start: Annotated[str | None, typer.Option("--start", help="Begin there: seconds or [H:]M:S.")] = None,
    end: Annotated[str | None, typer.Option("--end", help="Stop there.")] = None,
    tiles: Annotated[
        str,
        typer.Option("--tiles", help="Largest tiles of a frame, for example 270x480; 'auto' as memory allows; 'off'."),
    ] = "auto",
    tracks: Annotated[
        Literal["copy", "convert", "drop"] | None,
        typer.Option(
            "--tracks",
            help="Sound, subtitles, attachments: copy all or refuse; convert what the output cannot hold, or leave it "
            "out; drop all (default: convert).",
        ),
    ] = None,
    cuts: Annotated[
        Path | None, typer.Option("--cuts", help="File of scene cuts, a frame number a line, instead of detection.")
    ] = None,
    scene_reset: Annotated[
        bool, typer.Option("--scene-reset/--no-scene-reset", help="Let the network forget the past at scene cuts.")
    ] = True,
    resume: Annotated[
        bool, typer.Option("--resume/--no-resume", help="Go on with an unfinished job, and keep this one if it fails.")
    ] = True,
    keep_partial: Annotated[
        bool,
        typer.Option("--keep-partial", help="On Ctrl-C or a broken source, leave what is finished, as NAME.partial."),
    ] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing output.")] = False,
    skip_existing: Annotated[bool, typer.Option("--skip-existing", help="Leave out videos that are done.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check everything, and say from a few frames how long it takes.")
    ] = False,
    report: Annotated[Path | None, typer.Option("--report", help="Write what was done to a .json file.")] = None,
    progress_as: Annotated[
        Literal["bar", "json", "none"], typer.Option("--progress", help="json: one object a line on standard error.")
    ] = "bar",
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead of text.")] = False,
) -> None:
    """Upscale videos four times in width and height, with their sound, subtitles and timestamps."""
    from ksnet_deploy.cli.answers import Answer, Failed, begin_report, write_report
    from ksnet_deploy.cli.batch import Batch
    from ksnet_deploy.cli.inputs import find_videos
    from ksnet_deploy.upscale.values import parse_height, parse_rate, parse_tiles, parse_time
    from ksnet_deploy.video.kinds import DEFAULT_RATE, Source

    batch = Batch(
        output=output,
        model=model,
        backend=backend,
        device=device,
        codec=codec,
        crf=crf,
        preset=preset,
        pixel_format=pixel_format,
        height=None if target is None else parse_height(target),
        rate_given=fps is not None,
        tiles=parse_tiles(tiles),
        tracks=tracks,
        cuts=cuts,
        scene_reset=scene_reset,
        resume=resume,
        keep_partial=keep_partial,
        overwrite=overwrite,
        skip_existing=skip_existing,
        dry_run=dry_run,
    )
    start_s, end_s = (None if moment is None else parse_time(moment) for moment in (start, end))
    rate = DEFAULT_RATE if fps is None else parse_rate(fps)
    sources = [Source(path, start_s, end_s, rate) for path in find_videos(inputs)]
    batch.check(sources)
    answers: list[Answer] = []
    if report is not None:
        begin_report(report, overwrite=overwrite)
    style = "none" if as_json and progress_as == "bar" else progress_as
    with progress("Upscaling", style=style) as bar:
        try:
            for source in sources:
                try:
                    answers.append(batch.upscale(source, bar))
                except (KSNetError, OSError, MemoryError) as error:
                    answers.append(Answer(source.path, Failed(str(error) or type(error).__name__)))
                    if len(sources) == 1 and style != "json":
                        raise
                    bar.complain(str(error) or type(error).__name__)
                if not as_json:
                    (bar.say if answers[-1].went_to_pipe else bar.say_result)(answers[-1].as_text())
        finally:
            if report is not None:
                write_report(report, answers)
    if as_json and not any(answer.went_to_pipe for answer in answers):
        found = [answer.as_dict() for answer in answers]
        print(json.dumps(found[0] if len(found) == 1 else {"videos": found}))
    _leave(answers, bar)


def _leave(answers: Sequence[Answer], bar: Progress) -> None:
    """End with the exit code that says what came of it all."""
    from ksnet_deploy.cli.answers import Failed
    from ksnet_deploy.upscale.result import UpscaleResult

    for answer in answers:
        if isinstance(answer.outcome, UpscaleResult) and answer.frames_lost:
            bar.complain(
                f"{answer.video} is damaged: {answer.frames_lost} frames could not be decoded, "
                f"{answer.outcome.frames} were upscaled to {answer.outcome.target}; get an intact copy of the video to "
                "have the rest"
            )
    failed = sum(isinstance(answer.outcome, Failed) for answer in answers)
    if failed:
        if len(answers) > 1:
            bar.complain(f"{failed} of {len(answers)} videos failed, each for the reason above")
        raise typer.Exit(EXIT_FAILED)
    if any(answer.frames_lost for answer in answers):
        raise typer.Exit(EXIT_INCOMPLETE)
