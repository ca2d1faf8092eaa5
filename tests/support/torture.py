"""Videos that are hard on a pipeline, described by what is true of them; made, and read again, with PyAV alone.

A case is the reference of the tests as well: the times, colours and tracks that it lists are those the output must
have. Every frame is one flat colour of its own, written as code values by the standards' equations, so that a frame
that is shown at another's time, in another range or by another matrix is found.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.stream import Disposition, Stream
from av.video.format import VideoFormat
from numpy.typing import NDArray

from ksnet_deploy.base.frames import FrameSize
from ksnet_deploy.base.machine import same_priority

__all__ = ["Case", "Contents", "NoCuts", "Sound", "Track", "code_values", "colour_of", "contents", "depth_of", "make"]

SIZE = FrameSize(32, 48)
CLOCK = Fraction(1, 12800)
KR_KB = {1: (0.2126, 0.0722), 5: (0.299, 0.114), 6: (0.299, 0.114), 9: (0.2627, 0.0593)}
"""Shares of red and blue in luma of BT.709, BT.601 (625 and 525 lines) and BT.2020."""


class NoCuts:
    """One scene."""

    def __init__(self) -> None:
        self._begun = False

    def starts_scene(self, _rgb: NDArray[Any]) -> bool:
        first, self._begun = not self._begun, True
        return first

    def __repr__(self) -> str:
        return "NoCuts()"


@dataclass(frozen=True)
class Sound:
    """An audio track as long as the video."""

    codec: str = "aac"
    language: str = "eng"
    default: bool = True
    delay_s: float = 0.0
    """How much later than the video's first moment it begins."""


@dataclass(frozen=True)
class Case:
    """A video and what is true of it. Tags are the numbers of H.273; 2 says that there is none (range: 0)."""

    name: str
    suffix: str = ".mkv"
    codec: str = "libx264"
    pixel_format: str = "yuv420p"
    size: FrameSize = SIZE
    rate: Fraction = Fraction(25)
    clock: Fraction = CLOCK
    pts: tuple[int, ...] = tuple(range(0, 20 * 512, 512))
    """In units of the clock. Below zero: hidden by an edit list in MP4 and MOV."""
    last: int | None = None
    """How long the last frame is shown, in units of the clock; needs an encoder that keeps the frames' order."""
    matrix: int = 6
    colour_range: int = 1
    primaries: int = 2
    transfer: int = 2
    aspect: Fraction | None = None
    rotation: int = 0
    options: dict[str, str] = field(default_factory=dict)
    sounds: tuple[Sound, ...] = ()
    subtitles: str | None = None
    """A codec."""
    chapters: bool = False
    metadata: dict[str, str] = field(default_factory=dict)
    encoder: str = "h264"
    """Of the output."""
    target: str | None = None
    """Suffix of the output, where it is not the source's."""
    damage: Callable[[bytes], bytes] = bytes
    """What happens to the file afterwards."""

    @property
    def times(self) -> list[Fraction]:
        """Seconds at which frames are shown, after the first."""
        hidden = self.suffix in (".mp4", ".mov")
        shown = [pts for pts in self.pts if pts >= 0 or not hidden]
        return [(pts - shown[0]) * self.clock for pts in shown]

    @property
    def full_range(self) -> bool:
        return self.colour_range == 2

    def __str__(self) -> str:
        return f"{self.name}{self.suffix}"


def colour_of(index: int) -> tuple[float, float, float]:
    """R'G'B' in [0, 1] of a frame; neighbours differ clearly, and all are inside the gamut."""
    return 0.25 + 0.5 * (index * 7 % 20) / 19, 0.3 + 0.4 * (index * 3 % 20) / 19, 0.7 - 0.4 * (index * 11 % 20) / 19


def code_values(rgb: tuple[float, float, float], matrix: int, depth: int, *, full: bool) -> tuple[float, float, float]:
    """Y', Cb and Cr, not rounded; ITU-T H.273."""
    red, blue = KR_KB[matrix]
    y = red * rgb[0] + (1 - red - blue) * rgb[1] + blue * rgb[2]
    cb, cr = (rgb[2] - y) / (2 * (1 - blue)), (rgb[0] - y) / (2 * (1 - red))
    middle = 2.0 ** (depth - 1)
    if full:
        most = 2.0**depth - 1
        return most * y, middle + most * cb, middle + most * cr
    unit = 2.0 ** (depth - 8)
    return (16 + 219 * y) * unit, middle + 224 * unit * cb, middle + 224 * unit * cr


