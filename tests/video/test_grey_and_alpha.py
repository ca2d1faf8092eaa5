"""Grey keeps its levels, each frame is read by its own tags, and what is transparent is shown over black."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from numpy.typing import NDArray
from runners import RepeatRunner
from torture import code_values
from torture_run import upscale

from ksnet_deploy.base.errors import InputError
from ksnet_deploy.upscale.result import UpscaleResult
from ksnet_deploy.upscale.run import upscale_video
from ksnet_deploy.upscale.upscaler import Upscaler
from ksnet_deploy.video.picture import read_picture, write_png
from ksnet_deploy.video.reading.reader import VideoReader
from ksnet_deploy.video.writing.presets import choose_encoder

LIMITED, FULL = 1, 2
LOSSLESS = choose_encoder("ffv1")


def put(plane: Any, values: NDArray[Any]) -> None:
    """Rows of samples into a plane of a frame, which may have longer ones."""
    rows = np.zeros((plane.height, plane.line_size // values.itemsize), values.dtype)
    rows[:, : values.shape[1]] = values
    plane.update(rows.tobytes())


def frame_of(layout: str, planes: list[NDArray[Any]], width: int, height: int) -> av.VideoFrame:
    frame = av.VideoFrame(width, height, layout)
    for plane, values in zip(frame.planes, planes, strict=True):
        put(plane, values)
    return frame


def write(
    path: Path,
    frames: list[av.VideoFrame],
    codec: str = "ffv1",
    colour_range: int = 0,
    matrix: int = 2,
    options: dict[str, str] | None = None,
) -> Path:
    with av.open(str(path), "w") as file:
        stream: Any = file.add_stream(codec, rate=25, options=options or {})
        stream.height, stream.width, stream.pix_fmt = frames[0].height, frames[0].width, frames[0].format.name
        stream.codec_context.color_range, stream.codec_context.colorspace = colour_range, matrix
        for index, frame in enumerate(frames):
            frame.pts, frame.time_base = index, Fraction(1, 25)
            frame.color_range, frame.colorspace = colour_range, matrix
            file.mux(stream.encode(frame))
        file.mux(stream.encode(None))
    return path


def ramp(depth: int, low: int, high: int, width: int = 96) -> NDArray[Any]:
    levels = np.rint(np.linspace(low, high, width)).astype(np.uint8 if depth == 8 else np.uint16)
    return levels[None].repeat(64, 0)


def luma_of(path: Path) -> NDArray[np.int64]:
    """Of the first frame, every fourth sample of the first row."""
    with av.open(str(path)) as file:
        frame = next(file.decode(video=0))
        kind = np.uint8 if frame.format.components[0].bits == 8 else np.dtype("<u2")
        plane = frame.planes[0]
        row = np.frombuffer(bytes(plane), kind)[: frame.width]
        assert file.streams.video[0].codec_context.color_range == frame.color_range
        return row[::4].astype(np.int64)


@pytest.mark.parametrize(
    ("layout", "depth", "colour_range", "codec"),
    [
        ("gray", 8, LIMITED, "ffv1"),
        ("gray", 8, FULL, "ffv1"),
        ("gray", 8, LIMITED, "libx264"),
        ("gray", 8, FULL, "libx264"),
        ("gray10le", 10, LIMITED, "ffv1"),
        ("gray10le", 10, FULL, "ffv1"),
        ("gray10le", 10, LIMITED, "libx264"),
        ("gray10le", 10, LIMITED, "libx265"),
        ("gray12le", 12, LIMITED, "libx265"),
        ("gray12le", 12, FULL, "ffv1"),
        ("gray16le", 16, LIMITED, "ffv1"),
        ("gray16le", 16, FULL, "ffv1"),
    ],
)
def test_grey_keeps_its_levels(tmp_path: Path, layout: str, depth: int, colour_range: int, codec: str) -> None:
    unit = 2 ** (depth - 8)
    low, high = (0, 2**depth - 1) if colour_range == FULL else (16 * unit, 235 * unit)
    values = ramp(depth, low, high)
    options = {"libx264": {"qp": "0"}, "libx265": {"x265-params": "lossless=1:log-level=none"}}.get(codec)
    source = write(tmp_path / "v.mkv", [frame_of(layout, [values], 96, 64)], codec, colour_range, options=options)
    result = upscale(source, tmp_path / "o.mkv", codec=LOSSLESS)
    found = luma_of(result.target)
    got = av.VideoFormat(result.pixel_format).components[0].bits
    expected = values[0] / (2**depth - 1) * (2**got - 1) if colour_range == FULL else values[0] / 2.0 ** (depth - got)
    assert np.abs(found - expected).max() <= (0 if got == depth else 1)
    assert not any("matrix" in note for note in result.notes)


@pytest.mark.parametrize("suffix", [".mkv", ".mp4", ".ts"])
@pytest.mark.parametrize("layout", ["gray", "gray10le", "yuv420p", "yuv422p10le", "yuv444p"])
def test_h264_is_told_from_its_header_to_have_no_colours(tmp_path: Path, layout: str, suffix: str) -> None:
    frame = frame_of("gray", [ramp(8, 16, 235)], 96, 64).reformat(format=layout)
    source = write(tmp_path / f"v{suffix}", [frame] * 12, "libx264", LIMITED)
    notes = upscale(source, tmp_path / "o.mkv").notes
    assert any("does not name its colour matrix" in note for note in notes) == (not layout.startswith("gray"))


@pytest.mark.parametrize(("codec", "full"), [("ffv1", True), ("mpeg4", False)])
def test_grey_that_does_not_say_its_range(tmp_path: Path, codec: str, full: bool) -> None:
    """Of MPEG it is limited; of what has no colours but grey it is full, as FFmpeg has it."""
    layout = "yuv420p" if codec == "mpeg4" else "gray"
    planes = [ramp(8, 16, 235)] + ([np.full((32, 48), 128, np.uint8)] * 2 if codec == "mpeg4" else [])
    source = write(tmp_path / "v.mkv", [frame_of(layout, planes, 96, 64)], codec)
    with VideoReader(source) as reader:
        rgb = next(iter(reader.frames())).rgb
    assert (rgb.min(), rgb.max()) == pytest.approx((16, 235) if full else (0, 255), abs=2)


def folder_of(folder: Path, frames: list[av.VideoFrame]) -> Path:
    folder.mkdir()
    for index, frame in enumerate(frames):
        context: Any = av.CodecContext.create("png", "w")
        context.height, context.width, context.pix_fmt = frame.height, frame.width, frame.format.name
        context.time_base = Fraction(1, 25)
        packets = [*context.encode(frame), *context.encode(None)]
        (folder / f"{index}.png").write_bytes(b"".join(map(bytes, packets)))
    return folder


def frames_of(source: Path, target: Path) -> UpscaleResult:
    return upscale_video(source, target, Upscaler(open_runner=RepeatRunner))


def deep_picture(path: Path) -> NDArray[np.uint16]:
    with av.open(str(path)) as file:
        frame = next(file.decode(video=0))
        assert frame.format.name == "rgb48be"
        return frame.to_ndarray(format="rgb48le")


def test_grey_of_sixteen_bits_comes_out_of_pictures_as_it_went_in(tmp_path: Path) -> None:
    values = ramp(16, 0, 65535)
    source = folder_of(tmp_path / "in", [frame_of("gray16be", [values.astype(">u2")], 96, 64)])
    result = frames_of(source, tmp_path / "out")
    found = deep_picture(tmp_path / "out" / "0.png")[::4, ::4]
    np.testing.assert_array_equal(found, np.repeat(values[..., None], 3, axis=2))
    assert result.notes == []


def test_pictures_of_sixteen_bits_come_out_with_sixteen_and_no_note(tmp_path: Path) -> None:
    (folder := tmp_path / "in").mkdir()
    picture = np.random.default_rng(0).integers(0, 65536, (64, 96, 3), dtype=np.uint16)
    write_png(folder / "0.png", picture)
    result = frames_of(folder, tmp_path / "out")
    np.testing.assert_array_equal(deep_picture(tmp_path / "out" / "0.png")[::4, ::4], picture)
    assert result.notes == []


def flat(rgb: tuple[float, float, float], matrix: int, *, full: bool) -> av.VideoFrame:
    y, cb, cr = (round(v) for v in code_values(rgb, matrix, 8, full=full))
    chroma = [np.full((32, 48), value, np.uint8) for value in (cb, cr)]
    return frame_of("yuv420p", [np.full((64, 96), y, np.uint8), *chroma], 96, 64)


@pytest.mark.parametrize(
    ("first", "second"), [((1, LIMITED), (6, FULL)), ((6, FULL), (1, LIMITED)), ((9, LIMITED), (1, FULL))]
)
@pytest.mark.parametrize("codec", ["libx264", "libx265", "mpeg2video"])
def test_each_frame_is_read_by_its_own_tags(
    tmp_path: Path, first: tuple[int, int], second: tuple[int, int], codec: str
) -> None:
    if codec == "mpeg2video" and FULL in (first[1], second[1]):
        first, second = (first[0], LIMITED), (second[0], LIMITED)  # which MPEG-2 cannot say
    rgb = (0.24, 0.5, 0.74)
    options = {"libx264": {"qp": "1"}, "libx265": {"x265-params": "log-level=none:crf=4"}}.get(codec, {"qmax": "2"})
    parts = []
    for number, (matrix, colour_range) in enumerate((first, second)):
        frames = [flat(rgb, matrix, full=colour_range == FULL) for _ in range(6)]
        parts.append(write(tmp_path / f"{number}.ts", frames, codec, colour_range, matrix, options))
    source = tmp_path / "v.ts"
    with av.open(str(source), "w") as file:
        streams, offset = [], 0
        for part in parts:
            with av.open(str(part)) as old:
                streams = streams or [file.add_stream_from_template(old.streams.video[0], opaque=True)]
                for packet in old.demux(video=0):
                    if packet.size:
                        packet.stream = streams[0]
                        packet.pts, packet.dts = packet.pts + offset, packet.dts + offset
                        file.mux(packet)
            offset += 6 * 3600
    frames_of(source, tmp_path / "frames")
    for index in range(12):
        found = read_picture(tmp_path / "frames" / f"{index:08}.png")
        assert np.abs(found - np.array(rgb) * 255).max() <= 4, index
    result = upscale(source, tmp_path / "o.mkv", codec=LOSSLESS)
    with VideoReader(result.target) as reader:
        assert (reader.colour.matrix, reader.colour.range) == first
        shown = [frame.rgb for frame in reader.frames()]
    assert len(shown) == 12
    assert all(np.abs(picture - np.array(rgb) * 255).max() <= 5 for picture in shown)


@pytest.mark.parametrize(("matrix", "name"), [(8, "YCgCo"), (14, "ICtCp"), (10, "BT.2020 with constant luminance")])
def test_colours_that_there_is_no_conversion_for_are_refused_in_a_sentence(
    tmp_path: Path, matrix: int, name: str
) -> None:
    frame = frame_of("yuv444p", [np.full((64, 96), 128, np.uint8)] * 3, 96, 64)
    source = write(tmp_path / "v.mkv", [frame], "libx264", LIMITED, matrix)
    with pytest.raises(InputError, match=rf"are coded as {name}, which is not supported; convert the video to BT.709"):
        upscale(source, tmp_path / "o.mkv")
    assert [path.name for path in tmp_path.iterdir()] == ["v.mkv"]


def test_transparent_pictures_are_shown_over_black(tmp_path: Path) -> None:
    """An editor may leave any colours where nothing is to be seen."""
    rgba = np.full((64, 96, 4), 200, np.uint8)
    rgba[:, :48, 3], rgba[:32, 48:, 3], rgba[32:, 48:, 3] = 0, 255, 128
    source = folder_of(tmp_path / "in", [av.VideoFrame.from_ndarray(rgba, format="rgba")])
    result = frames_of(source, tmp_path / "out")
    found = read_picture(tmp_path / "out" / "0.png")
    assert found[:, :192].max() == 0
    assert np.unique(found[:128, 192:]).tolist() == [200]
    assert np.unique(found[128:, 192:]).tolist() == [100]
    assert "The source's transparency is not in the output." in result.notes
    np.testing.assert_array_equal(read_picture(source / "0.png")[::2, ::2], found[::8, ::8])


@pytest.mark.parametrize("layout", ["ya8", "ya16be", "rgba64be", "yuva420p", "yuva444p10le", "gbrap", "gbrap10le"])
def test_what_is_transparent_is_black_in_every_layout(tmp_path: Path, layout: str) -> None:
    rgba = np.full((64, 96, 4), 200, np.uint8)
    rgba[:, :48, 3], rgba[:, 48:, 3] = 0, 255
    picture = av.VideoFrame.from_ndarray(rgba, format="rgba").reformat(format=layout)
    if layout.startswith(("ya", "rgba")):
        source = folder_of(tmp_path / "in", [picture])
    elif layout == "gbrap":
        source = write(tmp_path / "v.avi", [picture], "utvideo")
    else:
        source = write(tmp_path / "v.mkv", [picture], "ffv1", LIMITED, 6 if "yuv" in layout else 2)
    with VideoReader(source) as reader:
        rgb = next(iter(reader.frames())).rgb
    level = 1 if rgb.dtype == np.uint8 else 257
    assert rgb[:, :48].max() <= 0.01 * level * 255  # swscale makes 2 of 1023 of it, for the deep ones
    assert np.abs(rgb[:, 48:].astype(int) - 200 * level).max() <= 2 * level


@pytest.mark.parametrize("transparent", [None, 0, 1])
def test_transparency_is_told_where_there_is_some(tmp_path: Path, transparent: int | None) -> None:
    """A layout that could have some is no sign: GIF's and CMYK's do."""
    frames = [np.full((32, 48, 4), 255, np.uint8) for _ in range(2)]
    if transparent is not None:
        frames[transparent][3, 4, 3] = 254
    source = folder_of(tmp_path / "in", [av.VideoFrame.from_ndarray(rgba, format="rgba") for rgba in frames])
    notes = frames_of(source, tmp_path / "out").notes
    assert ("The source's transparency is not in the output." in notes) == (transparent is not None)


def test_a_palette_with_a_transparent_colour(tmp_path: Path) -> None:
    """As GIF has it: FFmpeg hands out the canvas."""
    palette = np.zeros((256, 4), np.uint8)  # of B, G, R, A in memory
    palette[1], palette[2] = (0, 0, 255, 255), (0, 255, 0, 0)
    indices = np.ones((64, 96), np.uint8)
    indices[:, 48:] = 2
    frame = av.VideoFrame(96, 64, "pal8")
    put(frame.planes[0], indices)
    frame.planes[1].update(palette.tobytes())
    source = folder_of(tmp_path / "in", [frame])
    found = read_picture(source / "0.png")
    assert (found[0, 0].tolist(), found[0, 95].tolist()) == ([255, 0, 0], [0, 0, 0])


def test_lost_transparency_of_vp9_is_said(tmp_path: Path) -> None:
    """It is a second video beside the first, of which FFmpeg's decoder knows nothing."""
    frame = frame_of("yuv420p", [np.full((64, 96), 90, np.uint8), *[np.full((32, 48), 128, np.uint8)] * 2], 96, 64)
    source = tmp_path / "v.webm"
    with av.open(str(source), "w") as file:
        stream: Any = file.add_stream("libvpx-vp9", rate=25)
        stream.height, stream.width, stream.pix_fmt = 64, 96, "yuv420p"
        stream.metadata["alpha_mode"] = "1"
        frame.pts = 0
        file.mux(stream.encode(frame))
        file.mux(stream.encode(None))
    result = upscale(source, tmp_path / "o.mkv")
    assert "The source's transparency is not in the output." in result.notes
    with av.open(str(result.target)) as file:
        assert "alpha_mode" not in {key.lower() for key in file.streams.video[0].metadata}


