"""One video, from file to file: decode, upscale, encode, with the other tracks copied; a job that can go on.

The three run at the same time (``stages.py``). The encoded frames go to disk in segments (``segments.py``), and when
the last is there the output file is put together from them, checked, and given its name.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from fractions import Fraction
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from ksnet_deploy.config import FrameSize
from ksnet_deploy.errors import ConfigError, InputError
from ksnet_deploy.output import OutputFile, check_target, choose_target
from ksnet_deploy.runtime.base import SavedState
from ksnet_deploy.scenes import CutDetector, SceneDetector
from ksnet_deploy.segments import Job, fingerprint
from ksnet_deploy.stages import StageTimes, run_stages
from ksnet_deploy.upscaler import OpenRunner, Upscaler
from ksnet_deploy.video import (
    EncodedPacket,
    Encoder,
    Frame,
    FrameEncoder,
    PictureFormat,
    VideoReader,
    choose_encoder,
)

__all__ = [
    "Events",
    "Network",
    "Plan",
    "UpscaleResult",
    "existing_target",
    "first_frame_read",
    "frame_dtype",
    "notes_on",
    "upscale_video",
]

SHORTEST_SEGMENT, LONGEST_SEGMENT = 24, 120
"""In frames. A scene cut ends a segment that is no shorter; without one it ends at the longest. A segment costs a
keyframe, and is what is lost at most when the process is killed."""


@dataclass(frozen=True)
class Events:
    """What a caller wants to be told while a video is upscaled."""

    on_start: Callable[[FrameSize, int | None, int], None] = lambda _size, _frames, _done: None
    """The source's size, its number of frames (None when unknown), and how many of them are done already."""
    on_frame: Callable[[], None] = lambda: None
    on_note: Callable[[str], None] = lambda _sentence: None


@dataclass(frozen=True)
class UpscaleResult:
    """What was done."""

    target: Path
    size: FrameSize
    """Of the output frames."""
    frames: int
    frames_lost: int
    """Frames that the source announces and that could not be decoded."""
    resumed_frames: int
    """Of the frames, those that an earlier run had finished."""
    duplicates: int
    """Of the frames, those equal to the one before, which cost no step."""
    cuts: list[float]
    """Seconds at which a new scene begins, the first frame's apart."""
    steps: int
    step_s: float
    """Of this run, spent in the network."""
    times: StageTimes
    pixel_format: str
    notes: list[str] = field(default_factory=list)
    """What a user should know about the result, one sentence each."""

    @property
    def fps(self) -> float:
        """Of this run."""
        return (self.frames - self.resumed_frames) / self.times.wall_s if self.times.wall_s else 0.0


@dataclass(frozen=True)
class Planned:
    """A decoded frame and what is to be done with it."""

    frame: Frame
    starts_scene: bool
    starts_segment: bool
    duplicate: bool


@dataclass(frozen=True)
class Upscaled:
    frame: Frame
    ends_segment: SavedState | None
    """Where the frame begins a segment: the network's state before it, empty at a new scene. Else None."""


class Plan:
    """Decides, from the frames alone, where scenes and segments begin; so a second run decides alike."""

    def __init__(self, detector: CutDetector, rate_of_time: Fraction) -> None:
        self._detector, self._time_base = detector, rate_of_time
        self.frames = self.duplicates = 0
        self.cuts: list[float] = []

    def of(self, frames: Iterator[Frame], done: int) -> Iterator[Planned]:
        """The frames after the first ``done``, which are looked at all the same."""
        in_segment = 0
        before: Any = None
        for frame in frames:
            scene = self._detector.starts_scene(frame.rgb)
            segment = before is None or in_segment >= (SHORTEST_SEGMENT if scene else LONGEST_SEGMENT)
            duplicate = not scene and not segment and np.array_equal(frame.rgb, before)
            if scene and before is not None:
                self.cuts.append(float(frame.pts * self._time_base))
            in_segment = 1 if segment else in_segment + 1
            before = frame.rgb
            self.frames += 1
            self.duplicates += duplicate
            if self.frames > done:
                yield Planned(frame, scene, segment, duplicate)

    def summary(self) -> dict[str, Any]:
        """What the result says of it."""
        return {"frames": self.frames, "duplicates": self.duplicates, "cuts": self.cuts}


