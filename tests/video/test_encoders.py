"""Presets as FFmpeg, the decoder and the terminal see them; encoders in hardware are played by stand-ins."""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import os
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from av.codec.context import Flags
from av.video.codeccontext import VideoCodecContext
from numpy.typing import NDArray
from software import SOFTWARE

import ksnet_deploy
from ksnet_deploy.base.frames import FrameSize
from ksnet_deploy.video.writing import presets as encoders
from ksnet_deploy.video.writing.encoder import Encoder, PixelFormat
from ksnet_deploy.video.writing.presets import choose_encoder

CLIP = Path(ksnet_deploy.__file__).parent / "bundled" / "city_hr.mp4"
SIZE = FrameSize(96, 160)
SHAPES = list(itertools.product((8, 10), ("420", "422", "444")))

Packets = list[tuple[bytes, int | None, int | None, bool]]


def frames(count: int, pixel_format: str) -> list[av.VideoFrame]:
    """A moving texture with some noise."""
    rng = np.random.default_rng(0)
    texture = rng.integers(0, 256, (40, 60, 3), dtype=np.uint8).repeat(4, 0).repeat(4, 1)
    made = []
    for i in range(count):
        rgb = texture[i : i + SIZE.height, 2 * i : 2 * i + SIZE.width] // 2 + rng.integers(
            0, 40, (SIZE.height, SIZE.width, 3)
        )
        frame = av.VideoFrame.from_ndarray(rgb.astype(np.uint8), format="rgb24").reformat(format=pixel_format)
        frame.pts, frame.time_base = i, Fraction(1, 25)
        made.append(frame)
    return made


def clip_frames(count: int, pixel_format: str) -> list[av.VideoFrame]:
    """The first of the bundled clip, 288x512."""
    with av.open(str(CLIP)) as container:
        pictures = [p.reformat(format=pixel_format) for p in itertools.islice(container.decode(video=0), count)]
    for index, picture in enumerate(pictures):
        picture.pts, picture.time_base = index, Fraction(1, 25)
    return pictures


def encode(encoder: Encoder, pictures: list[av.VideoFrame], threads: int = 0) -> tuple[Packets, bytes | None]:
    """Packets and header."""
    context = av.CodecContext.create(encoder.codec, "w")
    assert isinstance(context, VideoCodecContext)
    context.height, context.width, context.pix_fmt = (pictures[0].height, pictures[0].width, pictures[0].format.name)
    context.time_base, context.framerate, context.options = Fraction(1, 25), Fraction(25), dict(encoder.options)
    context.flags |= Flags.global_header
    context.thread_count = threads
    packets = [packet for picture in [*pictures, None] for packet in context.encode(picture)]
    return [(bytes(p), p.pts, p.dts, p.is_keyframe) for p in packets], context.extradata


def write(encoder: Encoder, path: Path, pictures: list[av.VideoFrame]) -> Path:
    with av.open(str(path), "w", format="mp4" if path.suffix == ".m4v" else None) as container:
        stream = container.add_stream(encoder.codec, rate=25, options=dict(encoder.options))
        stream.height, stream.width, stream.pix_fmt = pictures[0].height, pictures[0].width, pictures[0].format.name
        if encoder.tag:
            stream.codec_context.codec_tag = encoder.tag
        for picture in [*pictures, None]:
            container.mux(stream.encode(picture))
    return path


def luma(path: Path, count: int) -> NDArray[np.float64]:
    """(count, height, width)."""
    with av.open(str(path)) as container:
        pictures = itertools.islice(container.decode(video=0), count)
        return np.stack([p.reformat(format="yuv420p").to_ndarray()[: p.height].astype(np.float64) for p in pictures])


@pytest.mark.parametrize("name", SOFTWARE)
def test_an_encoder_prints_nothing(name: str, capfd: pytest.CaptureFixture[str]) -> None:
    encoder = choose_encoder(name)
    packets, _ = encode(encoder, frames(3, encoder.pixel_format(8, "420")))
    assert len(packets) == 3
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("depth", [8, 10])
@pytest.mark.parametrize("name", SOFTWARE)
def test_the_same_frames_give_the_same_bytes(name: str, depth: int) -> None:
    encoder = choose_encoder(name)
    pictures = frames(30, encoder.pixel_format(depth, "420"))
    first, second = encode(encoder, pictures), encode(encoder, pictures)
    assert len(first[0]) == 30
    assert first == second


