"""The front doors: upscale a source, or estimate what that takes, with settings as users give them."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

from ksnet_deploy.base.errors import ConfigError
from ksnet_deploy.base.frames import SCALE
from ksnet_deploy.upscale.choice import choose_network
from ksnet_deploy.upscale.destination import choose_destination
from ksnet_deploy.upscale.estimate import Estimate, estimate
from ksnet_deploy.upscale.ladder import Choices, this_machine
from ksnet_deploy.upscale.networks import Network
from ksnet_deploy.upscale.result import Events, UpscaleResult
from ksnet_deploy.upscale.scenes import CutDetector, SceneDetector
from ksnet_deploy.upscale.to_frames import write_frames
from ksnet_deploy.upscale.to_video import write_video
from ksnet_deploy.upscale.upscaler import Upscaler
from ksnet_deploy.upscale.values import parse_height, parse_rate, parse_scale, parse_time
from ksnet_deploy.upscale.work import Work
from ksnet_deploy.video.kinds import DEFAULT_RATE, Source
from ksnet_deploy.video.writing.encoder import Encoder
from ksnet_deploy.video.writing.presets import DEFAULT_ENCODER, choose_encoder
from ksnet_deploy.video.writing.tracks import TrackChoice

__all__ = ["carry_out", "estimate_video", "upscale_video"]

Moment = Fraction | float | str
"""Seconds, or a time such as ``1:30``."""


def upscale_video(
    source: Path | str,
    target: Path | str | None = None,
    upscaler: Upscaler | Network | Path | str | None = None,
    *,
    codec: Encoder | str = DEFAULT_ENCODER,
    detector: CutDetector | None = None,
    height: int | str | None = None,
    scale: int | str | None = None,
    start_s: Moment | None = None,
    end_s: Moment | None = None,
    rate: Fraction | float | str = DEFAULT_RATE,
    overwrite: bool = False,
    resume: bool = True,
    keep_partial: bool = False,
    tracks: TrackChoice = "convert",
    events: Events | None = None,
) -> UpscaleResult:
    """Upscale a video, a picture, a folder of pictures or a pipe four times in width and height.

    Every frame keeps its timestamp; audio, subtitles, chapters, attachments and metadata are copied; depth, chroma
    and colour tags are the source's. A file under the target's name is always whole. What interrupts the work leaves
    the finished segments in a hidden folder beside the target, and the same call goes on from there; its result is
    the same to the byte. Frames to a folder or a pipe are not resumed: a folder appears when it is complete.

    Args:
        source: any video or picture that FFmpeg reads, a folder of pictures, or ``-`` for YUV4MPEG on standard input.
        target: .mp4, .m4v, .mov, .mkv or .webm; .png, .jpg or .webp for a picture; a new folder for PNG files; ``-``
            for YUV4MPEG on standard output; an existing folder, or None for the source's, for ``name_x4`` in it.
        upscaler: a new one, which is closed in the end, or the network it is to have (default: the bundled one that
            suits the source and this machine, which ``events.on_note`` is told with the reason).
        codec: a preset or FFmpeg's name of an encoder, or what
            :func:`ksnet_deploy.video.writing.presets.choose_encoder` gave.
        detector: says where scenes begin (default: :class:`ksnet_deploy.upscale.scenes.SceneDetector`).
        height: height of the output's frames, such as 1080 or ``"1080p"`` (default: four times the source's).
        scale: 2 or 3 for frames so many times as large as the source's, instead of a height (default: 4).
        start_s, end_s: the part to upscale, in seconds or as text such as ``"1:30"``.
        rate: frames per second of a folder of pictures (default: 25).
        overwrite, resume, keep_partial, tracks: as :class:`ksnet_deploy.upscale.work.Work` says.
        events: what to tell while it works.

    Raises:
        InputError: the source cannot be read, or not a single frame of it.
        OutputError: the target cannot be written, exists, or cannot hold the source's tracks.
        KSNetError: a setting cannot be, or the network cannot be run.
    """
    work = _work(source, target, codec, detector, height, scale, start_s, end_s, rate, tracks)
    work = replace(work, overwrite=overwrite, resume=resume, keep_partial=keep_partial)
    events = events or Events()
    return carry_out(work, _upscaler(upscaler, work, events), events)


def estimate_video(
    source: Path | str,
    target: Path | str | None = None,
    upscaler: Upscaler | Network | Path | str | None = None,
    *,
    codec: Encoder | str = DEFAULT_ENCODER,
    detector: CutDetector | None = None,
    height: int | str | None = None,
    scale: int | str | None = None,
    start_s: Moment | None = None,
    end_s: Moment | None = None,
    overwrite: bool = False,
    resume: bool = True,
    tracks: TrackChoice = "convert",
    events: Events | None = None,
) -> Estimate:
    """Upscale a few frames of a video and say what all of it will take; nothing is written.

    Arguments and errors are those of :func:`upscale_video`, with the same checks.
    """
    work = _work(source, target, codec, detector, height, scale, start_s, end_s, DEFAULT_RATE, tracks)
    events = events or Events()
    return estimate(replace(work, overwrite=overwrite, resume=resume), _upscaler(upscaler, work, events), events)


def carry_out(work: Work, upscaler: Upscaler, events: Events) -> UpscaleResult:
    """Do the work. Raises KSNetError where it cannot be done."""
    return (write_video if work.destination.kind == "video" else write_frames)(work, upscaler, events)


def _upscaler(given: Upscaler | Network | Path | str | None, work: Work, events: Events) -> Upscaler:
    if given is None:
        choice = choose_network(work.source, Choices().settled_device(this_machine()))
        events.on_note(choice.sentence("choose another with upscaler=NAME"))
        given = choice.name
    return given if isinstance(given, Upscaler) else Upscaler(given)


def _work(
    source: Path | str,
    target: Path | str | None,
    codec: Encoder | str,
    detector: CutDetector | None,
    height: int | str | None,
    scale: int | str | None,
    start_s: Moment | None,
    end_s: Moment | None,
    rate: Fraction | float | str,
    tracks: TrackChoice,
) -> Work:
    if height is not None and scale is not None:
        raise ConfigError("a height and a scale contradict each other; give one of them")
    encoder = codec if isinstance(codec, Encoder) else choose_encoder(codec)
    start_s, end_s = (None if moment is None else parse_time(moment) for moment in (start_s, end_s))
    given = Source(Path(source), start_s, end_s, parse_rate(rate))
    output, factor = None if target is None else Path(target), SCALE if scale is None else parse_scale(scale)
    return Work(
        source=given,
        destination=choose_destination(given, output, encoder, tracks, factor),
        encoder=encoder,
        height=None if height is None else parse_height(height),
        scale=factor,
        detector=detector or SceneDetector(),
        tracks=tracks,
    )
