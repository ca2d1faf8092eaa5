"""What upscaling a video will take, told from a few of its frames."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from statistics import mean

from ksnet_deploy.base.errors import InputError
from ksnet_deploy.base.frames import FrameSize
from ksnet_deploy.upscale.job import unfinished_frames
from ksnet_deploy.upscale.plan import LONGEST_SEGMENT, Plan
from ksnet_deploy.upscale.prepare import Prepared, frame_dtype, prepare
from ksnet_deploy.upscale.result import Events
from ksnet_deploy.upscale.scenes import CutDetector, NoCuts, SceneDetector
from ksnet_deploy.upscale.stages import run_stages
from ksnet_deploy.upscale.to_video import Network, Upscaled
from ksnet_deploy.upscale.upscaler import Upscaler
from ksnet_deploy.video.reading.reader import VideoReader
from ksnet_deploy.video.writing.encoder import Encoder
from ksnet_deploy.video.writing.encoding import FrameEncoder
from ksnet_deploy.video.writing.presets import choose_encoder
from ksnet_deploy.video.writing.tracks import TrackChoice

__all__ = ["Estimate", "estimate_video"]

MOMENTS = (Fraction(1, 10), Fraction(1, 2), Fraction(9, 10))
"""Shares of the video at which frames are measured."""
FRAMES = 6
"""Measured at each."""


@dataclass(frozen=True)
class Estimate:
    """What is expected of a video that is not upscaled yet."""

    target: Path
    size: FrameSize
    """Of the output frames."""
    pixel_format: str
    frames: int | None
    """None where the source does not say how long it is; then neither is known what it takes in all."""
    fps: float
    seconds: float | None
    bytes: int | None
    """Of the file, with the other tracks as far as the source says their rates."""
    measured_frames: int
    tiles: str | None
    finished_frames: int
    """Of an unfinished job that would go on; they take no time any more."""


@dataclass
class _Sample:
    """A few frames that were upscaled and encoded, and what it took."""

    frames: int = 0
    wall_s: float = 0.0
    sizes: list[int] = field(default_factory=list)
    """Bytes of the packets, the keyframe's first."""

    @classmethod
    def of(
        cls, reader: VideoReader, upscaler: Upscaler, encoder: Encoder, prepared: Prepared, events: Events
    ) -> _Sample:
        sample, encoding = cls(), FrameEncoder(encoder, prepared.picture)

        def take(upscaled: Upscaled) -> None:
            sample.sizes += [len(packet.data) for packet in encoding.encode(upscaled.frame)]

        def finish() -> None:
            sample.sizes += [len(packet.data) for packet in encoding.finish()]

        upscaler.reset()
        plan = Plan(NoCuts(), reader.time_base)
        planned = plan.of(itertools.islice(reader.frames(), FRAMES), 0)
        sample.wall_s = run_stages(planned, Network(upscaler, {}, events.on_frame), take, finish=finish).wall_s
        sample.frames = plan.frames
        return sample


def estimate_video(
    source: Path,
    target: Path | None,
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
    tracks: TrackChoice = "convert",
    events: Events | None = None,
) -> Estimate:
    """Upscale a few frames of a video and say what all of it will take; nothing is written.

    Arguments and errors are those of :func:`ksnet_deploy.upscale.to_video.upscale_video`, with the same checks.
    """
    upscaler, encoder, events = upscaler or Upscaler(), encoder or choose_encoder("h264"), events or Events()
    with VideoReader(source, start_s, end_s, rate=rate) as reader, upscaler:
        prepared = prepare(reader, target, encoder, height, overwrite=overwrite, tracks=tracks)
        settings = prepared.settings(encoder, detector or SceneDetector(), upscaler, start_s, end_s)
        finished = unfinished_frames(prepared.target, settings) if resume else 0
        upscaler.open(reader.size, frame_dtype(reader))
        frames = reader.estimated_frames
        span_s = Fraction(0) if frames is None else frames / reader.rate
        moments = [start_s]
        if frames is not None and frames > FRAMES * len(MOMENTS):
            moments = [(start_s or 0) + share * span_s for share in MOMENTS]
        events.on_start(reader.size, FRAMES * len(moments), 0)
        upscaler.push(next(prepared.frames).rgb)  # the first step loads what the others find loaded
        samples: list[_Sample] = []
        for moment in moments:
            try:
                with VideoReader(source, moment, end_s, rate=rate) as part:
                    samples.append(_Sample.of(part, upscaler, encoder, prepared, events))
            except InputError:  # the source is damaged there, or ends before it says
                if moment == moments[-1] and not samples:
                    raise
        measured = sum(sample.frames for sample in samples)
        frame_s = sum(sample.wall_s for sample in samples) / measured
        video_bytes = None if frames is None else _bytes_of(frames, [sample.sizes for sample in samples])
        return Estimate(
            target=prepared.target,
            size=prepared.picture.size,
            pixel_format=prepared.picture.pixel_format,
            frames=frames,
            fps=1 / frame_s,
            seconds=None if frames is None else max(frames - finished, 0) * frame_s,
            bytes=None if video_bytes is None else video_bytes + round(_other_bytes_per_s(reader) * float(span_s)),
            measured_frames=measured,
            tiles=str(upscaler.plan) if upscaler.plan else None,
            finished_frames=finished,
        )


def _bytes_of(frames: int, samples: list[list[int]]) -> int:
    """Of so many frames, with a keyframe in each of the segments of a video without cuts."""
    segments = -(-frames // LONGEST_SEGMENT)
    keyframe = mean(sizes[0] for sizes in samples)
    other = mean([size for sizes in samples for size in sizes[1:]] or [keyframe])
    return round(segments * keyframe + max(frames - segments, 0) * other)


def _other_bytes_per_s(reader: VideoReader) -> float:
    return sum((track.codec_context.bit_rate or 0) for track in reader.tracks if track.codec_context is not None) / 8