@same_priority()  # fixtures that tests share are made before one could see to it
def make(case: Case, folder: Path) -> Path:
    """Write the video of a case."""
    path = folder / f"{case.name.replace(' ', '-')}{case.suffix}"
    with av.open(str(path), "w", options={"movflags": "+faststart"} if case.suffix in (".mp4", ".mov") else {}) as file:
        file.metadata.update(case.metadata)
        video = _add_video(file, case)
        sounds = [_add_sound(file, sound) for sound in case.sounds]
        text = file.add_mux_stream(case.subtitles) if case.subtitles else None
        if case.chapters:
            file.set_chapters(
                [
                    {"id": i + 1, "start": 400 * i, "end": 400 * (i + 1), "time_base": Fraction(1, 1000), "metadata": m}
                    for i, m in enumerate([{"title": "Overture"}, {"title": "Aria"}])
                ]
            )
        for index, pts in enumerate(case.pts):
            frame = _frame(case, index)
            frame.pts, frame.time_base = pts, case.clock
            _mux(file, video.encode(frame), case)
        _mux(file, video.encode(None), case)
        for sound, track in zip(case.sounds, sounds, strict=True):
            _write_sound(file, track, sound, case)
        if text is not None:
            _write_subtitles(file, text, case.subtitles or "")
    path.write_bytes(case.damage(path.read_bytes()))
    return path


def _mux(file: Any, packets: list[Any], case: Case) -> None:
    for packet in packets:
        if packet.pts == case.pts[-1] and case.last is not None:
            packet.duration = case.last
        file.mux(packet)


def _add_video(file: Any, case: Case) -> Any:
    stream = file.add_stream(case.codec, rate=case.rate, options=case.options)
    stream.height, stream.width, stream.pix_fmt = case.size.height, case.size.width, case.pixel_format
    context = stream.codec_context
    context.time_base = case.clock
    context.colorspace, context.color_range = case.matrix, case.colour_range
    context.color_primaries, context.color_trc = case.primaries, case.transfer
    if case.aspect is not None:
        context.sample_aspect_ratio = case.aspect
    if case.rotation:
        stream.set_display_rotation(case.rotation)
    return stream