@pytest.mark.parametrize("transparent", [False, True])
def test_a_tag_of_transparency_is_believed_of_vp8_and_vp9_alone(tmp_path: Path, transparent: bool) -> None:
    """FFmpeg's program writes it into Matroska for all 4:2:0 video that might be."""
    levels = [np.full((side, width), 120, np.uint8) for side, width in ((32, 48), (16, 24), (16, 24), (32, 48))]
    levels[3][:] = 255
    levels[3][0, 0] = 100 if transparent else 255
    plain = write(tmp_path / "plain.mkv", [frame_of("yuva420p", levels, 48, 32)], colour_range=LIMITED, matrix=6)
    path = tmp_path / "a.mkv"
    with av.open(str(plain)) as container, av.open(str(path), "w") as file:
        stream = file.add_stream_from_template(container.streams.video[0])
        stream.metadata["alpha_mode"] = "1"
        for packet in container.demux(video=0):
            if packet.size:
                packet.stream = stream
                file.mux(packet)
    with av.open(str(path)) as container:
        assert "alpha_mode" in map(str.lower, container.streams.video[0].metadata)
    found = upscale(path, tmp_path / "o.mkv").notes
    assert ("The source's transparency is not in the output." in found) == transparent


def test_xyz_is_colour_that_needs_no_matrix(tmp_path: Path) -> None:
    """As in digital cinema packages: swscale makes R'G'B' of it, which becomes 4:2:0 as other RGB does."""
    rgb = np.zeros((32, 48, 3), np.uint16)
    rgb[:, 16:32], rgb[:, 32:] = (50000, 20000, 9000), 30000
    frame = av.VideoFrame.from_ndarray(rgb, format="rgb48le").reformat(format="xyz12le")
    path = write(tmp_path / "a.nut", [frame], codec="rawvideo")
    result = upscale(path, tmp_path / "o.mkv")
    assert result.pixel_format == "yuv420p10le"
    assert result.notes == ["The source has 12 bits per sample; the output has 10."]
    upscale(path, tmp_path / "frames")
    with av.open(str(tmp_path / "frames" / "00000000.png")) as container:
        found = next(container.decode(video=0)).to_ndarray()[::4, ::4].astype(int)
    assert np.abs(found - rgb).max() < 300
