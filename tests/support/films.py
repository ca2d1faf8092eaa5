"""Short films with a track of sound or subtitles in codecs that are rare in files made for tests."""

from __future__ import annotations

import shutil
import struct
import subprocess
from collections.abc import Iterator
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from ksnet_deploy.video.writing.encoder import Encoder
from ksnet_deploy.video.writing.presets import choose_encoder

__all__ = [
    "CLICKS_S",
    "FFMPEG",
    "SOUNDS",
    "SUBTITLES",
    "clicks_of",
    "encoder_for",
    "film_with_sound",
    "film_with_subtitles",
    "first_picture_s",
    "wave",
]

FFMPEG = shutil.which("ffmpeg")
LENGTH_S = 1.2
CLICKS_S = (0.3, 0.9)
"""When a short tone is heard; the rest is silent."""
SOUNDS = {
    "dts": (".mkv", "dca", 48000, 2),
    "truehd": (".mkv", "truehd", 48000, 2),
    "eac3": (".mkv", "eac3", 48000, 2),
    "wmav2": (".wmv", "wmav2", 44100, 2),
    "adpcm": (".avi", "adpcm_ima_wav", 48000, 2),
    "amr": (".3gp", "libopencore_amrnb", 8000, 1),
    "pcm_bluray": (".m2ts", "pcm_bluray", 48000, 2),
    "opus": (".mkv", "libopus", 48000, 2),
    "vorbis": (".mkv", "vorbis", 44100, 2),
    "flac": (".mkv", "flac", 44100, 1),
    "tta": (".mkv", "tta", 48000, 2),
    "unknown": (".mov", "pcm_s16le", 48000, 2),
}
"""Suffix of the container, FFmpeg's encoder, rate and channels."""
BY_PROGRAM = ("dca", "truehd")
"""Encoders that PyAV comes without."""
SUBTITLES = {
    "srt": (".mkv", "subrip", b"Hello <i>you</i>"),
    "ass": (".mkv", "ass", b"0,Default,,0,0,0,,Hello {\\i1}you{\\i0}"),
    "mov_text": (".mp4", "mov_text", struct.pack(">H", 9) + b"Hello you"),
    "webvtt": (".mkv", "webvtt", b"Hello <i>you</i>"),
    "pgs": (".mkv", "hdmv_pgs_subtitle", bytes.fromhex("16000b0060004010000080000000 800000".replace(" ", ""))),
    "vobsub": (".mkv", "dvd_subtitle", bytes.fromhex("000c0004 0000 0004 ff00ff00".replace(" ", ""))),
    "dvb": (".ts", "dvb_subtitle", bytes.fromhex("2000 0f10 0001 0002 0500 0f80 0001 0000 ff".replace(" ", ""))),
    "eia_608": (".mov", "eia_608", b""),
}
"""Suffix of the container, FFmpeg's codec, and a packet of it; captions are built up of several."""
TEXTS_MS = ((200, 300), (700, 200))
"""When the subtitles begin, and for how long they are shown."""


def wave(rate: int, channels: int, length_s: float = LENGTH_S, clicks_s: tuple[float, ...] = CLICKS_S) -> NDArray[Any]:
    """(channels, samples), in [-1, 1]."""
    time = np.arange(round(rate * length_s)) / rate
    mono = sum(np.sin(2 * np.pi * 700 * (time - c)) * ((time >= c) & (time < c + 0.04)) for c in clicks_s) * 0.7
    return np.repeat(np.asarray(mono, np.float32)[None], channels, axis=0)


@cache
def encoder_for(suffix: str) -> Encoder:
    return choose_encoder("vp9", speed="8") if suffix == ".webm" else choose_encoder("h264", speed="ultrafast")


def first_picture_s(path: Path) -> float:
    with av.open(str(path)) as file:
        return float(next(file.decode(video=0)).time)


def clicks_of(path: Path) -> list[float]:
    """Seconds at which the tones of a file's first sound begin, by the file's clock."""
    with av.open(str(path)) as file:
        found, loud, start = [], -1.0, 0.0
        for frame in file.decode(audio=0):
            assert isinstance(frame, av.AudioFrame)
            (mono,) = av.AudioResampler(format="fltp", layout="mono", rate=frame.sample_rate).resample(frame)
            if frame.pts is not None:  # else it follows the one before
                start = float(frame.pts * frame.time_base)
            for index in np.flatnonzero(np.abs(mono.to_ndarray()[0]) > 0.12):
                time = start + float(index) / frame.sample_rate
                if time - loud > 0.1:
                    found.append(time)
                loud = time
            start += frame.samples / frame.sample_rate
    return found


def _add_video(file: Any, codec: str = "mpeg4") -> Any:
    stream = file.add_stream(codec, rate=25)
    stream.height, stream.width, stream.pix_fmt = 32, 48, "yuv420p"
    stream.codec_context.colorspace, stream.codec_context.color_range = 6, 1
    return stream