def print_digests() -> None:
    """Of what each preset makes of the same frames."""
    for name in SOFTWARE:
        for depth in (8, 10):
            encoder = choose_encoder(name)
            packets, header = encode(encoder, frames(12, encoder.pixel_format(depth, "420")))
            print(name, depth, hashlib.sha256(repr((packets, header)).encode()).hexdigest())


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc fills the memory")
def test_the_bytes_do_not_depend_on_what_was_in_the_memory() -> None:
    printed = [
        subprocess.run(
            [sys.executable, "-c", "import test_encoders; test_encoders.print_digests()"],
            cwd=Path(__file__).parent,
            # Fresh memory from the system would be zero; this takes it from the heap, filled with a byte.
            env={
                **os.environ,
                "PYTHONPATH": str(Path(__file__).parents[1] / "support"),
                "MALLOC_PERTURB_": fill,
                "MALLOC_MMAP_THRESHOLD_": "4000000000",
            },
            capture_output=True,
            text=True,
            check=True,
        ).stdout.splitlines()
        for fill in ("85", "255")
    ]
    assert len(printed[0]) == 2 * len(SOFTWARE)
    assert printed[0] == printed[1]


def test_the_header_of_hevc_does_not_depend_on_the_number_of_threads() -> None:
    encoder = choose_encoder("hevc")
    pictures = frames(3, "yuv420p")
    assert encode(encoder, pictures, threads=1)[1] == encode(encoder, pictures, threads=5)[1]


def test_the_bytes_of_vp9_do_not_depend_on_the_number_of_threads() -> None:
    pictures = clip_frames(4, "yuv420p")  # wide enough for two columns of tiles
    one, five = (encode(choose_encoder("vp9", speed="4"), pictures, threads=count) for count in (1, 5))
    assert one == five


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="takes cores away as Linux does")
@pytest.mark.parametrize("name", [*SOFTWARE, "libvpx"])
def test_the_bytes_do_not_depend_on_the_number_of_cores(name: str) -> None:
    if len(cores := os.sched_getaffinity(0)) < 2:
        pytest.skip("needs two cores")
    encoder = choose_encoder(name)
    pictures = clip_frames(6, encoder.pixel_format(8, "420"))
    several = encode(encoder, pictures)
    try:
        os.sched_setaffinity(0, {min(cores)})
        assert encode(encoder, pictures) == several
    finally:
        os.sched_setaffinity(0, cores)


def test_h264_is_not_cut_into_slices_for_the_threads() -> None:
    packets, _ = encode(choose_encoder("h264"), clip_frames(6, "yuv420p"), threads=4)
    for content, *_ in packets:
        kinds = [part[0] & 31 for part in content.split(b"\0\0\1")[1:]]  # of the NAL units, in Annex B
        assert sum(kind in (1, 5) for kind in kinds) == 1


@pytest.mark.parametrize("name", SOFTWARE)
def test_every_named_container_holds_the_video(name: str, tmp_path: Path) -> None:
    encoder = choose_encoder(name)
    pictures = frames(3, encoder.pixel_format(8, "420"))
    for suffix in encoder.containers:
        with av.open(str(write(encoder, tmp_path / f"v{suffix}", pictures))) as container:
            assert len(list(container.decode(video=0))) == 3
            if name == "hevc" and suffix != ".mkv":
                assert container.streams.video[0].codec_context.codec_tag == "hvc1"


