"""One video, from file to file: decode, upscale, encode, with the other tracks copied; a job that can go on.

The three run at the same time (``stages.py``). The encoded frames go to disk in segments (``segments.py``), and when
the last is there the output file is put together from them, checked, and given its name.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

from ksnet_deploy.base.errors import InputError
from ksnet_deploy.base.frames import FrameSize
from ksnet_deploy.runtime.base import SavedState
from ksnet_deploy.upscale.job import Job
from ksnet_deploy.upscale.output import OutputFile, choose_target
from ksnet_deploy.upscale.plan import Plan, Planned
from ksnet_deploy.upscale.prepare import frame_dtype, prepare
from ksnet_deploy.upscale.result import Events, UpscaleResult, notes_on
from ksnet_deploy.upscale.scenes import CutDetector, SceneDetector
from ksnet_deploy.upscale.stages import run_stages
from ksnet_deploy.upscale.upscaler import Upscaler
from ksnet_deploy.video.reading.reader import Frame, VideoReader
from ksnet_deploy.video.writing.encoder import Encoder
from ksnet_deploy.video.writing.encoding import EncodedPacket, FrameEncoder, PictureFormat
from ksnet_deploy.video.writing.presets import choose_encoder
from ksnet_deploy.video.writing.tracks import TrackChoice, TrackPlanner

__all__ = ["Network", "Upscaled", "target_of", "upscale_video"]


@dataclass(frozen=True)
class Upscaled:
    """A frame as it comes from the network."""

    frame: Frame
    ends_segment: SavedState | None
    """Where the frame begins a segment: the network's state before it, empty at a new scene. Else None."""


def upscale_video(
    source: Path | str,
    target: Path | str | None,
    upscaler: Upscaler | None = None,
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
    tracks: TrackChoice = "convert",
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
        upscaler: a new one, which is closed in the end; None for the bundled network that suits the CPU.
        detector: says where scenes begin; None for :class:`ksnet_deploy.upscale.scenes.SceneDetector`.
        height: of the output's frames, which are resized to it from four times the source's; even.
        start_s, end_s: the part to upscale, in seconds; see :class:`ksnet_deploy.video.reading.reader.VideoReader`.
        rate: frames per second of a folder of pictures.
        overwrite: replace an existing target.
        resume: go on with an unfinished job, begun with the same settings, and keep this one when it fails; otherwise
            throw that away, and leave nothing.
        keep_partial: when interrupted (KeyboardInterrupt, SystemExit), or when the source cannot be read to its end,
            make a playable ``name.partial`` beside the target of the frames that are finished.
        tracks: what becomes of sound, subtitles, attachments and covers: ``convert`` copies what the target's
            container holds, converts sound and text that it does not, and leaves out the rest; ``copy`` refuses what
            cannot be copied; ``drop`` leaves all of them out.
        events: what to tell while it works.

    Raises:
        InputError: the source cannot be read, or not a single frame of it.
        OutputError: the target cannot be written, exists, or cannot hold the source's tracks.
    """
    source, target = Path(source), None if target is None else Path(target)
    upscaler, detector = upscaler or Upscaler(), detector or SceneDetector()
    encoder, events = encoder or choose_encoder("h264"), events or Events()
    with VideoReader(source, start_s, end_s, rate=rate) as reader, upscaler:
        prepared = prepare(reader, target, encoder, height, overwrite=overwrite, tracks=tracks)
        target, picture, output = prepared.target, prepared.picture, prepared.output
        settings = prepared.settings(encoder, detector, upscaler, start_s, end_s)
        with Job(target, settings, resume=resume) as job:
            done, sink = job.frames, _SegmentSink(job, encoder, picture, upscaler)
            try:
                if done:  # in the tiles, or none, that it was begun with
                    tiles = job.segments[-1].tiles
                    upscaler.tiles = FrameSize.parse(tiles) if tiles else "off"
                runner = upscaler.open(reader.size, frame_dtype(reader))
                events.on_start(reader.size, reader.estimated_frames, done)
                plan = Plan(detector, reader.time_base)
                planned = plan.of(prepared.frames, done)
                times = run_stages(
                    planned,
                    Network(upscaler, job.state() if done else {}, events.on_frame),
                    sink.take,
                    finish=sink.end,
                )
                output.assemble(job, target, overwrite=overwrite)
            except BaseException as error:
                if keep_partial and isinstance(error, KeyboardInterrupt | SystemExit | InputError):
                    _keep_partial(job, sink, output, events)
                if resume and job.segments:
                    events.on_note(f"{job.frames} frames are finished; the same command goes on after them.")
                else:  # nothing that is worth keeping, or not wanted
                    job.discard()
                raise
            notes = notes_on(reader, picture.depth, runner.io) + prepared.notes
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
        tracks=output.tracks,
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

    def __init__(self, job: Job, encoder: Encoder, picture: PictureFormat, upscaler: Upscaler) -> None:
        self._job, self._settings, self._picture, self._upscaler = job, encoder, picture, upscaler
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
        tile = str(self._upscaler.plan.tile) if self._upscaler.plan else None
        self._job.add(self._packets, pts, durations, self._encoder.header, state, tile, provisional=provisional)
        self._encoder, self._packets, self._frames = None, [], []


def _keep_partial(job: Job, sink: _SegmentSink, output: OutputFile, events: Events) -> None:
    """Make a file of what is finished; the job itself stays as it is."""
    sink.end(provisional=True)
    if job.segments:
        events.on_note(f"{job.frames} frames are finished; they are in {output.assemble_partial(job)}.")
    job.drop_provisional()


def target_of(
    source: Path,
    target: Path | None,
    encoder: Encoder,
    start_s: Fraction | None = None,
    end_s: Fraction | None = None,
    tracks: TrackChoice = "convert",
) -> Path:
    """The file that :func:`upscale_video` would write. Raises KSNetError where it could not."""
    with VideoReader(source, start_s, end_s) as reader:
        return choose_target(TrackPlanner(reader, tracks), target, encoder)
