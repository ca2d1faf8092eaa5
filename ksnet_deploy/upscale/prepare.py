"""All checks and choices before the first frame is upscaled."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from ksnet_deploy.base.errors import ConfigError, InputError
from ksnet_deploy.base.frames import FrameSize
from ksnet_deploy.upscale.job import fingerprint
from ksnet_deploy.upscale.output import OutputFile, check_target, choose_target, container_notes, track_notes
from ksnet_deploy.upscale.scenes import CutDetector
from ksnet_deploy.upscale.upscaler import Upscaler
from ksnet_deploy.video.reading.reader import Frame, VideoReader
from ksnet_deploy.video.writing.encoder import Encoder
from ksnet_deploy.video.writing.encoding import PictureFormat
from ksnet_deploy.video.writing.tracks import TrackChoice, TrackPlanner

__all__ = ["Prepared", "first_frame_read", "frame_dtype", "output_size", "prepare"]


@dataclass(frozen=True)
class Prepared:
    """What is known before the first frame is upscaled: that all of it can be done."""

    target: Path
    picture: PictureFormat
    output: OutputFile
    frames: Iterator[Frame]
    """Of the source, all of them."""
    source: Path
    rate: Fraction
    """Of the source, in frames per second."""
    tracks: TrackChoice
    """What is wanted of the source's other tracks."""
    notes: list[str]
    """What a user should know of the choices."""

    def settings(
        self,
        encoder: Encoder,
        detector: CutDetector,
        upscaler: Upscaler,
        start_s: Fraction | None,
        end_s: Fraction | None,
    ) -> dict[str, str]:
        """Everything that changes the output's bytes, by names that a user understands."""
        return {
            "source": fingerprint(self.source),
            "frame rate": str(self.rate),
            "part": f"{start_s or 0} s to {'the end' if end_s is None else f'{end_s} s'}",
            "encoder": " ".join([encoder.codec, *(f"{k}={v}" for k, v in encoder.options.items())]),
            "pixel format": self.picture.pixel_format,
            "output size": str(self.picture.size),
            "scene cuts": repr(detector),
            "other tracks": self.tracks,
            "ksnet-deploy": version("ksnet-deploy"),
            "av": version("av"),
            **upscaler.identity(),
        }


def prepare(
    reader: VideoReader,
    target: Path | None,
    encoder: Encoder,
    height: int | None,
    *,
    overwrite: bool,
    tracks: TrackChoice = "convert",
) -> Prepared:
    """Choose and try out everything that can be before there is a picture.

    Raises:
        KSNetError: what :func:`ksnet_deploy.upscale.to_video.upscale_video` raises before it begins.
    """
    planner = TrackPlanner(reader, tracks)
    notes = container_notes(planner, target, encoder)
    target = choose_target(planner, target, encoder)
    check_target(reader, target, overwrite=overwrite)
    size = output_size(reader.size, height)
    encoder.check_size(size)
    frames = first_frame_read(reader)
    picture = PictureFormat.of(reader, size, encoder)
    output = OutputFile(planner, target, picture, encoder)
    output.try_out()
    notes += track_notes(output.tracks)
    return Prepared(target, picture, output, frames, reader.path, reader.rate, tracks, notes)


def output_size(source: FrameSize, height: int | None) -> FrameSize:
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


def first_frame_read(reader: VideoReader) -> Iterator[Frame]:
    """The reader's frames, once the first is decoded, which tells what only a frame tells."""
    frames = reader.frames()
    for first in frames:
        return itertools.chain([first], frames)
    raise InputError(f"not a single frame of {reader.path} could be decoded; the file is damaged or empty")


def frame_dtype(reader: VideoReader) -> np.dtype[Any]:
    return np.dtype(np.uint8 if reader.depth <= 8 else np.uint16)
