"""What a video carries beside its pictures, such as HDR metadata: it is kept, or named as lost."""

from __future__ import annotations

import struct
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from runners import RepeatRunner
from torture import Case, contents, make
from torture_run import upscale

from ksnet_deploy.base.frames import FrameSize
from ksnet_deploy.upscale.run import upscale_video
from ksnet_deploy.upscale.upscaler import Upscaler
from ksnet_deploy.video.writing.presets import choose_encoder

DISPLAY = "G(13250,34500)B(7500,3000)R(34000,16000)WP(15635,16450)L(10000000,50)"
"""DCI-P3 with the white of D65, 0.005 to 1000 cd/m2, in x265's words."""
NUMBERS = [0.68, 0.32, 0.265, 0.69, 0.15, 0.06, 0.3127, 0.329, 0.005, 1000]
"""The same as FFmpeg lists it: red, green, blue, white, least and greatest luminance."""
LIGHT = (1000, 400)
LOST = "Not copied: the description of the mastering display, the content light level."


def hdr(codec: str, suffix: str, options: dict[str, str]) -> Case:
    return Case(
        f"hdr {codec}",
        suffix,
        codec=codec,
        pixel_format="yuv420p10le",
        size=FrameSize(64, 96),
        pts=tuple(range(0, 4 * 512, 512)),
        matrix=9,
        primaries=9,
        transfer=16,
        options=options,
    )


HEVC = hdr("libx265", ".mkv", {"x265-params": f"log-level=none:master-display={DISPLAY}:max-cll=1000,400"})
AV1 = hdr(
    "libsvtav1",
    ".webm",
    {
        "preset": "12",
        "svtav1-params": "mastering-display=G(0.265,0.69)B(0.15,0.06)R(0.68,0.32)WP(0.3127,0.329)L(1000,0.005):"
        "content-light=1000,400",
    },
)


def carried(path: Path) -> tuple[list[float] | None, tuple[int, ...] | None]:
    """Mastering display and content light of a file's first frame."""
    with av.open(str(path)) as file:
        data: Any = {item.type.name: bytes(item) for item in next(file.decode(video=0)).side_data}
    display, light = data.get("MASTERING_DISPLAY_METADATA"), data.get("CONTENT_LIGHT_LEVEL")
    numbers = struct.unpack("22i", display)[:20] if display else ()
    return (
        [a / b for a, b in zip(numbers[::2], numbers[1::2], strict=True)] or None,
        struct.unpack("2I", light) if light else None,
    )


@pytest.mark.parametrize("case", [HEVC, AV1], ids=["from hevc", "from av1"])
@pytest.mark.parametrize(
    ("encoder", "suffix"), [("h264", ".mkv"), ("hevc", ".mp4"), ("hevc", ".mkv"), ("av1", ".webm")]
)
def test_static_hdr_metadata_is_kept(tmp_path: Path, case: Case, encoder: str, suffix: str) -> None:
    source = make(case, tmp_path)
    result = upscale(source, tmp_path / f"o{suffix}", codec=choose_encoder(encoder))
    display, light = carried(result.target)
    # AV1 counts chromaticities in 1/65536, the luminance of black in 1/16384 and that of white in 1/256.
    assert display == pytest.approx(NUMBERS, abs=2 / 16384)
    assert display[-1] == 1000
    assert light == LIGHT
    assert not any("Not copied" in note for note in result.notes)


def test_hevc_keeps_static_hdr_metadata_of_hevc_to_the_digit(tmp_path: Path) -> None:
    result = upscale(make(HEVC, tmp_path), tmp_path / "o.mkv", codec=choose_encoder("hevc"))
    assert carried(result.target) == (NUMBERS, LIGHT)


@pytest.mark.parametrize(("encoder", "suffix"), [("vp9", ".webm"), ("ffv1", ".mkv"), ("prores", ".mov")])
def test_static_hdr_metadata_that_an_encoder_cannot_take_is_named(tmp_path: Path, encoder: str, suffix: str) -> None:
    result = upscale(make(HEVC, tmp_path), tmp_path / f"o{suffix}", codec=choose_encoder(encoder))
    assert carried(result.target) == (None, None)
    assert LOST in result.notes


