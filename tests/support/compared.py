"""Pictures and films to compare."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from ksnet_deploy.base.frames import FrameSize
from ksnet_deploy.measure.pages.lettering import STRIP_PX
from ksnet_deploy.video.picture import read_picture, write_png

SIZE = FrameSize(32, 48)


def flat(level: int, height: int = 16, width: int = 20) -> np.ndarray:
    return np.full((height, width, 3), level, np.uint8)


def picture(path: Path, rgb: np.ndarray) -> Path:
    path.parent.mkdir(exist_ok=True)
    write_png(path, rgb)
    return path


def below_names(path: Path) -> np.ndarray:
    """What a picture shows, without the line of text above it."""
    shown = read_picture(path)
    assert (shown[0] < 30).all()  # dark ground
    return shown[STRIP_PX:]


def folder(path: Path, frames: Sequence[np.ndarray], first: int = 1) -> Path:
    """Numbered without zeros in front, so that the order of names is not that of the frames."""
    for index, frame in enumerate(frames):
        picture(path / f"frame_{first + index}.png", frame)
    return path


def lossless(
    path: Path, frames: dict[int, np.ndarray], *, rate: int = 25, rotation: int = 0, sound: str | None = None
) -> Path:
    """A video of given frames by their times in milliseconds; sound of the codec of that name, for a second."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=rate)
        height, width = next(iter(frames.values())).shape[:2]
        stream.height, stream.width, stream.pix_fmt = height, width, "bgr0"
        stream.codec_context.time_base = Fraction(1, 1000)
        if rotation:
            stream.set_display_rotation(rotation)
        audio = container.add_stream(sound, rate=44100, layout="mono") if sound else None
        for time_ms, rgb in frames.items():
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(rgb), format="rgb24")
            frame.pts, frame.time_base = time_ms, Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
        if audio is not None:
            wave = (0.2 * np.sin(np.arange(44100) * 0.05)).astype(np.float32)[None]
            samples = av.AudioFrame.from_ndarray(wave, format="fltp", layout="mono")
            samples.rate, samples.pts = 44100, 0
            container.mux(audio.encode(samples))
            container.mux(audio.encode(None))
    return path
