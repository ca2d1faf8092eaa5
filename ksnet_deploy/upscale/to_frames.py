"""Frames to a picture, a folder of PNG files or a YUV4MPEG pipe: ``to_video.py`` without tracks or a journal."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

from ksnet_deploy.base.errors import OutputError
from ksnet_deploy.base.frames import FrameSize
from ksnet_deploy.base.hidden import hidden_name
from ksnet_deploy.base.locks import Lock, being_written
from ksnet_deploy.upscale.network_stage import NetworkStage
from ksnet_deploy.upscale.output import check_target
from ksnet_deploy.upscale.plan import FramePlan
from ksnet_deploy.upscale.prepare import first_frame_read, frame_dtype, output_size, tell_windows
from ksnet_deploy.upscale.result import Events, UpscaleResult, notes_on
from ksnet_deploy.upscale.side_by_side import several_at_once
from ksnet_deploy.upscale.stages import run_stages
from ksnet_deploy.upscale.upscaler import Upscaler
from ksnet_deploy.upscale.work import Work
from ksnet_deploy.video.conversion import resized
from ksnet_deploy.video.orientation import DisplayMatrix
from ksnet_deploy.video.reading.reader import Frame, VideoReader
from ksnet_deploy.video.reading.sources import picture_files
from ksnet_deploy.video.reading.stills import has_colour_profile, is_picture
from ksnet_deploy.video.writing.sinks import (
    FrameSink,
    PictureFile,
    PictureFolder,
    Y4mPipe,
    check_new_folder,
    check_standard_output,
)

__all__ = ["write_frames"]


def write_frames(work: Work, upscaler: Upscaler, events: Events) -> UpscaleResult:
    """Upscale frames into a picture, a folder of PNG files or a pipe; see
    :func:`ksnet_deploy.upscale.run.upscale_video`.

    A picture or a folder appears under its name when it is complete, and what interrupts the work leaves none. Until
    then an older one stays; a folder is replaced where it holds nothing but ``.png`` files. Pictures of a folder are
    named as those that they come from, or by their numbers from 0. The upscaler is a new one, and is closed in the end.

    Raises:
        InputError: the source cannot be read.
        ConfigError: several scenes are to go side by side, whose frames come in no order.
        OutputError: the folder exists already, may not be replaced, or cannot be written.
    """
    target, kind = work.destination.path, work.destination.kind
    if upscaler.scenes_in_flight > 1:
        raise several_at_once(upscaler.scenes_in_flight)
    with ExitStack() as locks, VideoReader(work.source) as reader, upscaler:
        if kind == "picture":
            check_target(reader, target, overwrite=work.overwrite)
        elif kind == "pictures":
            _check_folder(reader, target, overwrite=work.overwrite)
            locks.enter_context(_locked(target))
        else:
            check_standard_output()
        frames = first_frame_read(reader)
        upright = reader.size if reader.display is None else reader.display.upright_size(reader.size)
        size = output_size(upright, work, even=kind == "pipe")
        runner = upscaler.open(reader.size, frame_dtype(reader))
        if kind != "picture":
            tell_windows(reader, upscaler.network, upscaler.windows, events, upscaler.tiling)
        events.on_start(reader.size, reader.estimated_frames, 0)
        sink: FrameSink
        if kind == "pipe":
            sink = Y4mPipe(reader, size)
        elif kind == "picture":
            sink = PictureFile(target, grey=reader.is_grey, overwrite=work.overwrite)
        else:
            sink = PictureFolder(target, _names(reader), overwrite=work.overwrite)
        plan = FramePlan(work.detector, reader.time_base, window=upscaler.windows.frames)
        network = NetworkStage(upscaler, events)
        try:
            times = run_stages(
                plan.of(frames),
                network,
                lambda upscaled: sink.write(_shown(upscaled.frame, reader.display, size)),
                flush=network.flush,
                finish=sink.finish,
            )
        except BaseException:
            sink.abort()
            raise
        arguments: dict[str, Any] = plan.summary() | upscaler.summary()
        return UpscaleResult(
            target=target,
            size=size,
            frames_lost=reader.frames_lost,
            resumed_frames=0,
            times=times,
            pixel_format=sink.pixel_format,
            precision=upscaler.precision,
            notes=[
                *notes_on(reader, sink.depth, runner.io, tagged=False),
                *_display_notes(reader.display),
                *_profile_notes(reader),
            ],
            **arguments,
        )


def _shown(frame: Frame, display: DisplayMatrix | None, size: FrameSize) -> Frame:
    """The frame as it is to be shown, because neither a picture nor YUV4MPEG says how, and of the size asked for."""
    return replace(frame, rgb=resized(frame.rgb if display is None else display.upright(frame.rgb), size))


def _display_notes(display: DisplayMatrix | None) -> list[str]:
    if display is None or display.turns is not None:
        return []
    return ["The source is shown changed in a way that is no turn or mirror; the frames are as they are stored."]


def _profile_notes(reader: VideoReader) -> list[str]:
    source = reader.source
    first = source.path if source.kind == "file" else None if source.kind == "pipe" else picture_files(source.path)[0]
    if first is None or not has_colour_profile(first):
        return []
    return ["The source's colour profile is not in the output; what is not sRGB will look different."]


def _locked(target: Path) -> Lock:
    """The lock on a folder to be. Raises OutputError where another process is at it, or it cannot be written."""
    try:
        return Lock(target.with_name(hidden_name(target.name, ".lock")), being_written(target))
    except OSError as error:
        raise OutputError(
            f"the folder {target} cannot be made ({error.strerror}); choose another with --output"
        ) from error


def _check_folder(reader: VideoReader, target: Path, *, overwrite: bool) -> None:
    if reader.source.kind != "pipe" and target.exists():
        source, place = reader.path.resolve(), target.resolve()
        if source.is_relative_to(place):
            what = "is the source itself" if source == place else f"holds the source {reader.path}"
            raise OutputError(f"{target} {what}; give another name for the output")
    check_new_folder(target, overwrite=overwrite)
    if not target.parent.is_dir():
        raise OutputError(f"the folder {target.parent} does not exist; make it first, or give another name")


def _names(reader: VideoReader) -> list[str] | None:
    """Names of the pictures that a folder holds from the start on, by their places; None where frames have no names."""
    if is_picture(reader.source):
        return [reader.source.stem]
    if reader.source.kind != "folder":
        return None
    first = int((reader.source.start_s or 0) // reader.time_base)  # which has time zero then
    return [path.stem for path in picture_files(reader.path)][first:]