def upscale_video(
    source: Path,
    target: Path | None,
    open_runner: OpenRunner | None = None,
    *,
    encoder: Encoder | None = None,
    detector: CutDetector | None = None,
    height: int | None = None,
    start_s: Fraction | None = None,
    end_s: Fraction | None = None,
    rate: Fraction = Fraction(25),
    overwrite: bool = False,
    resume: bool = True,
    keep_partial: bool = False,
    identity: Mapping[str, str] | None = None,
    events: Events | None = None,
) -> UpscaleResult:
    """Upscale a video four times in width and height.

    Every frame keeps its timestamp; audio, subtitles, chapters, attachments and metadata are copied; depth, chroma
    and colour tags are the source's. A file under the target's name is always whole. What interrupts the work leaves
    the finished segments in a hidden folder beside the target, and the same call goes on from there; its result is
    the same to the byte.

    Args:
        source: any video that FFmpeg reads, or a folder of pictures.
        target: .mp4, .m4v, .mov, .mkv or .webm; an existing folder, or None for the source's, for ``name_x4`` in it.
        open_runner: opens the network; None for the bundled one that suits the CPU.
        detector: says where scenes begin; None for :class:`ksnet_deploy.scenes.SceneDetector`.
        height: of the output's frames, which are resized to it from four times the source's; even.
        start_s, end_s: the part to upscale, in seconds; see :class:`ksnet_deploy.video.VideoReader`.
        rate: frames per second of a folder of pictures.
        overwrite: replace an existing target.
        resume: go on with an unfinished job; otherwise it is thrown away, and nothing is left when this one fails.
        keep_partial: when interrupted (KeyboardInterrupt, SystemExit), make a playable ``name.partial`` beside the
            target of the frames that are finished.
        identity: what else changes the output, above all the network, by names a user understands. An unfinished job
            is continued only if all of it is the same.
        events: what to tell while it works.

    Raises:
        InputError: the source cannot be read, or not a single frame of it.
        OutputError: the target cannot be written, exists, or cannot hold the source's tracks.
    """
    encoder, events, detector = encoder or choose_encoder("h264"), events or Events(), detector or SceneDetector()
    with VideoReader(source, start_s, end_s, rate=rate) as reader, Upscaler(open_runner=open_runner) as upscaler:
        target = choose_target(reader, target, encoder)
        check_target(reader, target, overwrite=overwrite)
        size = _output_size(reader.size, height)
        encoder.check_size(size)
        frames = first_frame_read(reader)
        picture = PictureFormat.of(reader, size, encoder)
        output = OutputFile(reader, target, picture, encoder)
        output.try_out()
        settings = {
            "source": fingerprint(source),
            "encoder": " ".join([encoder.codec, *(f"{k}={v}" for k, v in encoder.options.items())]),
            "pixel format": picture.pixel_format,
            "output size": str(size),
            "part": f"{start_s or 0} s to {'the end' if end_s is None else f'{end_s} s'}",
            "scene cuts": repr(detector),
            "ksnet-deploy": version("ksnet-deploy"),
            "av": version("av"),
            **(identity or {}),
        }
        with Job(target, settings, resume=resume) as job:
            try:
                done = job.frames
                runner = upscaler.open(reader.size, frame_dtype(reader))
                events.on_start(reader.size, reader.estimated_frames, done)
                plan = Plan(detector, reader.time_base)
                sink = _SegmentSink(job, encoder, picture)
                planned = plan.of(frames, done)
                times = run_stages(
                    planned,
                    Network(upscaler, job.state() if done else {}, events.on_frame),
                    sink.take,
                    finish=sink.end,
                )
                output.assemble(job, target)
            except BaseException as error:
                if keep_partial and isinstance(error, KeyboardInterrupt | SystemExit):
                    _keep_partial(job, sink, output, events)
                if not (resume and job.segments):  # nothing that is worth keeping
                    job.discard()
                raise
            notes = notes_on(reader, picture.depth, runner.io)
            if output.damaged_packets:
                notes.append(f"{output.damaged_packets} damaged packets of other tracks were left out.")
            lost = reader.frames_lost
            job.discard()
    return UpscaleResult(
        target=target,
        size=picture.size,
        frames_lost=lost,
        resumed_frames=done,
        times=times,
        pixel_format=picture.pixel_format,
        notes=notes,
        **(plan.summary() | upscaler.summary()),
    )


