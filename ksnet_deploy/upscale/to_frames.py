"""Frames to folders of pictures and pipes: the stages of ``pipeline.py`` without a file, tracks or a journal."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

from ksnet_deploy.base.errors import OutputError
from ksnet_deploy.upscale.output import RESULT_SUFFIX
from ksnet_deploy.upscale.plan import Plan
from ksnet_deploy.upscale.prepare import first_frame_read, frame_dtype
from ksnet_deploy.upscale.result import Events, UpscaleResult, notes_on
from ksnet_deploy.upscale.scenes import CutDetector, SceneDetector
from ksnet_deploy.upscale.stages import run_stages
from ksnet_deploy.upscale.to_video import Network
from ksnet_deploy.upscale.upscaler import Upscaler
from ksnet_deploy.video.kinds import PIPE, is_folder
from ksnet_deploy.video.orientation import DisplayMatrix
from ksnet_deploy.video.reading.reader import Frame, VideoReader
from ksnet_deploy.video.reading.sources import picture_files
from ksnet_deploy.video.writing.sinks import FrameSink, PictureFolder, Y4mPipe, check_new_folder

__all__ = ["frames_target", "is_stream", "upscale_frames"]


def is_stream(source: Path, target: Path | None) -> bool:
    """Whether the target is no video file: a pipe, or a folder of pictures."""
    if str(target) == PIPE:
        return True
    if target is None or target.is_dir():
        return str(source) == PIPE or is_folder(source)
    return not target.suffix


def upscale_frames(
    source: Path,
    target: Path | None,
    upscaler: Upscaler | None = None,
    *,
    detector: CutDetector | None = None,
    start_s: Fraction | None = None,
    end_s: Fraction | None = None,
    rate: Fraction = Fraction(25),
    overwrite: bool = False,
    events: Events | None = None,
) -> UpscaleResult:
    """Upscale the frames of a video, a folder of pictures or a pipe into a folder of PNG files or a pipe.

    Unlike a job of :func:`ksnet_deploy.upscale.to_video.upscale_video` this cannot be resumed: a folder appears
    under its name when it is complete, and what interrupts the work leaves none. Until then an older folder stays.

    Args:
        upscaler: a new one, which is closed in the end; None for the bundled network that suits the CPU.
        source, start_s, end_s, rate: as :class:`ksnet_deploy.video.reading.reader.VideoReader` takes them.
        target: a new folder, or ``-`` for YUV4MPEG on standard output; an existing folder for ``name_x4`` in it; None
            for ``-`` where the source is one, else ``name_x4`` beside the source. Pictures are named as in the folder
            that they come from, or by their numbers from 0.
        overwrite: replace a folder of that name that holds nothing but ``.png`` files.

    Raises:
        InputError: the source cannot be read.
        OutputError: the folder exists already, may not be replaced, or cannot be written.
    """
    upscaler, events, detector = upscaler or Upscaler(), events or Events(), detector or SceneDetector()
    with VideoReader(source, start_s, end_s, rate=rate) as reader, upscaler:
        target = frames_target(source, target)
        if str(target) != PIPE:
            _check_target(reader, target, overwrite=overwrite)
        frames = first_frame_read(reader)
        runner = upscaler.open(reader.size, frame_dtype(reader))
        events.on_start(reader.size, reader.estimated_frames, 0)
        size = reader.size.upscaled if reader.display is None else reader.display.upright_size(reader.size.upscaled)
        sink: FrameSink
        if str(target) == PIPE:
            sink = Y4mPipe(reader, size)
        else:
            sink = PictureFolder(target, _names(reader, start_s), overwrite=overwrite)
        plan = Plan(detector, reader.time_base)
        try:
            times = run_stages(
                plan.of(frames, 0),
                Network(upscaler, {}, events.on_frame),
                lambda upscaled: sink.write(_upright(upscaled.frame, reader.display)),
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
            notes=notes_on(reader, sink.depth, runner.io) + _display_notes(reader.display),
            **arguments,
        )


def _upright(frame: Frame, display: DisplayMatrix | None) -> Frame:
    """The frame as it is to be shown, because neither a picture nor YUV4MPEG says how."""
    return frame if display is None else replace(frame, rgb=display.upright(frame.rgb))


def _display_notes(display: DisplayMatrix | None) -> list[str]:
    if display is None or display.turns is not None:
        return []
    return ["The source is shown turned by no quarter turn; the frames are as they are stored."]


def frames_target(source: Path, target: Path | None) -> Path:
    """Where :func:`upscale_frames` writes: the given place, or a folder named after the source, beside it or in it."""
    if str(target) == PIPE or (target is None and str(source) == PIPE):
        return Path(PIPE)
    source = source if source.name not in ("", "..") else source.resolve()
    name = f"{source.name if is_folder(source) else source.stem}{RESULT_SUFFIX}"
    if target is None:
        return source.with_name(name)
    return target / name if target.is_dir() else target


def _check_target(reader: VideoReader, target: Path, *, overwrite: bool) -> None:
    if not reader.is_pipe and target.exists():
        source, place = reader.path.resolve(), target.resolve()
        if source.is_relative_to(place):
            what = "is the source itself" if source == place else f"holds the source {reader.path}"
            raise OutputError(f"{target} {what}; give another name for the output")
    check_new_folder(target, overwrite=overwrite)
    if not target.parent.is_dir():
        raise OutputError(f"the folder {target.parent} does not exist; make it first, or give another name")


def _names(reader: VideoReader, start_s: Fraction | None) -> list[str] | None:
    """Of the pictures that a folder holds from the start on, by their places; None where frames have no names."""
    if not reader.is_folder:
        return None
    first = int((start_s or 0) // reader.time_base)  # which has time zero then
    return [path.stem for path in picture_files(reader.path)][first:]
