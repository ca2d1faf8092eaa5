"""Encoders of the output video: presets by name, what FFmpeg offers besides, and which of them work on this machine.

A preset is one of FFmpeg's encoders with settings whose loss is hard to see. :func:`choose_encoder` makes an
:class:`Encoder` of the name of a preset or of an FFmpeg encoder; :func:`available_encoders` tries the presets out.
Encoders in hardware are tried in a process of their own, because a driver may end the process that opens it; their
presets have not yet been run on such hardware. VAAPI has none, because it takes frames only from the GPU's memory.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field

import av
import av.codec.codec
import numpy as np
from av.codec.codec import Capabilities
from av.codec.context import CodecOption, OptionType

from ksnet_deploy.base.errors import OutputError
from ksnet_deploy.base.frames import FrameSize
from ksnet_deploy.video.colour import Chroma
from ksnet_deploy.video.writing.encoder import Encoder, PixelFormat
from ksnet_deploy.video.writing.trial import try_out

__all__ = ["DEFAULT_ENCODER", "PRESETS", "available_encoders", "choose_encoder", "software_presets"]
_CHROMA_OF_BLOCK: dict[tuple[int, int], Chroma] = {(8, 8): "420", (16, 8): "422", (16, 16): "444"}
"""Chroma by the (height, width) in its samples of 16x16 pixels."""

# libsvtav1 asks for this before it prints; at 0 it prints only why it must end the process. A user's choice stands.
os.environ.setdefault("SVT_LOG", "0")

_ANY = FrameSize(1, 1)
# libx265 4.2 writes past the end of a buffer of its lookahead on frames of up to 48 columns, libsvtav1 4.1 crashes with
# a checking allocator on frames of up to 24, and libx265 refuses fewer than 16 rows.
_SOUND = FrameSize(16, 64)
_QSV_SPEEDS = ("veryfast", "faster", "fast", "medium", "slow", "slower", "veryslow")
_X26X_SPEEDS = ("ultrafast", "superfast", *_QSV_SPEEDS, "placebo")


@dataclass(frozen=True)
class _Settings:
    """Known settings of one of FFmpeg's encoders."""

    codec: str
    quality_option: str | None = None
    qualities: tuple[float, float] = (0, 51)
    """Least and greatest quality. Zero is left out where the encoder takes it for "not given"."""
    quality: int | None = None
    """Quality unless another is given."""
    quality_unit: int = 1
    """Units of FFmpeg's option to one step."""
    speed_option: str | None = "preset"
    speeds: tuple[str, ...] = ()
    """Speeds that there are; empty where only the encoder knows."""
    speed: str | None = None
    """Speed unless another is given."""
    options: Mapping[str, str] = field(default_factory=dict)
    """Options that are always given."""
    least: FrameSize = _ANY


def _has_avx512() -> bool:
    features: dict[str, list[str]] = np.show_config(mode="dicts")["SIMD Extensions"]  # type: ignore[assignment]
    return any("AVX512" in name or name == "X86_V4" for name in features.get("found", []))


# x264's AVX-512 code for the macroblock tree reads memory that was never written where a frame is not a multiple of
# 128 pixels wide, so that two runs differ (x264 165: 64x96 and 416x672 do, 256x384 does not). The code for AVX2 has
# no such fault, and the same speed. x264 does not check the list, so it is given only where the processor has more.
_SAFE_X264 = ":asm=MMX2,SSE2Fast,SSSE3,SSE4.2,AVX,FMA3,BMI2,AVX2" if _has_avx512() else ""


def _x26x(codec: str, quality: int, options: Mapping[str, str], least: FrameSize = _ANY) -> _Settings:
    return _Settings(codec, "crf", quality=quality, speeds=_X26X_SPEEDS, options=options, least=least)


def _nvenc(codec: str, quality: int, worst: int = 51) -> _Settings:
    options = {"rc": "vbr", "b": "0", "tune": "hq"}  # without a bit rate, cq alone rules
    return _Settings(codec, "cq", (1, worst), quality, speeds=tuple(f"p{i}" for i in range(1, 8)), options=options)


def _qsv(codec: str, quality: int) -> _Settings:
    return _Settings(codec, "global_quality", (1, 51), quality, speeds=_QSV_SPEEDS)


