"""Side data of decoded frames: HDR metadata, which some encoders can take on, and what none can."""

from __future__ import annotations

import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, NamedTuple

from av.filter import Graph
from av.sidedata.sidedata import Type
from av.video.frame import VideoFrame

from ksnet_deploy.video.orientation import DisplayMatrix

__all__ = ["ContentLight", "HdrMetadata", "MasteringDisplay", "display_matrix", "named_side_data", "shape_of_pixels"]

NAMES = {
    Type.MASTERING_DISPLAY_METADATA: "the description of the mastering display",
    Type.CONTENT_LIGHT_LEVEL: "the content light level",
    Type.DYNAMIC_HDR_PLUS: "HDR10+ metadata",
    Type.DOVI_METADATA: "Dolby Vision metadata",
    Type.DOVI_RPU_BUFFER: "Dolby Vision metadata",
    Type.A53_CC: "closed captions in the picture",
}
"""Names of the side data that is worth a word where it is lost."""


_CAPTIONS = (b"\xb5\x00\x31GA94\x03", b"\x00\x00\x01\xb2GA94\x03")
"""Beginnings of captions (EIA-608, CEA-708) in a packet of H.264 or HEVC, and in one of MPEG-2 (ATSC A/53 Part 4)."""


def captions_in(packet: bytes) -> list[str]:
    """Names, as in :func:`named_side_data`, of the captions in a coded picture, which may begin anywhere in a film."""
    return [NAMES[Type.A53_CC]] if any(start in packet for start in _CAPTIONS) else []


def named_side_data(frame: VideoFrame) -> list[str]:
    """Names of what a frame carries and a user may miss."""
    return list(dict.fromkeys(NAMES[kind] for kind in _side_data(frame) if kind in NAMES))


def _side_data(frame: VideoFrame) -> dict[Type, bytes]:
    """Side data of a frame, of the kinds that have a name here.

    A frame that was asked is a reference cycle, and so stays in memory until Python's collector comes by; so not every
    frame of a video should be.
    """
    carried: Any = _known_to_pyav(frame).side_data
    return {kind: bytes(carried[kind]) for kind in (*NAMES, Type.DISPLAYMATRIX) if kind in carried}


def _without(frame: VideoFrame, kind: int) -> VideoFrame:
    """The frame without its side data of a kind, a number of FFmpeg's AVFrameSideDataType."""
    graph = Graph()
    source = graph.add_buffer(width=frame.width, height=frame.height, format=frame.format, time_base=Fraction(1, 25))
    filtered, sink = graph.add("sidedata", f"mode=delete:type={kind}"), graph.add("buffersink")
    source.link_to(filtered)
    filtered.link_to(sink)
    graph.configure()
    source.push(frame)
    return graph.vpull()


def _known_to_pyav(frame: VideoFrame) -> VideoFrame:
    """The frame without what PyAV 18 does not know, such as a photo's EXIF: with it, PyAV gives out nothing. A colour
    profile goes too: once PyAV was asked for that of a PNG, Python's collector crashes."""
    profile: Any = Type.ICC_PROFILE.value
    frame = _without(frame, int(profile))
    while True:
        try:
            _ = frame.side_data
        except ValueError as error:
            number = re.match(r"\d+", str(error))
            if number is None:
                raise
            frame = _without(frame, int(number[0]))
        else:
            return frame


def display_matrix(frame: VideoFrame) -> DisplayMatrix | None:
    """Matrix that says how the frame is to be turned; None for as it is."""
    found = _side_data(frame).get(Type.DISPLAYMATRIX)
    return None if found is None else DisplayMatrix.parse(found)


def shape_of_pixels(aspect: Fraction) -> str:
    """Name of what is lost where pixels of an aspect are taken for square."""
    return f"the pixels' shape of {aspect.numerator}:{aspect.denominator}"


class MasteringDisplay(NamedTuple):
    """The display on which the colours were judged (SMPTE ST 2086)."""

    primaries: tuple[tuple[Fraction, Fraction], ...]
    """CIE 1931 (x, y) of red, green and blue."""
    white: tuple[Fraction, Fraction]
    least: Fraction
    """Luminance of the display's black in cd/m2."""
    greatest: Fraction
    """Luminance of the display's white in cd/m2."""