def _frame(case: Case, index: int) -> av.VideoFrame:
    """Flat, but for a square that moves: a decoder is to have something to do."""
    frame = av.VideoFrame(case.size.width, case.size.height, case.pixel_format)
    rgb = colour_of(index)
    depth = frame.format.components[0].bits
    if frame.format.is_rgb:
        values = [rgb[1] * (2**depth - 1), rgb[2] * (2**depth - 1), rgb[0] * (2**depth - 1)]  # planes are G, B, R
    else:
        values = list(code_values(rgb, case.matrix, depth, full=case.full_range))
    values.append(2.0**depth - 1)  # opaque, where there is a fourth plane
    for plane, value in zip(frame.planes, values if len(frame.planes) != 1 else values[:1], strict=False):
        kind = np.uint8 if depth == 8 else np.uint16
        plane.update(np.full(plane.buffer_size // np.dtype(kind).itemsize, round(value), kind).tobytes())
    frame.colorspace, frame.color_range = case.matrix, case.colour_range
    frame.color_primaries, frame.color_trc = case.primaries, case.transfer
    return frame


def _add_sound(file: Any, sound: Sound) -> Any:
    stream = file.add_stream(sound.codec, rate=48000, layout="mono")
    stream.metadata["language"] = sound.language
    stream.metadata["title"] = f"In {sound.language}"
    stream.disposition = Disposition.default if sound.default else Disposition(0)
    return stream


def _write_sound(file: Any, stream: Any, sound: Sound, case: Case) -> None:
    begin_s = float(case.pts[0] * case.clock) + sound.delay_s
    samples = int((case.pts[-1] - case.pts[0]) * case.clock * 48000) + 2000
    wave = (0.2 * np.sin(np.arange(samples) * (0.03 + 0.02 * stream.index))).astype(np.float32)[None]
    resampler = av.AudioResampler(stream.format.name, "mono", 48000)
    for start in range(0, samples, 960):
        frame = av.AudioFrame.from_ndarray(
            np.ascontiguousarray(wave[:, start : start + 960]), format="fltp", layout="mono"
        )
        frame.rate, frame.time_base = 48000, Fraction(1, 48000)
        frame.pts = round(begin_s * 48000) + start
        for converted in resampler.resample(frame):
            file.mux(stream.encode(converted))
    file.mux(stream.encode(None))


def _write_subtitles(file: Any, stream: Stream, codec: str) -> None:
    for index, words in enumerate((b"Hello", b"world")):
        packet: Any = av.Packet(b"\x00" + bytes([len(words)]) + words if codec == "mov_text" else words)
        packet.stream, packet.time_base = stream, Fraction(1, 1000)
        packet.pts = packet.dts = 100 + 300 * index
        packet.duration = 200
        file.mux(packet)


def depth_of(pixel_format: str) -> int:
    """Bits per sample."""
    return VideoFormat(pixel_format).components[0].bits


@dataclass(frozen=True)
class Track:
    """One that is copied."""

    kind: str
    codec: str
    language: str
    title: str | None
    disposition: int
    packets: list[bytes]
    times: list[Fraction]
    durations: list[Fraction]


@dataclass(frozen=True)
class Contents:
    """What PyAV finds in a file."""

    times: list[Fraction]
    """Of the frames of the video, in seconds."""
    means: list[list[float]]
    """Per frame, the mean of every plane."""
    pixel_format: str
    size: tuple[int, int]
    tags: tuple[int, int, int, int]
    """Matrix, range, primaries, transfer."""
    aspect: Fraction
    rotation: int
    language: str
    disposition: int
    duration: Fraction
    """Of the whole file, in seconds."""
    tracks: list[Track]
    chapters: list[tuple[Fraction, Fraction, dict[str, str]]]
    metadata: dict[str, str]


def contents(path: Path) -> Contents:
    with av.open(str(path)) as file:
        video = file.streams.video[0]
        context = video.codec_context
        tags = (context.colorspace, context.color_range, context.color_primaries, context.color_trc)
        frames = list(file.decode(video))
        rotation = frames[0].rotation if frames else 0
        chapters = [
            (chapter["start"] * chapter["time_base"], chapter["end"] * chapter["time_base"], chapter["metadata"])
            for chapter in file.chapters()
        ]
        found = Contents(
            [frame.pts * frame.time_base for frame in frames],
            [[float(plane.mean()) for plane in planes(frame)] for frame in frames],
            context.pix_fmt or "",
            (context.height, context.width),
            tags,
            video.sample_aspect_ratio or Fraction(1),
            rotation,
            video.language or "und",
            int(video.disposition),
            Fraction(file.duration or 0, av.time_base),
            [],
            chapters,
            {key.lower(): value for key, value in file.metadata.items()},
        )
    with av.open(str(path)) as file:
        streams = [stream for stream in file.streams if stream.type in ("audio", "subtitle")]
        rows: dict[int, list[tuple[bytes, Fraction, Fraction]]] = {stream.index: [] for stream in streams}
        for packet in file.demux(*streams) if streams else ():
            if packet.size:
                times = packet.pts * packet.time_base, packet.duration * packet.time_base
                rows[packet.stream.index].append((bytes(packet), *times))
        for stream in streams:
            found.tracks.append(
                Track(
                    stream.type,
                    stream.codec_context.codec.canonical_name,
                    stream.language or "und",
                    stream.metadata.get("title"),
                    int(stream.disposition),
                    *(list(column) for column in zip(*rows[stream.index], strict=True)),
                )
            )
    return found


def planes(frame: av.VideoFrame) -> list[np.ndarray]:
    """Code values of every plane, (H, W) each."""
    kind = np.uint8 if frame.format.components[0].bits == 8 else np.uint16
    return [np.frombuffer(bytes(p), kind).reshape(p.height, -1)[:, : p.width] for p in frame.planes]