class Network:
    """The middle stage: frames through the network, with its state forgotten where a scene begins."""

    def __init__(self, upscaler: Upscaler, state: SavedState, on_frame: Callable[[], None]) -> None:
        self._upscaler, self._on_frame = upscaler, on_frame
        upscaler.state = state
        self._last: Any = None

    def __call__(self, planned: Planned) -> Upscaled:
        if planned.starts_scene:
            self._upscaler.reset()
        state = self._upscaler.state if planned.starts_segment else None
        if not planned.duplicate:  # the network's state stays that of the one picture
            self._last = self._upscaler.push(planned.frame.rgb)
        self._on_frame()
        return Upscaled(replace(planned.frame, rgb=self._last), state)


class _SegmentSink:
    """The last stage: frames into encoded segments on disk."""

    def __init__(self, job: Job, encoder: Encoder, picture: PictureFormat) -> None:
        self._job, self._settings, self._picture = job, encoder, picture
        self._encoder: FrameEncoder | None = None
        self._packets: list[EncodedPacket] = []
        self._frames: list[tuple[int, int]] = []

    def take(self, upscaled: Upscaled) -> None:
        if upscaled.ends_segment is not None:
            self._close(upscaled.ends_segment)
        if self._encoder is None:
            self._encoder = FrameEncoder(self._settings, self._picture)
        self._packets += self._encoder.encode(upscaled.frame)
        self._frames.append((upscaled.frame.pts, upscaled.frame.duration))

    def end(self, *, provisional: bool = False) -> None:
        """Close the last segment; a provisional one is not in the journal."""
        self._close({}, provisional=provisional)

    def _close(self, state: SavedState, *, provisional: bool = False) -> None:
        if self._encoder is None:
            return
        self._packets += self._encoder.finish()
        pts, durations = (list(column) for column in zip(*self._frames, strict=True))
        self._job.add(self._packets, pts, durations, self._encoder.header, state, provisional=provisional)
        self._encoder, self._packets, self._frames = None, [], []


def _output_size(source: FrameSize, height: int | None) -> FrameSize:
    """Four times the source's, or the same shape with a height; even, as encoders want it."""
    whole = source.upscaled
    if height is None:
        return whole
    if height % 2 or not 16 <= height <= 2 * whole.height:
        raise ConfigError(
            f"a target height of {height} does not suit a source of {source}; give an even number from 16 to "
            f"{2 * whole.height}"
        )
    return FrameSize(height, max(round(whole.width * height / whole.height / 2) * 2, 16))


def _keep_partial(job: Job, sink: _SegmentSink, output: OutputFile, events: Events) -> None:
    """Make a file of what is finished; the job itself stays as it is."""
    sink.end(provisional=True)
    if job.segments:
        events.on_note(f"{job.frames} frames are finished; they are in {output.assemble_partial(job)}.")
    job.drop_provisional()


def existing_target(source: Path, target: Path | None, encoder: Encoder) -> Path | None:
    """The file that :func:`upscale_video` would write, where it exists already."""
    with VideoReader(source) as reader:
        chosen = choose_target(reader, target, encoder)
        return chosen if chosen.exists() else None


def first_frame_read(reader: VideoReader) -> Iterator[Frame]:
    """The reader's frames, once the first is decoded, which tells what only a frame tells."""
    frames = reader.frames()
    for first in frames:
        return itertools.chain([first], frames)
    raise InputError(f"not a single frame of {reader.path} could be decoded; the file is damaged or empty")


def frame_dtype(reader: VideoReader) -> np.dtype[Any]:
    return np.dtype(np.uint8 if reader.depth <= 8 else np.uint16)


def notes_on(reader: VideoReader, depth: int, io: str) -> list[str]:
    notes = []
    if reader.left_out:
        notes.append(f"Not copied: {', '.join(reader.left_out)}.")
    if reader.has_alpha:
        notes.append("The source's transparency is not in the output.")
    if reader.interlaced_frames:
        notes.append(
            f"{reader.interlaced_frames} frames are interlaced and were upscaled as they are; deinterlace the source "
            "first for a better picture."
        )
    if reader.colour.is_hdr:
        notes.append(
            f"The source is HDR ({reader.colour.transfer_name}). Its code values were upscaled as they are and its "
            "tags kept, but the network was trained on SDR pictures."
        )
    if reader.depth > 8 and io == "uint8":
        notes.append(f"The source has {reader.depth} bits per sample; the network took 8 of them.")
    if reader.depth > depth:
        notes.append(f"The source has {reader.depth} bits per sample; the output has {depth}.")
    if reader.colour.guessed:
        notes.append(f"The source does not name its colour matrix; {reader.colour.matrix_name} was taken, by its size.")
    if reader.repaired_timestamps:
        notes.append(f"{reader.repaired_timestamps} frames had a missing or repeated timestamp and were given one.")
    return notes
