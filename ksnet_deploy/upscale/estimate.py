"""Time and bytes that upscaling a video will take, measured on a few of its frames."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field, replace
from datetime import timedelta
from fractions import Fraction
from pathlib import Path
from statistics import mean
from typing import Any

from ksnet_deploy.base.errors import ConfigError, InputError
from ksnet_deploy.base.frames import FrameSize
from ksnet_deploy.base.words import counted
from ksnet_deploy.network.bundled import bundled_facts
from ksnet_deploy.upscale.job import unfinished_frames
from ksnet_deploy.upscale.network_stage import NetworkStage
from ksnet_deploy.upscale.plan import FramePlan
from ksnet_deploy.upscale.prepare import frame_dtype, prepare, tell_windows
from ksnet_deploy.upscale.result import Events, common_values
from ksnet_deploy.upscale.scenes import NoCuts
from ksnet_deploy.upscale.segments import Upscaled
from ksnet_deploy.upscale.stages import run_stages
from ksnet_deploy.upscale.upscaler import Upscaler
from ksnet_deploy.upscale.work import Work
from ksnet_deploy.video.reading.reader import VideoReader
from ksnet_deploy.video.writing.encoder import Encoder
from ksnet_deploy.video.writing.encoding import FrameEncoder, PictureFormat

__all__ = ["Estimate", "estimate"]

MOMENTS = (Fraction(1, 10), Fraction(1, 2), Fraction(9, 10))
"""Shares of the video at which frames are measured."""
FRAMES = 6
"""Number of frames measured at each moment."""


@dataclass(frozen=True)
class Estimate:
    """Expected result of a video that is not upscaled yet."""

    target: Path
    size: FrameSize
    """Size of the output frames."""
    pixel_format: str
    frames: int | None
    """Frames of the output; None where the source does not say how long it is, and then its totals are None too."""
    fps: float
    seconds: float | None
    bytes: int | None
    """Bytes of the file, with the other tracks as far as the source says their rates."""
    measured_frames: int
    tiles: str | None
    finished_frames: int
    """Frames already finished by an interrupted job."""
    precision: str | None = None
    """Precision of the network, where that was this machine's choice or the user's; None where it was a file's."""
    network: str | None = None
    """Sentence on what a bundled network is for, with its gains over bicubic; None of others."""

    def as_dict(self) -> dict[str, Any]:
        """All of it as plain values, as ``--json`` gives them."""
        return {
            **common_values(self),
            "dry_run": True,
            "precision": self.precision,
            "seconds": None if self.seconds is None else round(self.seconds, 1),
            "bytes": self.bytes,
            "measured_frames": self.measured_frames,
            "finished_frames": self.finished_frames,
            "network": self.network,
        }

    def as_text(self) -> str:
        """All of it for people, in a few lines."""
        if self.frames is None or self.seconds is None or self.bytes is None:
            takes = f"frames of {self.size} (height x width), {self.fps:.2f} fps; the source does not say how many"
        else:
            duration = timedelta(seconds=max(round(self.seconds), 1))
            frames = f"{counted(self.frames, 'frame')} of {self.size} (height x width)"
            takes = (
                f"{frames} would take about {duration} (h:mm:ss, {self.fps:.2f} fps) and "
                f"{max(self.bytes / 1e6, 0.1):,.1f} MB"
            )
        measured = counted(self.measured_frames, "frame")
        lines = [f"{self.target}: {takes}; measured on {measured}, no output was written."]
        if self.finished_frames:
            finished = counted(self.finished_frames, "frame is", "frames are")
            lines.append(f"{finished} finished in an unfinished job, which would go on.")
        return "\n".join(lines if self.network is None else [*lines, self.network])


