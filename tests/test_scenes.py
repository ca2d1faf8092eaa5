"""Scene cuts: found where videos are spliced, not where one moves; lists of them; and what they do to the network."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from ksnet_deploy.benchmark import moving_frames
from ksnet_deploy.config import FrameSize
from ksnet_deploy.errors import InputError
from ksnet_deploy.export.verify import moving_pattern
from ksnet_deploy.pipeline import upscale_video
from ksnet_deploy.runtime.torch import TorchRunner
from ksnet_deploy.scenes import CutDetector, GivenCuts, NoCuts, SceneDetector, read_cuts
from ksnet_deploy.video import VideoReader, choose_encoder
from ksnet_deploy.weights import Checkpoint

SIZE = FrameSize(72, 128)


def found(frames: list[NDArray[np.uint8]], detector: CutDetector | None = None) -> list[int]:
    detector = detector or SceneDetector()
    return [index for index, frame in enumerate(frames) if detector.starts_scene(frame)]


def pattern(seed: int, count: int = 15) -> list[NDArray[np.uint8]]:
    """A texture in steady motion, its colours of its own."""
    tint = np.random.default_rng(seed).uniform(0.2, 1.0, 3)
    return [np.rint(frame * 255 * tint).astype(np.uint8) for frame in moving_pattern(SIZE, count, seed)]


def test_every_splice_of_different_videos_is_found() -> None:
    clip = moving_frames(SIZE, 60)
    parts = [clip[:20], pattern(1), clip[20:40], pattern(2), pattern(3), clip[40:60]]
    starts = np.cumsum([0, *map(len, parts[:-1])]).tolist()
    assert found([frame for part in parts for frame in part]) == starts


def test_one_shot_has_no_cut() -> None:
    assert found(moving_frames(SIZE, 75)) == [0]


def test_what_is_no_cut_is_none() -> None:
    rng = np.random.default_rng(0)
    clip = moving_frames(SIZE, 20)
    still = [clip[0]] * 20
    noisy = [np.clip(clip[0] + rng.normal(0, 12, clip[0].shape), 0, 255).astype(np.uint8) for _ in range(20)]
    fade = [(clip[0] * (1 - i / 25)).astype(np.uint8) for i in range(25)]
    for frames in (still, noisy, fade):
        assert found(frames) == [0]


def test_the_same_frames_give_the_same_answers_at_any_depth() -> None:
    frames = moving_frames(SIZE, 20) + pattern(1)
    assert found(frames) == found(frames) == found([frame.astype(np.uint16) * 257 for frame in frames])


@pytest.mark.parametrize("size", ["1x1", "2x2", "16x16", "8x300"])
def test_any_size_can_be_looked_at(size: str) -> None:
    h, w = map(int, size.split("x"))
    assert found([np.zeros((h, w, 3), np.uint8)] * 3) == [0]


def test_a_list_of_cuts_is_read(tmp_path: Path) -> None:
    path = tmp_path / "cuts.txt"
    path.write_text("# my cuts\n12\n\n40  # the door\n")
    assert read_cuts(path) == {12, 40}
    path.write_text(
        "Timecode List:,00:00:01.000\nScene Number,Start Frame,Start Timecode\n1,1,00:00:00.000\n2,26,00:00:01.000\n"
    )
    assert read_cuts(path) == {0, 25}


@pytest.mark.parametrize("content", [b"12\nsoon\n", b"-3\n", b"1.5\n", b"\xff\xfe\x00\xd8"])
def test_what_is_no_list_of_cuts_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "cuts.txt"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"cuts\.txt"):
        read_cuts(path)


@pytest.mark.parametrize("path", ["none.txt", "."])
def test_a_list_that_cannot_be_read_is_refused(tmp_path: Path, path: str) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        read_cuts(tmp_path / path)


def test_given_cuts_and_none() -> None:
    frames = pattern(1, 6)
    assert found(frames, GivenCuts(frozenset({3}))) == [0, 3]
    assert found(frames, NoCuts()) == [0]


def test_the_first_frame_after_a_cut_is_that_of_a_fresh_start_bit_for_bit(small: Checkpoint, tmp_path: Path) -> None:
    frames = [frame[:32, :48] for frame in (*moving_frames(SIZE, 5), *pattern(1, 5))]
    source = tmp_path / "v.mkv"
    with av.open(str(source), "w") as container:
        stream = container.add_stream("ffv1", rate=25)
        stream.height, stream.width, stream.pix_fmt = 32, 48, "yuv444p"
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(frame))))
        container.mux(stream.encode(None))

    class Recording(TorchRunner):
        seen: list[NDArray[np.uint8]] = []  # noqa: RUF012

        def _step(self, lr: NDArray[np.uint8]) -> NDArray[np.uint8]:
            hr = super()._step(lr)
            self.seen.append(hr)
            return hr

    result = upscale_video(
        source, None, lambda size, io: Recording(small.model, size, io=io), encoder=choose_encoder("ffv1")
    )
    assert result.cuts == [0.2]
    with VideoReader(source) as reader:
        decoded = [frame.rgb for frame in reader.frames()]
    fresh = TorchRunner(small.model, FrameSize(32, 48))
    np.testing.assert_array_equal(Recording.seen[5], fresh.step(decoded[5]))
    np.testing.assert_array_equal(Recording.seen[6], fresh.step(decoded[6]))
    fresh.reset()
    assert (Recording.seen[4] != fresh.step(decoded[4])).any()
