"""The command that the others are for: upscale. ``app.py`` adds it to the application."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from ksnet_deploy.base.errors import ConfigError
from ksnet_deploy.base.words import counted
from ksnet_deploy.cli.options import Command
from ksnet_deploy.cli.terminal import Progress, progress

if TYPE_CHECKING:
    from ksnet_deploy.cli.answers import Answer

__all__ = ["UpscaleCommand", "upscale"]

EXIT_FAILED, EXIT_INCOMPLETE = 1, 3


ADVANCED = "Advanced"
"""Group of the rarer options in the help."""


HERE = "local"
"""Word for a cluster that is started on this machine."""
ADDRESS = re.compile(rf"{HERE}|auto|[^/\\]+:[0-9]+")


class UpscaleCommand(Command):
    """The command, whose ``--cluster`` may stand alone: what follows is its value only where it is an address."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        end = args.index("--") if "--" in args else len(args)
        for place in (place for place in range(end) if args[place] == "--cluster"):
            if place + 1 >= end or not ADDRESS.fullmatch(args[place + 1]):
                args[place] = f"--cluster={HERE}"
        return super().parse_args(ctx, args)


def upscale(
    inputs: Annotated[list[str], typer.Argument(metavar="FILE|FOLDER|-", hidden=True)],
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="PATH", help="File, folder, or - (default: NAME_x4)."),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option("--model", "-m", metavar="NAME", help="lite, uni, a file (default: by the source)."),
    ] = None,
    start: Annotated[
        str | None, typer.Option("--start", metavar="TIME", help="Begin at 90 or 1:30; with --end TIME.")
    ] = None,
    end: Annotated[str | None, typer.Option("--end", metavar="TIME", hidden=True, help="Stop there.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say how long it takes and how large.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing output.")] = False,
    skip_existing: Annotated[bool, typer.Option("--skip-existing", help="Leave out videos that are done.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    codec: Annotated[
        str | None,
        typer.Option("--codec", metavar="NAME", help="hevc, av1, vp9, prores ... (default: h264)."),
    ] = None,
    crf: Annotated[
        int | None,
        typer.Option("--crf", metavar="N", help="Quality on the encoder's scale, from 0."),
    ] = None,
    preset: Annotated[
        str | None,
        typer.Option("--preset", metavar="NAME", help="Encoder's speed, as slow."),
    ] = None,
    pixel_format: Annotated[
        str | None,
        typer.Option("--pixel-format", metavar="NAME", help="As yuv444p (default: the source's)."),
    ] = None,
    target: Annotated[
        str | None,
        typer.Option("--target", metavar="HEIGHT", help="Resize to 1080p, 4k ..."),
    ] = None,
    scale: Annotated[
        str | None,
        typer.Option("--scale", metavar="N", help="2 or 3 times as large (default: 4)."),
    ] = None,
    tracks: Annotated[
        Literal["copy", "convert", "drop"] | None,
        typer.Option("--tracks", metavar="HOW", help="Sound ...: copy, drop (default: convert)."),
    ] = None,
    fps: Annotated[
        str | None,
        typer.Option("--fps", metavar="RATE", help="Of a folder of frames (default: 25)."),
    ] = None,
    device: Annotated[
        str | None,
        typer.Option("--device", metavar="NAME", help="cpu or cuda (default: auto).", rich_help_panel=ADVANCED),
    ] = None,
    runtime: Annotated[
        str | None,
        typer.Option("--runtime", metavar="NAME", help="As torch; --precision int8.", rich_help_panel=ADVANCED),
    ] = None,
    precision: Annotated[
        str | None,
        typer.Option("--precision", metavar="NAME", hidden=True, help="fp32 or int8, on a CPU (default: auto)."),
    ] = None,
    backend: Annotated[str | None, typer.Option("--backend", hidden=True, help="Older name of --runtime.")] = None,
    tiles: Annotated[
        str,
        typer.Option(
            "--tiles",
            show_default=False,
            metavar="HxW",
            help="Or off (default: auto).",
            rich_help_panel=ADVANCED,
        ),
    ] = "auto",
    window: Annotated[
        int | None,
        typer.Option("--window", metavar="N", help="Of bi, with --look-ahead N.", rich_help_panel=ADVANCED),
    ] = None,
    look_ahead: Annotated[
        int | None,
        typer.Option("--look-ahead", metavar="N", hidden=True, help="Frames seen after a window (default: 8)."),
    ] = None,
    cuts: Annotated[
        Path | None,
        typer.Option("--cuts", metavar="FILE", help="Frame numbers of scene cuts.", rich_help_panel=ADVANCED),
    ] = None,
    scene_reset: Annotated[
        bool,
        typer.Option(
            "--scene-reset/--no-scene-reset",
            help="Reset at cuts (default: yes).",
            show_default=False,
            rich_help_panel=ADVANCED,
        ),
    ] = True,
    resume: Annotated[
        bool,
        typer.Option(
            "--resume/--no-resume",
            help="Resume a job (default: yes).",
            show_default=False,
            rich_help_panel=ADVANCED,
        ),
    ] = True,
    keep_partial: Annotated[
        bool,
        typer.Option("--keep-partial", help="On Ctrl-C leave what is done.", rich_help_panel=ADVANCED),
    ] = False,
    scenes_in_flight: Annotated[
        int,
        typer.Option("--scenes-in-flight", metavar="N", hidden=True, help="Scenes as one batch (default: 1)."),
    ] = 1,
    cluster: Annotated[
        str | None,
        typer.Option(
            "--cluster",
            metavar="ADDR",
            help="Many workers, or --workers N.",
            rich_help_panel=ADVANCED,
        ),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option("--workers", metavar="N", hidden=True, help="How many (default: all)."),
    ] = None,
    shared_source: Annotated[
        bool,
        typer.Option("--shared-source", hidden=True, help="Workers open the video themselves."),
    ] = False,
    report: Annotated[
        Path | None,
        typer.Option("--report", metavar="FILE", help="Write what was done as JSON.", rich_help_panel=ADVANCED),
    ] = None,
    progress_as: Annotated[
        Literal["bar", "json", "none"],
        typer.Option(
            "--progress", metavar="HOW", help="json, none (default: bar).", show_default=False, rich_help_panel=ADVANCED
        ),
    ] = "bar",
) -> None:
    """Upscale videos, pictures, folders of either, or a y4m pipe four times."""
    from ksnet_deploy.cli.answers import Failed, begin_report, write_report
    from ksnet_deploy.cli.batch import Batch
    from ksnet_deploy.cli.inputs import find_videos
    from ksnet_deploy.cli.together import upscale_together
    from ksnet_deploy.upscale.ladder import Choices
    from ksnet_deploy.upscale.values import parse_height, parse_rate, parse_scale, parse_tiles, parse_time
    from ksnet_deploy.video.kinds import DEFAULT_RATE, Source

    batch = Batch(
        output=output,
        model=model,
        choices=Choices.of(runtime, device, backend, precision),
        codec=codec,
        crf=crf,
        preset=preset,
        pixel_format=pixel_format,
        height=None if target is None else parse_height(target),
        scale=None if scale is None else parse_scale(scale),
        rate_given=fps is not None,
        tiles=parse_tiles(tiles),
        window=window,
        look_ahead=look_ahead,
        tracks=tracks,
        cuts=cuts,
        scene_reset=scene_reset,
        resume=resume,
        keep_partial=keep_partial,
        overwrite=overwrite,
        skip_existing=skip_existing,
        dry_run=dry_run,
        scenes_in_flight=scenes_in_flight,
        shared_source=shared_source,
    )
    start_s, end_s = (None if moment is None else parse_time(moment) for moment in (start, end))
    rate = DEFAULT_RATE if fps is None else parse_rate(fps)
    notes: list[str] = []
    sources = [Source(path, start_s, end_s, rate) for path in find_videos(inputs, notes.append)]
    batch.check(sources)
    if cluster is None and (workers is not None or shared_source):
        name = "--shared-source" if workers is None else "--workers"
        raise ConfigError(f"{name} is of --cluster; give both, or leave it out")
    if workers is not None and workers < 1:
        raise ConfigError(f"{workers} workers upscale nothing; give 1 or more")
    if scenes_in_flight != 1 and cluster is not None:
        raise ConfigError("a worker of a cluster takes one scene at a time; leave --scenes-in-flight or --cluster out")
    if dry_run and cluster is not None:
        raise ConfigError("--dry-run measures this machine alone; leave --cluster out")
    answers: list[Answer] = []
    held: AbstractContextManager[object] = (
        nullcontext() if report is None else begin_report(report, overwrite=overwrite)
    )
    style = "none" if as_json and progress_as == "bar" else progress_as
    with held, progress("Upscaling", style=style) as bar:
        raises = len(sources) == 1 and style != "json"
        for note in notes:
            bar.say(note)

        def take(answer: Answer) -> None:
            answers.append(answer)
            if not as_json and not (raises and isinstance(answer.outcome, Failed)):
                (bar.say if answer.went_to_pipe else bar.say_result)(answer.as_text())

        try:
            if cluster is None:
                for source in sources:
                    batch.attempt(source, bar, take, raises=raises)
            else:
                address = None if cluster == HERE else cluster
                upscale_together(batch, sources, bar, take, address=address, workers=workers, raises=raises)
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
            upscaled = counted(answer.outcome.frames, "was", "were")
            bar.complain(
                f"{answer.video} is damaged: {counted(answer.frames_lost, 'frame')} could not be decoded, {upscaled} "
                f"upscaled to {answer.outcome.target}; get an intact copy of the video to have the rest"
            )
    failed = sum(isinstance(answer.outcome, Failed) for answer in answers)
    if failed:
        if len(answers) > 1:
            bar.complain(f"{failed} of {len(answers)} inputs failed, each for the reason above")
        raise typer.Exit(EXIT_FAILED)
    if any(answer.frames_lost for answer in answers):
        raise typer.Exit(EXIT_INCOMPLETE)