def _pictures(stream: Any, count: int) -> Iterator[Any]:
    for index in range(count):
        frame = av.VideoFrame.from_ndarray(np.full((32, 48, 3), 20 + 3 * (index % 70), np.uint8)).reformat(
            format="yuv420p"
        )
        frame.pts, frame.time_base = index, Fraction(1, 25)
        yield from stream.encode(frame)
    yield from stream.encode(None)


def film_with_sound(folder: Path, kind: str, data: NDArray[Any] | None = None) -> Path:
    """A film of about a second with a track of sound of a kind, one of SOUNDS."""
    suffix, codec, rate, channels = SOUNDS[kind]
    layout = "mono" if channels == 1 else "stereo"
    path = folder / f"{kind}{suffix}"
    data = wave(rate, channels) if data is None else data
    if codec in BY_PROGRAM:
        return _film_by_program(path, codec, rate, data)
    options = {"mpegts_m2ts_mode": "1"} if suffix == ".m2ts" else {}
    with av.open(str(path), "w", format="mpegts" if suffix == ".m2ts" else None, options=options) as file:
        video = _add_video(file, "libx264" if suffix == ".m2ts" else "mpeg4")
        sound: Any = file.add_stream(codec, rate=rate, layout=layout, options={"strict": "-2"})
        packets = list(_pictures(video, round(data.shape[1] / rate * 25)))
        if (bit_rate := {"libopencore_amrnb": 12_200, "wmav2": 128_000}.get(codec)) is not None:
            sound.codec_context.bit_rate = bit_rate
        file.start_encoding()
        size = sound.codec_context.frame_size or 1024
        for start in range(0, data.shape[1], size):
            part = av.AudioFrame.from_ndarray(np.ascontiguousarray(data[:, start : start + size]), "fltp", layout)
            part.sample_rate, part.pts, part.time_base = rate, start, Fraction(1, rate)
            packets += sound.encode(part)
        packets += sound.encode(None)
        for packet in sorted(packets, key=lambda p: p.dts * p.time_base):
            file.mux(packet)
    if kind == "unknown":
        path.write_bytes(path.read_bytes().replace(b"sowt", b"zzzz"))
    return path


def _film_by_program(path: Path, codec: str, rate: int, data: NDArray[Any]) -> Path:
    if FFMPEG is None:
        pytest.skip(f"PyAV has no encoder {codec}, and the ffmpeg program is not installed")
    picture = ["-f", "lavfi", "-i", f"color=s=48x32:r=25:d={data.shape[1] / rate}"]
    sound = ["-f", "f32le", "-ar", str(rate), "-ac", str(data.shape[0]), "-i", "-"]
    how = ["-c:v", "mpeg4", "-c:a", codec, "-strict", "-2", "-shortest", str(path)]
    command = [FFMPEG, "-v", "error", "-y", *picture, *sound, *how]
    subprocess.run(command, input=np.ascontiguousarray(data.T).tobytes(), check=True)
    return path


def _captions(begin_ms: int, duration_ms: int) -> list[tuple[int, int, bytes]]:
    """Packets of one caption (ANSI/CTA-608-E): its words, unseen; then the command to show them; then to clear them."""
    load = b"\x14\x20\x14\x2e\x14\x70" + b"Hello you "
    commands = [(begin_ms - 100, load), (begin_ms, b"\x14\x2f"), (begin_ms + duration_ms, b"\x14\x2c")]
    odd = [(at, bytes(b | (b.bit_count() % 2 == 0) << 7 for b in data)) for at, data in commands]
    return [(at, 40, b"".join(b"\xfc" + data[i : i + 2] for i in range(0, len(data), 2))) for at, data in odd]


def film_with_subtitles(folder: Path, kind: str) -> Path:
    """A film of a second with two subtitles of a kind, one of SUBTITLES."""
    suffix, codec, content = SUBTITLES[kind]
    path = folder / f"{kind}{suffix}"
    with av.open(str(path), "w") as file:
        video = _add_video(file, "libx264" if suffix == ".ts" else "mpeg4")
        text: Any
        if codec == "ass":
            text = file.add_stream("ass")
            text.codec_context.subtitle_header = (
                b"[Script Info]\nScriptType: v4.00+\n\n[V4+ Styles]\nFormat: Name, Fontname\nStyle: Default,Arial\n\n"
                b"[Events]\nFormat: Layer, Start, End, Style, Name, MarginL, MarginR, MarginV, Effect, Text\n"
            )
        else:
            text = file.add_mux_stream(codec)
        text.time_base = Fraction(1, 1000)
        packets = list(_pictures(video, 25))
        shown = [(begin, duration, content) for begin, duration in TEXTS_MS]
        if codec == "eia_608":
            shown = [each for begin, duration in TEXTS_MS for each in _captions(begin, duration)][:-1]
        for number, (begin, duration, words) in enumerate(shown):
            packet = av.Packet(str(number).encode() + b"," + words if codec == "ass" else words)
            packet.stream, packet.time_base = text, Fraction(1, 1000)
            packet.pts = packet.dts = begin
            packet.duration = duration
            packets.append(packet)
        for packet in sorted(packets, key=lambda p: p.dts * p.time_base):
            file.mux(packet)
    return path
