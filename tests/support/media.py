"""Videos made for tests."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from ksnet_deploy.base.frames import FrameSize

TIME_BASE = Fraction(1, 12800)


def make_video(
    path: Path,
    size: FrameSize,
    *,
    frames: int = 8,
    pts: Sequence[int] | None = None,
    sound: bool = False,
    subtitles: bool = False,
    codec: str = "libx264",
    options: dict[str, str] | None = None,
    title: str = "A title",
) -> Path:
    """A moving gradient; ``pts`` in units of 1/12800 s, 25 frames a second unless given."""
    pts = list(pts) if pts is not None else [512 * i for i in range(frames)]
    y, x = np.mgrid[: size.height, : size.width]
    with av.open(str(path), "w", options=options or {}) as container:
        container.metadata["title"] = title
        video = container.add_stream(codec, rate=25)
        video.height, video.width = size.height, size.width
        video.pix_fmt = "yuv420p" if size.height % 2 == 0 and size.width % 2 == 0 else "yuv444p"
        video.codec_context.time_base = TIME_BASE
        video.codec_context.colorspace, video.codec_context.color_range = 6, 1
        audio = container.add_stream("aac", rate=44100, layout="mono") if sound else None
        text = container.add_mux_stream("subrip" if path.suffix == ".mkv" else "mov_text") if subtitles else None
        for index, stamp in enumerate(pts):
            image = np.stack([(x * 5 + index * 8) % 256, (y * 5 + index * 4) % 256, (x + y) * 2 % 256], axis=-1)
            frame = av.VideoFrame.from_ndarray(image.astype(np.uint8), format="rgb24")
            frame.pts, frame.time_base = stamp, TIME_BASE
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
        if audio is not None:
            samples = int((pts[-1] - pts[0] + 512) * TIME_BASE * 44100)
            wave = (0.2 * np.sin(np.arange(samples) * 0.05)).astype(np.float32)[None]
            block = 1024
            for start in range(0, samples, block):
                sound_frame = av.AudioFrame.from_ndarray(wave[:, start : start + block], format="fltp", layout="mono")
                sound_frame.rate, sound_frame.pts = 44100, start
                sound_frame.time_base = Fraction(1, 44100)
                container.mux(audio.encode(sound_frame))
            container.mux(audio.encode(None))
        if text is not None:
            packet = av.Packet(b"Hello" if path.suffix == ".mkv" else b"\x00\x05Hello")
            packet.stream, packet.time_base = text, Fraction(1, 1000)
            packet.pts = packet.dts = 0
            packet.duration = 100
            container.mux(packet)
    return path


def presentation_times(path: Path) -> list[Fraction]:
    """Seconds at which the frames of a video are shown, in order."""
    with av.open(str(path)) as container:
        return [frame.pts * frame.time_base for frame in container.decode(video=0)]


def packets_of(path: Path, kind: str) -> list[bytes]:
    """Contents of all packets of a file's first track of a kind."""
    with av.open(str(path)) as container:
        stream = next(s for s in container.streams if s.type == kind)
        return [bytes(packet) for packet in container.demux(stream) if packet.size]
