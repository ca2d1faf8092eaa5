"""Videos through the whole pipeline, with a network that merely repeats pixels where the network is not the point."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pytest
from media import make_video, packets_of, presentation_times
from upscaled import SIZE, upscale, visible_files

from ksnet_deploy.base.errors import InputError
from ksnet_deploy.base.frames import FrameSize, crop, pad
from ksnet_deploy.network.checkpoints import Checkpoint
from ksnet_deploy.runtime.open import open_runner
from ksnet_deploy.runtime.torch import TorchRunner
from ksnet_deploy.upscale.run import upscale_video
from ksnet_deploy.upscale.upscaler import Upscaler
from ksnet_deploy.video.colour import SWSCALE
from ksnet_deploy.video.reading.reader import VideoReader
from ksnet_deploy.video.writing.presets import choose_encoder


def frame_size(path: Path) -> tuple[int, int]:
    with av.open(str(path)) as container:
        return container.streams.video[0].height, container.streams.video[0].width


@pytest.mark.parametrize(
    "pts",
    [
        pytest.param([512 * i for i in range(10)], id="constant rate"),
        pytest.param([0, 512, 1500, 1512, 4000, 9000, 9100], id="variable rate"),
        pytest.param([5000 + 512 * i for i in range(10)], id="start above zero"),
        pytest.param([0], id="one frame"),
    ],
)
@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".mov"])
def test_every_frame_keeps_its_timestamp(tmp_path: Path, pts: list[int], suffix: str) -> None:
    source = make_video(tmp_path / f"v{suffix}", SIZE, pts=pts)
    result = upscale(source)
    assert result.target == tmp_path / f"v_x4{suffix}"
    assert (result.frames, result.frames_lost, result.notes) == (len(pts), 0, [])
    assert presentation_times(result.target) == presentation_times(source)
    assert frame_size(result.target) == (128, 192)


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_sound_subtitles_and_metadata_are_copied(tmp_path: Path, suffix: str) -> None:
    source = make_video(tmp_path / f"v{suffix}", SIZE, sound=True, subtitles=True, title="Äpfel & Birnen")
    target = upscale(source).target
    for kind in ("audio", "subtitle"):
        assert packets_of(target, kind) == packets_of(source, kind)
        assert packets_of(target, kind)
    with av.open(str(target)) as container:
        assert container.metadata["title"] == "Äpfel & Birnen"


def test_sound_stays_in_sync(tmp_path: Path) -> None:
    source = make_video(tmp_path / "v.mp4", SIZE, pts=[5000 + 512 * i for i in range(25)], sound=True)

    def times(path: Path) -> list[Fraction]:
        with av.open(str(path)) as container:
            return [p.pts * p.time_base for p in container.demux(audio=0) if p.pts is not None]

    found, expected = times(upscale(source).target), times(source)
    assert len(found) == len(expected)
    assert all(abs(a - b) < Fraction(1, 1000) for a, b in zip(found, expected, strict=True))


@pytest.mark.parametrize("size", ["33x17", "101x67", "64x36", "16x16", "8x6", "2x2"])
def test_any_size_comes_out_four_times_larger(tmp_path: Path, size: str) -> None:
    source_size = FrameSize.parse(size)
    target = upscale(make_video(tmp_path / "v.mp4", source_size, frames=3)).target
    assert frame_size(target) == (source_size.height * 4, source_size.width * 4)


def test_a_tiny_frame_is_padded_by_its_edge_and_cropped_back() -> None:
    frame = np.arange(5 * 20 * 3, dtype=np.uint8).reshape(5, 20, 3)
    padded = pad(frame)
    assert padded.shape == (16, 20, 3)
    np.testing.assert_array_equal(padded[:5], frame)
    np.testing.assert_array_equal(padded[5:], np.repeat(frame[4:5], 11, axis=0))
    np.testing.assert_array_equal(crop(padded, FrameSize(5, 20)), frame)
    large = np.zeros((16, 20, 3), np.uint8)
    assert pad(large) is large


@pytest.mark.parametrize("backend", ["torch", "onnxruntime"])
def test_the_picture_is_the_networks(
    tmp_path: Path, clip: Path, small: Checkpoint, small_onnx: Callable[..., Path], backend: str
) -> None:
    artifact = small.path if backend == "torch" else small_onnx("32x48")
    result = upscale_video(
        clip,
        tmp_path / "o.mkv",
        Upscaler(open_runner=lambda size, _io: open_runner(artifact, size)),
        codec=choose_encoder("ffv1"),
    )
    runner = TorchRunner(small.model, SIZE)
    with VideoReader(clip) as source, VideoReader(result.target) as found:
        expected = [runner.step(e.rgb) for e in source.frames()]
        frames = [e.rgb for e in found.frames()]
    assert len(frames) == len(expected) == 8
    # The way to 4:2:0 and back costs chroma resolution; luma must be the network's to the level.
    weights = np.array([0.299, 0.587, 0.114])
    for a, b in zip(frames, expected, strict=True):
        assert np.abs(a @ weights - b @ weights).mean() < 1.5


@pytest.mark.parametrize("matrix", [1, 5, 6])
@pytest.mark.parametrize("full_range", [False, True])
def test_flat_colours_and_tags_survive(tmp_path: Path, matrix: int, full_range: bool) -> None:
    colours = [(128, 128, 128), (16, 16, 16), (235, 235, 235), (200, 40, 30), (20, 180, 60), (30, 50, 210)]
    source = tmp_path / "v.mkv"
    with av.open(str(source), "w") as container:
        stream = container.add_stream("ffv1", rate=25)
        stream.width, stream.height, stream.pix_fmt = 48, 32, "yuv420p"
        stream.codec_context.colorspace = matrix
        stream.codec_context.color_range = 2 if full_range else 1
        for index, colour in enumerate(colours):
            frame = av.VideoFrame.from_ndarray(np.full((32, 48, 3), colour, np.uint8)).reformat(
                format="yuv420p",
                dst_colorspace=1 if matrix == 1 else 5,
                dst_color_range=2 if full_range else 1,
                interpolation=SWSCALE,
            )
            frame.pts = index
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    target = upscale(source, codec=choose_encoder("ffv1")).target
    with VideoReader(source) as before, VideoReader(target) as after:
        assert after.stream.codec_context.colorspace == matrix
        assert after.stream.codec_context.color_range == (2 if full_range else 1)
        expected, found = ([e.rgb for e in reader.frames()] for reader in (before, after))
    for colour, old, new in zip(colours, expected, found, strict=True):
        # Levels of Y'CbCr are whole numbers: one of them is worth up to two levels of blue.
        assert abs(old.astype(int) - colour).max() <= 2
        assert abs(new.astype(int) - old[0, 0]).max() <= 2, (colour, old[0, 0], new[0, 0])
        if len(set(colour)) == 1:
            assert np.ptp(new.astype(int), axis=2).max() == 0, "grey must stay grey"


def test_chapters_and_attachments_are_copied(tmp_path: Path) -> None:
    plain = make_video(tmp_path / "plain.mkv", SIZE)
    source = tmp_path / "v.mkv"
    with av.open(str(plain)) as old, av.open(str(source), "w") as new:
        stream = new.add_stream_from_template(old.streams.video[0])
        new.add_attachment("font.ttf", "application/x-truetype-font", b"not really a font")
        chapter = {"id": 1, "start": 0, "end": 100, "time_base": Fraction(1, 1000), "metadata": {"title": "One"}}
        new.set_chapters([chapter])
        for packet in old.demux(video=0):
            if packet.size:
                packet.stream = stream
                new.mux(packet)
    with av.open(str(upscale(source).target)) as container:
        assert [chapter["metadata"]["title"] for chapter in container.chapters()] == ["One"]
        (attachment,) = container.streams.attachments
        assert attachment.data == b"not really a font"


def test_a_clip_trimmed_by_its_edit_list_is_not_damaged(tmp_path: Path) -> None:
    """Trimming without re-encoding keeps the frames from the last key frame on and hides them by an edit list."""
    source = make_video(tmp_path / "v.mp4", SIZE, pts=[512 * i for i in range(-5, 20)])
    shown = len(presentation_times(source))
    assert shown == 20
    result = upscale(source)
    assert (result.frames, result.frames_lost) == (shown, 0)
    assert presentation_times(result.target) == presentation_times(source)


def test_avi_with_b_frames_keeps_its_pace(tmp_path: Path) -> None:
    source = tmp_path / "v.avi"
    with av.open(str(source), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"bf": "3", "b-adapt": "0"})
        stream.width, stream.height, stream.pix_fmt = 48, 32, "yuv420p"
        for index in range(20):
            image = np.full((32, 48, 3), index * 10, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image)))
        container.mux(stream.encode(None))
    result = upscale(source)
    times = presentation_times(result.target)
    assert (len(times), [note for note in result.notes if "matrix" not in note]) == (20, [])
    assert [b - a for a, b in pairwise(times)] == [pytest.approx(0.04, abs=0.0011)] * 19  # Matroska counts in ms


def test_recordings_joined_byte_by_byte_are_refused_with_the_reason(tmp_path: Path) -> None:
    once = make_video(tmp_path / "once.ts", SIZE, frames=50).read_bytes()
    (tmp_path / "v.ts").write_bytes(once + once)
    with pytest.raises(InputError, match=r"timestamps of .* jump back by 2\.0 s at frame 5"):
        upscale(tmp_path / "v.ts")
    assert visible_files(tmp_path) == {"once.ts", "v.ts"}