@pytest.mark.parametrize(
    ("name", "least_db"), [("h264", 38), ("hevc", 36), ("av1", 37), ("vp9", 38), ("prores", 40), ("ffv1", 99)]
)
def test_the_default_quality_stays_close_to_the_frames(name: str, least_db: float, tmp_path: Path) -> None:
    encoder = choose_encoder(name)
    path = write(encoder, tmp_path / "v.mkv", clip_frames(8, encoder.pixel_format(8, "420")))
    error = np.mean((luma(path, 8) - luma(CLIP, 8)) ** 2)
    assert 10 * np.log10(255**2 / max(error, 1e-9)) > least_db


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("h264", ["yuv420p", "yuv422p", "yuv444p", "yuv420p10le", "yuv422p10le", "yuv444p10le"]),
        ("hevc", ["yuv420p", "yuv422p", "yuv444p", "yuv420p10le", "yuv422p10le", "yuv444p10le"]),
        ("av1", ["yuv420p"] * 3 + ["yuv420p10le"] * 3),
        ("vp9", ["yuv420p", "yuv422p", "yuv444p"] * 2),
        ("prores", ["yuv422p10le", "yuv422p10le", "yuv444p10le"] * 2),
        ("ffv1", ["yuv420p", "yuv422p", "yuv444p", "yuv420p10le", "yuv422p10le", "yuv444p10le"]),
    ],
)
def test_the_pixel_format_is_the_best_there_is(name: str, found: list[str]) -> None:
    encoder = choose_encoder(name)
    assert [encoder.pixel_format(depth, chroma) for depth, chroma in SHAPES] == found


def test_nothing_is_lost_that_a_format_can_keep_and_nothing_is_added_without_need() -> None:
    every = [PixelFormat(f"{depth}-{chroma}", depth, chroma) for depth, chroma in SHAPES]
    for count in (1, 2, 3):
        for formats in itertools.combinations(every, count):
            encoder = dataclasses.replace(choose_encoder("ffv1"), formats=formats)
            for depth, chroma in SHAPES:
                chosen = next(f for f in formats if f.name == encoder.pixel_format(depth, chroma))
                lossless = [f for f in formats if f.depth >= depth and f.chroma >= chroma]
                if lossless:
                    assert chosen in lossless
                    smaller = [f for f in lossless if f.depth <= chosen.depth and f.chroma <= chosen.chroma]
                    assert smaller == [chosen]
                else:
                    kept = min(depth, max(f.depth for f in formats))
                    assert min(chosen.depth, depth) == kept
                    assert min(chosen.chroma, chroma) == min(chroma, max(f.chroma for f in formats if f.depth >= kept))


def test_every_format_of_every_encoder_can_be_made_and_is_not_full_range() -> None:
    rgb = av.VideoFrame.from_ndarray(np.zeros((64, 64, 3), np.uint8), format="rgb24")
    seen = set()
    for name in sorted(av.codecs_available):
        codec = encoders._find(name)
        if codec is None or codec.type != "video":
            continue
        for found in encoders._formats(codec):
            seen.add(found.name)
            video_format = av.VideoFormat(found.name)
            assert [part.bits for part in video_format.components] == [found.depth] * 3
            assert not found.name.startswith(("yuvj", "gbr", "rgb"))
    assert {"yuv420p", "yuv422p10le", "yuv444p", "nv12", "p010le"} <= seen
    for pixel_format in seen:
        assert rgb.reformat(format=pixel_format).format.name == pixel_format


def test_quality_and_speed_reach_the_encoder() -> None:
    pictures = frames(5, "yuv420p")

    def size(**settings: object) -> int:
        return sum(len(content) for content, *_ in encode(choose_encoder(**settings), pictures)[0])  # type: ignore[arg-type]

    for name in ("h264", "hevc", "av1", "vp9"):
        assert size(name=name, quality=10) > 2 * size(name=name, quality=45)
    assert size(name="h264", speed="ultrafast") != size(name="h264", speed="slow")
    assert choose_encoder("libvpx", quality=20, speed="5").options == {"threads": "1", "crf": "20", "cpu-used": "5"}


def test_an_ffmpeg_name_of_a_preset_has_its_settings() -> None:
    assert choose_encoder("libx265").options == choose_encoder("hevc").options
    assert choose_encoder("libx265").least == choose_encoder("hevc").least