class ContentLight(NamedTuple):
    """Brightness of the video (CTA-861.3), in cd/m2."""

    greatest: int
    """Brightness of the brightest pixel: MaxCLL."""
    greatest_mean: int
    """Mean brightness of the brightest frame: MaxFALL."""


class _Parameters(NamedTuple):
    """Names and units by which an encoder is told of both."""

    option: str
    """Name of FFmpeg's option, which holds the encoder's own parameters."""
    display: str
    light: str
    steps: tuple[int, int] | None
    """Steps in a unit of the coordinates and of the luminance; None for decimal fractions."""


_PARAMETERS = {
    "libx264": _Parameters("x264-params", "mastering-display", "cll", (50_000, 10_000)),
    "libx265": _Parameters("x265-params", "master-display", "max-cll", (50_000, 10_000)),
    "libsvtav1": _Parameters("svtav1-params", "mastering-display", "content-light", None),
}
"""Parameters by FFmpeg's name of the encoder; the others cannot be told through PyAV, which gives them no side data."""


@dataclass(frozen=True)
class HdrMetadata:
    """Static HDR metadata. Upscaling changes neither the display it was made on nor how bright it is."""

    display: MasteringDisplay | None = None
    light: ContentLight | None = None

    @classmethod
    def of(cls, frame: VideoFrame) -> HdrMetadata:
        """HDR metadata of a frame; a display that is described in part only counts as not described."""
        carried = _side_data(frame)
        display, light = carried.get(Type.MASTERING_DISPLAY_METADATA), carried.get(Type.CONTENT_LIGHT_LEVEL)
        return cls(
            None if display is None else _display(display),
            None if light is None else ContentLight(*struct.unpack_from("2I", light)),
        )

    def kept_by(self, codec: str) -> list[str]:
        """Names, as in :func:`named_side_data`, of what a video of this encoder says."""
        if codec not in _PARAMETERS:
            return []
        found = {Type.MASTERING_DISPLAY_METADATA: self.display, Type.CONTENT_LIGHT_LEVEL: self.light}
        return [NAMES[kind] for kind, value in found.items() if value is not None]

    def told(self, codec: str, options: Mapping[str, str]) -> dict[str, str]:
        """An encoder's options, and in them this metadata where the encoder takes it."""
        parameters = _PARAMETERS.get(codec)
        if parameters is None:
            return dict(options)
        said = [options[parameters.option]] if parameters.option in options else []
        if self.display is not None:
            said.append(f"{parameters.display}={_in_words(self.display, parameters.steps)}")
        if self.light is not None:
            said.append(f"{parameters.light}={self.light.greatest},{self.light.greatest_mean}")
        return {**options, parameters.option: ":".join(said)} if said else dict(options)


def _display(data: bytes) -> MasteringDisplay | None:
    """FFmpeg's AVMasteringDisplayMetadata: ten fractions, then whether there are colours, and luminances, in it."""
    *numbers, has_colours, has_luminances = struct.unpack_from("22i", data)
    if not (has_colours and has_luminances) or 0 in numbers[1::2]:
        return None
    values = [Fraction(*pair) for pair in zip(numbers[::2], numbers[1::2], strict=True)]
    points = tuple(zip(values[0:8:2], values[1:8:2], strict=True))
    return MasteringDisplay(points[:3], points[3], values[8], values[9])


def _in_words(display: MasteringDisplay, steps: tuple[int, int] | None) -> str:
    """Text such as ``G(13250,34500)B(7500,3000)R(34000,16000)WP(15635,16450)L(10000000,50)``."""

    def number(value: Fraction, kind: int) -> str:
        return repr(float(value)) if steps is None else str(round(value * steps[kind]))

    red, green, blue = display.primaries
    points = {"G": green, "B": blue, "R": red, "WP": display.white}
    colours = "".join(f"{name}({number(x, 0)},{number(y, 0)})" for name, (x, y) in points.items())
    return f"{colours}L({number(display.greatest, 1)},{number(display.least, 1)})"
