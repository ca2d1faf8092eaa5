"""Frames to folders of pictures and pipes: the stages of ``pipeline.py`` without a file, tracks or a journal."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

from ksnet_deploy.errors import OutputError
from ksnet_deploy.inputs import RESULT_SUFFIX
from ksnet_deploy.pipeline import Network
from ksnet_deploy.planning import Plan, first_frame_read, frame_dtype
from ksnet_deploy.result import Events, UpscaleResult, notes_on
from ksnet_deploy.scenes import CutDetector, SceneDetector
from ksnet_deploy.stages import run_stages
from ksnet_deploy.upscaler import Upscaler
from ksnet_deploy.video import PIPE, PictureFolder, VideoReader, Y4mPipe, picture_files
from ksnet_deploy.video.sinks import FrameSink

__all__ = ["is_stream", "upscale_frames"]


def is_stream(source: Path, target: Path | None) -> bool:
    """Whether the target is no video file: a pipe, or a folder of pictures."""
    of_frames = str(source) == PIPE or source.is_dir()
    if target is None or target.is_dir():
        return of_frames
    return str(target) == PIPE or not target.suffix


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

    Args:
        upscaler: a new one, which is closed in the end; None for the bundled network that suits the CPU.
        source, start_s, end_s, rate: as :class:`ksnet_deploy.video.VideoReader` takes them.
        target: a new folder, or ``-`` for YUV4MPEG on standard output; an existing folder for ``name_x4`` in it; None
            for ``-`` where the source is one, else ``name_x4`` beside the source.

    Raises:
        InputError: the source cannot be read.
        OutputError: the folder exists already, or cannot be written.
    """
    upscaler, events, detector = upscaler or Upscaler(), events or Events(), detector or SceneDetector()
    with VideoReader(source, start_s, end_s, rate=rate) as reader, upscaler:
        if target is None:
            target = Path(PIPE) if reader.is_pipe else source.with_name(f"{source.stem}{RESULT_SUFFIX}")
        elif target.is_dir() and not (target == source or overwrite):
            target = target / f"{source.stem}{RESULT_SUFFIX}"
        if str(target) != PIPE:
            _check_folder(source, target, overwrite=overwrite)
        frames = first_frame_read(reader)
        runner = upscaler.open(reader.size, frame_dtype(reader))
        events.on_start(reader.size, reader.estimated_frames, 0)
        sink: FrameSink
        if str(target) == PIPE:
            sink = Y4mPipe(reader, reader.size.upscaled)
        else:
            names = [path.stem for path in picture_files(source)] if reader.is_folder and not reader.is_part else None
            sink = PictureFolder(target, names)
        plan = Plan(detector, reader.time_base)
        try:
            times = run_stages(
                plan.of(frames, 0),
                Network(upscaler, {}, events.on_frame),
                lambda upscaled: sink.write(upscaled.frame),
                finish=sink.finish,
            )
        except BaseException:
            sink.abort()
            raise
        arguments: dict[str, Any] = plan.summary() | upscaler.summary()
        return UpscaleResult(
            target=target,
            size=reader.size.upscaled,
            frames_lost=reader.frames_lost,
            resumed_frames=0,
            times=times,
            pixel_format=sink.pixel_format,
            notes=notes_on(reader, 10 if reader.depth > 8 else 8, runner.io),
            **arguments,
        )


def _check_folder(source: Path, target: Path, *, overwrite: bool) -> None:
    if target.exists() and target.resolve() == source.resolve():
        raise OutputError(f"{target} is the source itself; give another name for the output")
    if target.is_file():
        raise OutputError(f"{target} is a file; give the name of a folder, or of a .mp4, .mov or .mkv file")
    if target.is_dir() and any(target.iterdir()) and not overwrite:
        raise OutputError(f"{target} already holds files; pass --overwrite to replace the folder, or another name")
    if not target.parent.is_dir():
        raise OutputError(f"the folder {target.parent} does not exist; make it first, or give another name")