def _videotoolbox(codec: str) -> _Settings:
    """Settings of a VideoToolbox encoder: quality from 1 to 100, which FFmpeg takes in lambdas, 118 to the step."""
    return _Settings(codec, "global_quality", (1, 100), 65, 118, speed_option=None, options={"flags": "+qscale"})


DEFAULT_ENCODER = "h264"
"""Preset that is taken where none is named."""
_PRESETS = {
    # PyAV's default is a slice per core in every frame, which takes more bits the more cores there are; and the bytes
    # depend on the number of threads, which by default is that of the cores and a half.
    "h264": _x26x("libx264", 18, {"threads": "4", "x264-params": f"sliced-threads=0{_SAFE_X264}"}),
    # Without info=0 the header names the number of threads, and so differs between machines.
    "hevc": _x26x("libx265", 20, {"x265-params": "log-level=none:info=0"}, _SOUND),
    "av1": _Settings("libsvtav1", "crf", (1, 63), 24, speeds=tuple(map(str, range(14))), speed="6", least=_SOUND),
    # Rows in threads of their own (row-mt) would make the bytes depend on the number of threads.
    "vp9": _Settings(
        "libvpx-vp9",
        "crf",
        (0, 63),
        26,
        speed_option="cpu-used",
        speeds=tuple(map(str, range(9))),
        speed="2",
        options={"b": "0", "row-mt": "0"},
    ),
    # Its profile follows from the pixel format: HQ for 4:2:2, 4444 for 4:4:4.
    "prores": _Settings("prores_ks", speed_option=None),
    "ffv1": _Settings("ffv1", speed_option=None, options={"level": "3", "slicecrc": "1"}),
    "h264-nvenc": _nvenc("h264_nvenc", 19),
    "hevc-nvenc": _nvenc("hevc_nvenc", 21),
    "av1-nvenc": _nvenc("av1_nvenc", 26, worst=63),
    "h264-qsv": _qsv("h264_qsv", 19),
    "hevc-qsv": _qsv("hevc_qsv", 21),
    "av1-qsv": _qsv("av1_qsv", 24),
    "h264-videotoolbox": _videotoolbox("h264_videotoolbox"),
    "hevc-videotoolbox": _videotoolbox("hevc_videotoolbox"),
}
PRESETS = tuple(_PRESETS)
"""Names of the presets, software first."""
ALIASES = {"h265": "hevc", "x264": "h264", "x265": "hevc"}
"""Other names that people know presets by."""

_CONTAINERS: dict[str, tuple[str, ...]] = {
    "h264": (".mp4", ".mkv", ".mov", ".m4v"),
    "hevc": (".mp4", ".mkv", ".mov", ".m4v"),
    "vp9": (".webm", ".mkv", ".mp4", ".m4v"),
    "av1": (".mp4", ".mkv", ".webm", ".m4v"),  # FFmpeg lists it for .mov too, and refuses it when the header is written
    "prores": (".mov", ".mkv"),
}
"""Containers by the name of the compression; for others Matroska."""
_TAGS = {"hevc": "hvc1"}
"""Four-character codes. Apple's players take HEVC in MP4 and MOV under this one only; FFmpeg's default is hev1."""


def choose_encoder(
    name: str, *, quality: int | None = None, speed: str | None = None, pixel_format: str | None = None
) -> Encoder:
    """The encoder of a name, with its settings.

    Args:
        name: a preset, or any FFmpeg encoder that takes Y'CbCr frames; one in hardware is tried out.
        quality: constant quality on the encoder's own scale, where lower is better (except with VideoToolbox); None
            for the preset's default.
        speed: the encoder's trade of speed for size in its own words, such as ``slow``; None for the default.
        pixel_format: FFmpeg's name of the layout of the frames that it is given, such as ``yuv444p10le``; None for
            what suits the source.

    Raises:
        OutputError: there is no such encoder, it does not work here, or it has no such quality, speed or layout.
    """
    name = ALIASES.get(name, name)
    settings = _PRESETS.get(name) or next((s for s in _PRESETS.values() if s.codec == name), None)
    codec = _find(settings.codec if settings else name)
    if codec is None:
        what = f"'{name}' ({settings.codec})" if settings else f"'{name}'"
        raise OutputError(f"there is no encoder {what} in this FFmpeg; {_remedy()}")
    if codec.type != "video":
        raise OutputError(f"'{name}' encodes {codec.type}, not video; {_remedy()}")
    encoder = _configured(name, settings or _read_settings(name), codec, quality, speed)
    if not encoder.formats:
        raise OutputError(f"'{name}' takes no Y'CbCr frames from memory; {_remedy()}")
    if pixel_format is not None:
        encoder = encoder.given(pixel_format)
    if codec.capabilities & (Capabilities.hardware | Capabilities.hybrid) and (problem := try_out([encoder])[name]):
        raise OutputError(f"{name} does not work here ({problem}); {_remedy()}")
    return encoder