@dataclass
class _Sample:
    """A few frames that were upscaled and encoded, and what it took."""

    frames: int = 0
    wall_s: float = 0.0
    sizes: list[int] = field(default_factory=list)
    """Bytes of the packets, the keyframe's first."""

    @classmethod
    def of(
        cls, reader: VideoReader, upscaler: Upscaler, encoder: Encoder, picture: PictureFormat, events: Events
    ) -> _Sample:
        sample, encoding = cls(), FrameEncoder(encoder, picture)

        def take(upscaled: Upscaled) -> None:
            sample.sizes += [len(packet.data) for packet in encoding.encode(upscaled.frame)]

        def finish() -> None:
            sample.sizes += [len(packet.data) for packet in encoding.finish()]

        upscaler.reset()
        plan = FramePlan(NoCuts(), reader.time_base, window=upscaler.windows.frames)
        planned = plan.of(itertools.islice(reader.frames(), FRAMES))
        network = NetworkStage(upscaler, events)
        sample.wall_s = run_stages(planned, network, take, flush=network.flush, finish=finish).wall_s
        sample.frames = plan.frames
        return sample


def estimate(work: Work, upscaler: Upscaler, events: Events) -> Estimate:
    """Upscale a few frames of a video and say what all of it will take; nothing is written.

    The checks are those of :func:`ksnet_deploy.upscale.run.upscale_video`. The upscaler is a new one, and is closed in
    the end.
    """
    source = work.source
    if work.destination.kind != "video":
        raise ConfigError(f"{work.destination.path} is no video file, and only of those an estimate is made")
    if upscaler.scenes_in_flight > 1:
        raise ConfigError("an estimate is made of one scene at a time; leave --scenes-in-flight out")
    with VideoReader(source) as reader, upscaler:
        prepared = prepare(reader, work, upscaler)
        target, picture = work.destination.path, prepared.picture
        finished = unfinished_frames(target, prepared.identity) if work.resume else 0
        upscaler.open(reader.size, frame_dtype(reader))
        tell_windows(reader, upscaler.network, upscaler.windows, events, upscaler.tiling)
        frames = reader.estimated_frames
        span_s = Fraction(0) if frames is None else frames / reader.rate
        moments = [source.start_s]
        if frames is not None and frames > FRAMES * len(MOMENTS):
            moments = [(source.start_s or 0) + share * span_s for share in MOMENTS]
        events.on_start(reader.size, FRAMES * len(moments), 0)
        [*upscaler.window([next(prepared.frames).rgb])]  # the first step loads what the others find loaded
        samples: list[_Sample] = []
        for moment in moments:
            try:
                with VideoReader(replace(source, start_s=moment)) as part:
                    samples.append(_Sample.of(part, upscaler, work.encoder, picture, events))
            except InputError:  # the source is damaged there, or ends before it says
                if moment == moments[-1] and not samples:
                    raise
        measured = sum(sample.frames for sample in samples)
        frame_s = sum(sample.wall_s for sample in samples) / measured * upscaler.windows.work
        video_bytes = (
            None if frames is None else _bytes_of(frames, prepared.segment, [sample.sizes for sample in samples])
        )
        label = upscaler.network.label
        facts = bundled_facts().get(label)
        return Estimate(
            target=target,
            size=picture.size,
            pixel_format=picture.pixel_format,
            frames=frames,
            fps=1 / frame_s,
            seconds=None if frames is None else max(frames - finished, 0) * frame_s,
            bytes=None if video_bytes is None else video_bytes + round(_other_bytes_per_s(reader) * float(span_s)),
            measured_frames=measured,
            tiles=str(upscaler.tiling) if upscaler.tiling else None,
            finished_frames=finished,
            precision=upscaler.precision,
            network=None if facts is None else facts.sentence(label),
        )


def _bytes_of(frames: int, segment: int, samples: list[list[int]]) -> int:
    """Bytes of so many frames, with a keyframe in each of the segments of a video without cuts."""
    segments = -(-frames // segment)
    keyframe = mean(sizes[0] for sizes in samples)
    other = mean([size for sizes in samples for size in sizes[1:]] or [keyframe])
    return round(segments * keyframe + max(frames - segments, 0) * other)


def _other_bytes_per_s(reader: VideoReader) -> float:
    return sum((track.codec_context.bit_rate or 0) for track in reader.tracks if track.codec_context is not None) / 8