def test_pictures_do_not_keep_hdr_metadata_and_it_is_said(tmp_path: Path) -> None:
    result = upscale_video(make(HEVC, tmp_path), tmp_path / "frames", Upscaler(open_runner=RepeatRunner))
    assert LOST in result.notes


CAPTIONS = b"GA94" + bytes.fromhex("03c1fffc8080ff")
"""One pair of bytes of EIA-608 as ATSC A/53 part 4 wraps it."""
SEI = b"\0\0\1\6\4" + bytes([3 + len(CAPTIONS)]) + bytes.fromhex("b50031") + CAPTIONS + b"\x80"
USER_DATA = b"\0\0\1\xb2" + CAPTIONS


@pytest.mark.parametrize(
    ("case", "before", "unit", "place"),
    [
        (Case("captions", ".h264", options={"x264-params": "annexb=1"}), b"\0\0\1\x65", SEI, "first"),
        (Case("captions", ".h264", options={"x264-params": "annexb=1"}), b"\0\0\1\x41", SEI, "last"),
        (
            Case("captions", ".m2v", codec="mpeg2video", clock=Fraction(1, 25), pts=tuple(range(6))),
            b"\0\0\1\1",
            USER_DATA,
            "first",
        ),
        (
            Case("captions", ".m2v", codec="mpeg2video", clock=Fraction(1, 25), pts=tuple(range(6))),
            b"\0\0\1\1",
            USER_DATA,
            "last",
        ),
    ],
    ids=["h264, first frame", "h264, a later one", "mpeg2, first frame", "mpeg2, a later one"],
)
def test_closed_captions_are_named_as_lost(tmp_path: Path, case: Case, before: bytes, unit: bytes, place: str) -> None:
    path = make(case, tmp_path)
    content = path.read_bytes()
    at = content.index(before) if place == "first" else content.rindex(before)
    path.write_bytes(content[:at] + unit + content[at:])
    with av.open(str(path)) as file:
        carrying = ["A53_CC" in {item.type.name for item in frame.side_data} for frame in file.decode(video=0)]
    assert sum(carrying) == 1
    assert carrying[0] == (place == "first")
    result = upscale(path)
    assert result.notes.count("Not copied: closed captions in the picture.") == 1


@pytest.mark.parametrize(
    ("encoder", "suffix", "kept"),
    [
        ("h264", ".mkv", True),
        ("hevc", ".mkv", True),
        ("vp9", ".mp4", True),
        ("av1", ".mp4", True),
        ("prores", ".mov", True),
        ("vp9", ".webm", False),
        ("av1", ".mkv", False),
        ("ffv1", ".mkv", False),
    ],
)
def test_the_shape_of_pixels_is_kept_or_named_as_lost(tmp_path: Path, encoder: str, suffix: str, kept: bool) -> None:
    source = make(Case("wide", ".mp4", pts=(0, 512), aspect=Fraction(4, 3), matrix=1), tmp_path)
    result = upscale(source, tmp_path / f"o{suffix}", codec=choose_encoder(encoder))
    assert contents(result.target).aspect == (Fraction(4, 3) if kept else 1)
    assert ("Not copied: the pixels' shape of 4:3." in result.notes) == (not kept)


def test_photos_with_exif_are_read(tmp_path: Path) -> None:
    """PyAV has no name for what FFmpeg attaches to their frames, and fails when it is asked for any of it."""
    (folder := tmp_path / "photos").mkdir()
    tags = b"II*\0\x08\0\0\0" + struct.pack("<HHHIII", 1, 0x0112, 3, 1, 6, 0)
    for index in range(2):
        path = folder / f"{index}.jpg"
        av.VideoFrame.from_ndarray(np.full((32, 48, 3), 90 * index, np.uint8)).save(path)
        content, block = path.read_bytes(), b"Exif\0\0" + tags
        path.write_bytes(content[:2] + b"\xff\xe1" + struct.pack(">H", len(block) + 2) + block + content[2:])
    with av.open(str(folder / "0.jpg")) as file, pytest.raises(ValueError, match="is not a valid Type"):
        _ = next(file.decode(video=0)).side_data  # when PyAV knows it, this test is no longer needed
    assert upscale(folder, tmp_path / "o.mp4").frames == 2
