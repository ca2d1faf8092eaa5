"""One pass over a video: decode, super-resolve, encode, with the other tracks copied."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from ksnet_deploy.config import FrameSize
from ksnet_deploy.errors import InputError, OutputError
from ksnet_deploy.files import replacing, temporary_beside
from ksnet_deploy.padding import crop, pad
from ksnet_deploy.runtime.base import Runner
from ksnet_deploy.video import (
    CopiedPacket,
    Frame,
    VideoReader,
    VideoWriter,
    check_encoder,
    container_problem,
    fitting_suffixes,
)

__all__ = ["EncoderSettings", "UpscaleResult", "upscale_video"]

OpenRunner = Callable[[FrameSize], Runner]
"""Gives a uint8 runner for LR frames of a size."""


@dataclass(frozen=True)
class EncoderSettings:
    """How the output video is compressed."""

    codec: str = "libx264"
    """Name of an FFmpeg encoder."""
    crf: int | None = None
    """Constant quality, lower is better and larger; None for 18 with libx264, else the encoder's default."""
    preset: str | None = None
    """The encoder's trade of speed for size; None for its default."""

    @property
    def options(self) -> dict[str, str]:
        crf = 18 if self.crf is None and self.codec == "libx264" else self.crf
        options = {"crf": crf, "preset": self.preset}
        return {name: str(value) for name, value in options.items() if value is not None}


@dataclass(frozen=True)
class UpscaleResult:
    """What was done."""

    target: Path
    size: FrameSize
    """Of the output frames."""
    frames: int
    frames_lost: int
    """Frames that the source announces and that could not be decoded."""
    seconds: float
    """From the first step to the finished file; opening the network is not in it."""
    step_seconds: float
    """Of these, spent in the network."""
    notes: list[str] = field(default_factory=list)
    """What a user should know about the result, one sentence each."""

    @property
    def fps(self) -> float:
        return self.frames / self.seconds if self.seconds else 0.0


def upscale_video(
    source: Path,
    target: Path | None,
    open_runner: OpenRunner,
    *,
    encoder: EncoderSettings | None = None,
    overwrite: bool = False,
    max_frames: int | None = None,
    on_start: Callable[[FrameSize, int | None], None] = lambda _size, _frames: None,
    on_frame: Callable[[], None] = lambda: None,
) -> UpscaleResult:
    """Upscale a video four times in width and height.

    Every frame keeps its timestamp; audio, subtitles, chapters, attachments and metadata are copied. The output is
    written under a temporary name and renamed when it is complete, so a file under the target's name is always whole.

    Args:
        source: any video that FFmpeg reads.
        target: .mp4, .m4v, .mov or .mkv; None for ``name_x4`` beside the source.
        open_runner: opens the network for the (padded) size of the source.
        overwrite: replace an existing target.
        max_frames: stop after so many frames.
        on_start: called with the source's size and number of frames (None when unknown) before the first step.
        on_frame: called after each frame.

    Raises:
        InputError: the source cannot be read, or not a single frame of it.
        OutputError: the target cannot be written, exists, or cannot hold the source's tracks.
    """
    encoder = encoder or EncoderSettings()
    with VideoReader(source) as reader:
        check_encoder(encoder.codec)
        target = _choose_target(reader, target, encoder.codec)
        _check_target(reader, target, overwrite=overwrite)
        events = _from_first_frame(reader)
        step_seconds, frames = 0.0, 0
        with open_runner(reader.size.padded) as runner, replacing(target) as temporary:
            on_start(reader.size, reader.estimated_frames)
            writer = VideoWriter(
                temporary, target.suffix, reader, reader.size.upscaled, codec=encoder.codec, options=encoder.options
            )
            started = time.perf_counter()
            try:
                for event in events:
                    if not isinstance(event, Frame):
                        writer.copy(event)
                        continue
                    before = time.perf_counter()
                    hr = crop(runner.step(pad(event.rgb)), reader.size.upscaled)
                    step_seconds += time.perf_counter() - before
                    writer.write(Frame(hr, event.pts))
                    frames += 1
                    on_frame()
                    if frames == max_frames:
                        break
                writer.finish()
            except BaseException:
                writer.abort()
                raise
        lost = reader.frames_lost if max_frames is None else 0
        seconds = time.perf_counter() - started
        return UpscaleResult(target, reader.size.upscaled, frames, lost, seconds, step_seconds, _notes(reader))


def _from_first_frame(reader: VideoReader) -> Iterator[Frame | CopiedPacket]:
    """The reader's events, once its first frame is decoded; the packets before that frame come first."""
    events = iter(reader)
    head = []
    for event in events:
        head.append(event)
        if isinstance(event, Frame):
            return itertools.chain(head, events)
    raise InputError(f"not a single frame of {reader.path} could be decoded; the file is damaged or empty")


def _choose_target(reader: VideoReader, target: Path | None, codec: str) -> Path:
    """The given target, or a name beside the source, in a container that can hold everything."""
    fitting = fitting_suffixes(reader, codec)
    if target is None:
        suffix = fitting[0] if fitting else ".mkv"
        target = reader.path.with_name(f"{reader.path.stem}_x4{suffix}")
    if problem := container_problem(reader, target.suffix, codec):
        remedy = f"write to a file ending in {' or '.join(fitting)}" if fitting else "remove that track first"
        raise OutputError(f"{target} cannot be written: {problem}; {remedy}")
    return target


def _check_target(reader: VideoReader, target: Path, *, overwrite: bool) -> None:
    """Everything else that can be known to go wrong with the target, before any work is done."""
    if target.exists():
        if target.samefile(reader.path):
            raise OutputError(f"{target} is the source itself; give another name for the output")
        if target.is_dir():
            raise OutputError(f"{target} is a folder; give the name of a file in it")
        if not overwrite:
            raise OutputError(f"{target} already exists; pass --overwrite to replace it, or another name")
    if not target.parent.is_dir():
        raise OutputError(f"the folder {target.parent} does not exist; make it first, or give another name")
    try:
        with temporary_beside(target).open("xb"):
            temporary_beside(target).unlink()
    except OSError as error:
        raise OutputError(
            f"the folder {target.parent} cannot be written to ({error.strerror}); choose another with --output"
        ) from error


def _notes(reader: VideoReader) -> list[str]:
    notes = []
    if reader.left_out:
        notes.append(f"Not copied: {', '.join(reader.left_out)}.")
    if reader.depth > 8:
        notes.append(f"The source has {reader.depth} bits per sample; the output has 8.")
    if reader.repaired_timestamps:
        notes.append(f"{reader.repaired_timestamps} frames had a missing or repeated timestamp and were given one.")
    return notes
