"""The cases of ``torture.py``: whole videos, videos that change their pixels' layout, damaged ones, and one to cut."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from typing import Any

from torture import Case, Sound

from ksnet_deploy.base.frames import FrameSize

__all__ = ["AVI", "CONVERTED", "DAMAGED", "MKV", "MOV", "MP4", "PARTS", "TS", "WEBM", "WHOLE"]


def steady(frames: int, step: int = 512, start: int = 0) -> tuple[int, ...]:
    """Presentation times at a constant rate."""
    return tuple(start + step * index for index in range(frames))


def cut_at(share: float) -> Callable[[bytes], bytes]:
    """Damage: the file ends there."""
    return lambda content: content[: int(len(content) * share)]


def overwritten_at(share: float, length: int = 120) -> Callable[[bytes], bytes]:
    """Damage: bytes that mean nothing, from there on."""

    def damage(content: bytes) -> bytes:
        at = int(len(content) * share)
        return content[:at] + b"\xff" * length + content[at + length :]

    return damage


MP4, MOV, MKV, WEBM, AVI, TS = ".mp4", ".mov", ".mkv", ".webm", ".avi", ".ts"
B_FRAMES = {"bf": "3", "b-adapt": "0", "x264-params": "b-pyramid=normal"}
TWO_SOUNDS = (Sound(language="deu", default=False), Sound(language="fra", default=True))
OPUS = (Sound("libopus", "jpn"),)
WEB: dict[str, Any] = {
    "codec": "libvpx-vp9",
    "options": {"deadline": "realtime", "cpu-used": "8"},
    "sounds": (Sound("libopus", "jpn", default=False), Sound("libopus", "eng")),
    "subtitles": "webvtt",
    "chapters": True,
    "metadata": {"title": "Web"},
    "matrix": 1,
    "primaries": 1,
    "transfer": 1,
}
"""All that WebM holds."""
VP9 = {"deadline": "realtime", "cpu-used": "8"}
UNEVEN = (0, 512, 1500, 1512, 4000, 9000, 9100, 9700, 15000, 15010)
TICKS_90K = Fraction(1, 90000)


def _in_all(name: str, *suffixes: str, **what: Any) -> list[Case]:
    return [Case(name, suffix, **what) for suffix in suffixes]


WHOLE = [
    *_in_all("uneven", MP4, MOV, MKV, pts=UNEVEN, sounds=(Sound(),)),
    *_in_all(
        "23.976",
        MP4,
        MKV,
        rate=Fraction(24000, 1001),
        clock=Fraction(1, 24000),
        pts=steady(24, 1001),
        sounds=(Sound(),),
    ),
    *_in_all("59.94", MP4, MKV, rate=Fraction(60000, 1001), clock=Fraction(1, 60000), pts=steady(24, 1001)),
    *_in_all("late start", MP4, MOV, MKV, pts=steady(20, start=6000), sounds=(Sound(),)),
    *_in_all("early start", MP4, MOV, MKV, pts=steady(24, start=-4 * 512), sounds=(Sound(),)),
    *_in_all("long last frame", MP4, MOV, MKV, last=7000, options={"bf": "0"}),
    *_in_all("early sound", MP4, MKV, pts=steady(20, start=6000), sounds=(Sound(delay_s=-0.4),)),
    *_in_all("late sound", MP4, MKV, sounds=(Sound(delay_s=0.2),)),
    *_in_all("b frames", MP4, MKV, pts=steady(30), options=B_FRAMES, sounds=(Sound(),)),
    *_in_all("b frames", TS, clock=TICKS_90K, pts=steady(30, 3600), options=B_FRAMES, sounds=(Sound(),), target=MKV),
    Case(
        "b frames",
        AVI,
        clock=Fraction(1, 25),
        pts=steady(30, 1),
        options=B_FRAMES,
        sounds=(Sound("libmp3lame", "und"),),
        target=MKV,
    ),
    *_in_all("two sounds", MP4, MOV, MKV, sounds=TWO_SOUNDS),
    *_in_all("subtitles", MP4, MOV, subtitles="mov_text", sounds=(Sound(),)),
    Case("subtitles", MKV, subtitles="subrip", sounds=(Sound("flac"),)),
    *_in_all("chapters", MP4, MOV, MKV, chapters=True, metadata={"title": "Äpfel & Birnen", "comment": "a\nb"}),
    *_in_all("rotated", MP4, MOV, MKV, rotation=90),
    *_in_all("wide pixels", MP4, MKV, aspect=Fraction(4, 3)),
    *_in_all("wide pixels", TS, clock=TICKS_90K, pts=steady(20, 3600), aspect=Fraction(4, 3), target=MKV),
    *_in_all("odd size", MP4, MKV, size=FrameSize(67, 101), pixel_format="yuv444p"),
    *_in_all("portrait", MP4, size=FrameSize(64, 36)),
    *_in_all("tiny", MP4, MKV, size=FrameSize(16, 16)),
    *_in_all("one frame", MP4, MOV, MKV, pts=(0,)),
    *_in_all("ten bits", MP4, MKV, pixel_format="yuv420p10le"),
    *_in_all("422", MP4, pixel_format="yuv422p"),
    *_in_all("422 ten bits", MOV, codec="prores_ks", pixel_format="yuv422p10le"),
    *_in_all("444", MP4, pixel_format="yuv444p"),
    *_in_all("444 ten bits", MKV, codec="ffv1", pixel_format="yuv444p10le"),
    *_in_all("full range", MP4, MKV, colour_range=2, matrix=1, primaries=1, transfer=1),
    *_in_all("full range ten bits", MKV, pixel_format="yuv420p10le", colour_range=2),
    *_in_all("bt709", MP4, MKV, matrix=1, primaries=1, transfer=1),
    *_in_all("bt709", TS, clock=TICKS_90K, pts=steady(20, 3600), matrix=1, primaries=1, transfer=1, target=MKV),
    *_in_all("bt601", MP4, MKV, matrix=6, primaries=6, transfer=6),
    *_in_all("pal", MP4, MKV, matrix=5, primaries=5, transfer=6),
    *_in_all("bt2020", MP4, MKV, pixel_format="yuv420p10le", matrix=9, primaries=9, transfer=14),
    *_in_all("pq", MP4, MKV, pixel_format="yuv420p10le", matrix=9, primaries=9, transfer=16),
    *_in_all("hlg", MP4, MKV, pixel_format="yuv420p10le", matrix=9, primaries=9, transfer=18),
    Case("interlaced", MP4, options={"x264-params": "tff=1"}),
    Case("vp9", WEBM, codec="libvpx-vp9", options=VP9, sounds=OPUS, metadata={"title": "Web"}, target=MKV),
    Case("vp9", MP4, codec="libvpx-vp9", options=VP9, sounds=OPUS),
    Case("av1", WEBM, codec="libsvtav1", size=FrameSize(64, 96), options={"preset": "12"}, sounds=OPUS, target=MKV),
    Case("to vp9", WEBM, pts=UNEVEN, encoder="vp9", **WEB),
    Case("to vp9 turned", WEBM, rotation=90, colour_range=2, encoder="libvpx-vp9", **WEB),
    Case("to vp9", MP4, pixel_format="yuv422p", aspect=Fraction(4, 3), encoder="vp9", sounds=(Sound(),)),
    Case("to av1", WEBM, pts=UNEVEN, encoder="av1", **WEB),
    Case("mpeg4", AVI, codec="mpeg4", clock=Fraction(1, 25), pts=steady(20, 1), target=MKV),
    Case("mpeg2", TS, codec="mpeg2video", clock=Fraction(1, 25), pts=steady(20, 1), sounds=(Sound("ac3"),), target=MKV),
    Case("mjpeg", MOV, codec="mjpeg", pixel_format="yuvj420p", colour_range=2, matrix=5),
]
"""Unharmed videos, of which everything must come through."""

CONVERTED = [
    Case("grey", MKV, codec="ffv1", pixel_format="gray", colour_range=2),
    Case(
        "rgb", AVI, clock=Fraction(1, 25), pts=steady(20, 1), codec="utvideo", pixel_format="gbrp", matrix=0, target=MKV
    ),
    Case("rgb ten bits", MKV, codec="ffv1", pixel_format="gbrp10le", matrix=0, colour_range=2),
    Case("alpha", MKV, codec="ffv1", pixel_format="yuva420p"),
    Case(
        "rgb alpha",
        AVI,
        clock=Fraction(1, 25),
        pts=steady(20, 1),
        codec="utvideo",
        pixel_format="gbrap",
        matrix=0,
        target=MKV,
    ),
]
"""Those whose pixels the output keeps in another layout."""

LONG = steady(40)
DAMAGED = [
    Case("no times", ".h264", pts=LONG),
    *_in_all("corrupt packet", MP4, codec="mpeg4", size=FrameSize(64, 96), pts=LONG, damage=overwritten_at(0.5)),
    *_in_all("corrupt packet", MKV, AVI, codec="mpeg4", size=FrameSize(64, 96), pts=LONG, damage=overwritten_at(0.5)),
    *_in_all(
        "corrupt packet", TS, clock=TICKS_90K, pts=steady(40, 3600), sounds=(Sound(),), damage=overwritten_at(0.5)
    ),
    *_in_all("truncated", MP4, MOV, MKV, pts=LONG, sounds=(Sound(),), damage=cut_at(0.7)),
    *_in_all("truncated", TS, clock=TICKS_90K, pts=steady(40, 3600), sounds=(Sound(),), damage=cut_at(0.7)),
    Case("truncated", WEBM, codec="libvpx-vp9", options=VP9, pts=LONG, sounds=OPUS, damage=cut_at(0.7)),
]
"""Of which some frames cannot be decoded."""

PARTS = [
    *_in_all("part", MP4, MKV, pts=steady(50), sounds=(Sound(),), chapters=True, options={"g": "12", **B_FRAMES}),
    Case("part", AVI, codec="mpeg4", clock=Fraction(1, 25), pts=steady(50, 1), sounds=(Sound("libmp3lame", "und"),)),
    Case("part", TS, clock=TICKS_90K, pts=steady(50, 3600), sounds=(Sound(),), options={"g": "12", **B_FRAMES}),
]
"""Two seconds, of which a part is taken."""