def available_encoders() -> dict[str, str | None]:
    """Each preset, with None where it works on this machine, else the reason why it does not.

    They are tried with one frame each in a process of their own, which takes about a second.
    """
    codecs = {name: _find(settings.codec) for name, settings in _PRESETS.items()}
    tried = try_out(
        [_configured(name, _PRESETS[name], codec, None, None) for name, codec in codecs.items() if codec is not None]
    )
    return {name: tried.get(name, f"FFmpeg was built without {_PRESETS[name].codec}") for name in PRESETS}


def software_presets() -> dict[str, str]:
    """The presets that need no hardware and that this FFmpeg has, with FFmpeg's names of their encoders."""
    found = {name: settings.codec for name, settings in _PRESETS.items() if "-" not in name}
    return {name: codec for name, codec in found.items() if _find(codec) is not None}


def _find(name: str) -> av.Codec | None:
    try:
        return av.Codec(name, "w")
    except av.codec.codec.UnknownCodecError:
        return None


def _remedy() -> str:
    return f"use {', '.join(software_presets())}, or another that 'ksnet-deploy doctor' finds here"


def _read_settings(name: str) -> _Settings:
    """Settings of an encoder without a preset: the options that FFmpeg lists for it."""
    listed = {option.name: option for option in av.CodecContext.create(name, "w").supported_options.private}
    quality = next((option for option in ("crf", "cq") if option in listed), None)
    speed = next((option for option in ("preset", "cpu-used") if option in listed), None)
    return _Settings(
        name,
        quality,
        (max(listed[quality].min, 0), listed[quality].max) if quality else (0, 0),
        speed_option=speed,
        speeds=_values(listed[speed]) if speed else (),
        options={"threads": "1"},  # the bytes of some depend on it, and others spin where there are fewer cores
    )


def _values(option: CodecOption) -> tuple[str, ...]:
    if option.choices or option.type is not OptionType.INT:
        return tuple(choice.name for choice in option.choices)
    return tuple(str(value) for value in range(int(option.min), int(option.max) + 1))


def _configured(name: str, settings: _Settings, codec: av.Codec, quality: int | None, speed: str | None) -> Encoder:
    """Raises OutputError for a quality or a speed that the encoder has not."""
    options = dict(settings.options)
    if (quality := settings.quality if quality is None else quality) is not None:
        least, greatest = settings.qualities
        if settings.quality_option is None:
            raise OutputError(f"{name} has no setting for quality, but {quality} was given; leave it out")
        if not least <= quality <= greatest:
            raise OutputError(f"{name} has qualities from {least:g} to {greatest:g}, not {quality}; give one of these")
        options[settings.quality_option] = str(quality * settings.quality_unit)
    if (speed := settings.speed if speed is None else speed) is not None:
        if settings.speed_option is None:
            raise OutputError(f"{name} has no setting for speed, but '{speed}' was given; leave it out")
        if settings.speeds and speed not in settings.speeds:  # libx264 prints about it besides
            raise OutputError(f"{name} has no speed '{speed}'; give one of {', '.join(settings.speeds)}")
        options[settings.speed_option] = speed
    kind = codec.canonical_name
    containers = _CONTAINERS.get(kind, (".mkv",))
    return Encoder(name, codec.name, options, _formats(codec), containers, _TAGS.get(kind), settings.least)


def _formats(codec: av.Codec) -> tuple[PixelFormat, ...]:
    """The Y'CbCr formats without alpha that an encoder takes, as this FFmpeg lists them."""
    found = []
    for video_format in codec.video_formats or ():
        chroma = _CHROMA_OF_BLOCK.get((video_format.chroma_height(16), video_format.chroma_width(16)))
        parts = video_format.components
        colour = len(parts) == 3 and not video_format.is_rgb and not any(part.is_alpha for part in parts)
        if chroma is not None and colour and not video_format.name.startswith(("yuvj", "xyz")):
            found.append(PixelFormat(video_format.name, parts[0].bits, chroma))
    return tuple(found)
