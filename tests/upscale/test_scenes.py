"""Scene cuts: found where videos are spliced, not where one moves; lists of them; and what they do to the network."""

from __future__ import annotations

from collections.abc import Callable
from itertools import chain, pairwise, product
from pathlib import Path

import av
import numpy as np
import pytest
import skimage
from numpy.typing import NDArray

from ksnet_deploy.base.errors import InputError
from ksnet_deploy.base.frames import FrameSize
from ksnet_deploy.export.proof.sequence import moving_pattern
from ksnet_deploy.measure.speed.frames import moving_frames
from ksnet_deploy.network.checkpoints import Checkpoint
from ksnet_deploy.runtime.torch import TorchRunner
from ksnet_deploy.upscale.run import upscale_video
from ksnet_deploy.upscale.scenes import CutDetector, GivenCuts, NoCuts, SceneDetector, read_cuts
from ksnet_deploy.upscale.upscaler import Upscaler
from ksnet_deploy.video.reading.reader import VideoReader
from ksnet_deploy.video.writing.presets import choose_encoder

SIZE = FrameSize(72, 128)
VID4 = Path(__file__).parents[3] / "shared/data/vid4"
PHOTOS = ("astronaut", "chelsea", "coffee", "rocket", "hubble_deep_field", "immunohistochemistry")

Frame = NDArray[np.uint8]


def found(frames: list[Frame], detector: CutDetector | None = None) -> list[int]:
    detector = detector or SceneDetector()
    return [index for index, frame in enumerate(frames) if detector.starts_scene(frame)]


def pattern(seed: int, count: int = 15) -> list[Frame]:
    """A texture in steady motion, its colours of its own."""
    tint = np.random.default_rng(seed).uniform(0.2, 1.0, 3)
    return [np.rint(frame * 255 * tint).astype(np.uint8) for frame in moving_pattern(SIZE, count, seed)]


def photo(name: str) -> Frame:
    return np.asarray(getattr(skimage.data, name)(), dtype=np.uint8)


def pan(name: str, count: int = 12, step_px: int = 6) -> list[Frame]:
    """A camera moving to and fro over a photo, 144x256."""
    picture = photo(name)
    top, room = (picture.shape[0] - 144) // 2, picture.shape[1] - 256
    lefts = [abs((index * step_px + room) % (2 * room) - room) for index in range(count)]
    return [picture[top : top + 144, left : left + 256] for left in lefts]


def levels(frame: NDArray[np.floating]) -> Frame:
    return np.clip(np.rint(frame), 0, 255).astype(np.uint8)


def faint(frame: Frame) -> Frame:
    return levels(90 + 0.2 * frame.astype(float))


def night(frame: Frame) -> Frame:
    return levels(0.2 * frame.astype(float))


def grey(frame: Frame) -> Frame:
    return levels(np.repeat(frame @ np.array([0.299, 0.587, 0.114])[:, None], 3, axis=-1))


def letterbox(frame: Frame) -> Frame:
    barred = frame.copy()
    barred[:20] = barred[-20:] = 0
    return barred


def grain(frame: Frame) -> Frame:
    return levels(frame + np.random.default_rng(int(frame.sum())).normal(0, 12, frame.shape))


def test_every_splice_of_different_videos_is_found() -> None:
    clip = moving_frames(SIZE, 60)
    parts = [clip[:20], pattern(1), clip[20:40], pattern(2), pattern(3), clip[40:60]]
    starts = np.cumsum([0, *map(len, parts[:-1])]).tolist()
    assert found([frame for part in parts for frame in part]) == starts


def test_one_shot_has_no_cut() -> None:
    assert found(moving_frames(SIZE, 75)) == [0]


@pytest.mark.parametrize("look", [faint, night, grey, letterbox, grain])
def test_every_splice_is_found_however_the_film_looks(look: Callable[[Frame], Frame]) -> None:
    frames = [look(frame) for frame in chain.from_iterable(map(pan, PHOTOS))]
    assert found(frames) == list(range(0, len(frames), 12))


def test_splices_of_fast_shots_of_a_few_frames_are_found() -> None:
    shots = [pan(name, count, step_px=16) for name, count in zip(PHOTOS, (2, 3, 1, 4, 5, 2), strict=True)]
    assert found(list(chain.from_iterable(shots))) == [0, 2, 5, 6, 10, 15]


# Single stars are gone within nine frames at 28 pixels a frame, a tenth of the width: that looks like cuts.
@pytest.mark.parametrize(
    ("name", "step_px"), [pan for pan in product(PHOTOS, (3, 14, 28)) if pan != ("hubble_deep_field", 28)]
)
def test_a_pan_is_no_cut(name: str, step_px: int) -> None:
    assert found(pan(name, 30, step_px)) == [0]


@pytest.mark.parametrize("name", PHOTOS)
def test_a_zoom_and_a_shaken_camera_are_no_cuts(name: str) -> None:
    picture, rng = photo(name), np.random.default_rng(0)
    shaken = [picture[y : y + 144, x : x + 256] for y, x in rng.integers(0, 25, (20, 2))]
    y, x = np.mgrid[-72:72, -128:128]
    middle = np.array(picture.shape[:2]) // 2
    zoomed = [
        picture[(middle[0] + y * 0.95**index).astype(int), (middle[1] + x * 0.95**index).astype(int)]
        for index in range(15)
    ]
    assert found(shaken) == found(zoomed) == [0]


@pytest.mark.parametrize("name", PHOTOS)
def test_what_light_and_film_do_is_no_cut(name: str) -> None:
    shot = pan(name, 24)
    light = {
        "still": [shot[0]] * 24,
        "pulldown": [frame for index, frame in enumerate(shot) for _ in range(1 + index % 2)],
        "grain": [grain(frame) for frame in shot],
        "fade to black": [levels(frame * (1 - i / 24)) for i, frame in enumerate(shot)],
        "fade from black": [levels(frame * (i / 24)) for i, frame in enumerate(shot)],
        "fade to white": [levels(255 - (255.0 - frame) * (1 - i / 24)) for i, frame in enumerate(shot)],
        "flash": [levels(frame * 2.5) if i in (8, 9, 17) else frame for i, frame in enumerate(shot)],
        "all white": [np.full_like(frame, 255) if i in (8, 9, 17) else frame for i, frame in enumerate(shot)],
    }
    if name == "hubble_deep_field":  # stars are as small as the grain, and nothing else is there to know the scene by
        del light["grain"]
    assert {kind: found(frames) for kind, frames in light.items() if found(frames) != [0]} == {}


def test_a_cut_behind_a_white_flash_and_one_to_black_are_found() -> None:
    white, black = [np.full((144, 256, 3), level, np.uint8) for level in (255, 0)]
    assert found([*pan("coffee"), white, white, *pan("rocket")]) == [0, 14]
    assert found([*pan("coffee"), black, black, *pan("astronaut")]) == [0, 12, 14]


def test_answers_come_from_the_past_alone_and_from_no_buffer_of_the_callers() -> None:
    frames = list(chain.from_iterable(map(pan, PHOTOS)))
    answers = found(frames)
    buffer, detector, again = np.empty_like(frames[0]), SceneDetector(), []
    for index, frame in enumerate(frames):
        buffer[:] = frame
        again += [index] if detector.starts_scene(buffer) else []
        buffer[:] = 0
    assert again == answers
    assert all(found(frames[:end]) == [cut for cut in answers if cut < end] for end in (13, 20, 37))


def test_cuts_are_those_of_pyscenedetect() -> None:
    """Its ContentDetector compares the colours of every pixel without a look at motion: so there is hardly any here."""
    scenedetect = pytest.importorskip("scenedetect")
    frames = list(chain.from_iterable(pan(name, step_px=1) for name in PHOTOS if name != "hubble_deep_field"))
    oracle, cuts = scenedetect.ContentDetector(min_scene_len=1), [0]
    for index, frame in enumerate(frames):
        bgr = np.ascontiguousarray(frame[..., ::-1])
        cuts += [cut.frame_num for cut in oracle.process_frame(scenedetect.FrameTimecode(index, 25.0), bgr)]
    assert found(frames) == cuts


@pytest.mark.slow
@pytest.mark.skipif(not VID4.is_dir(), reason="the Vid4 benchmark is not beside the checkout")
def test_splices_of_vid4_are_found_and_nothing_else() -> None:
    shots = []
    for path in sorted(VID4.iterdir()):
        with VideoReader(path) as reader:
            shots.append([frame.rgb[:480:2, :704:2] for frame in reader.frames()])
    assert len(shots) == 4
    starts = np.cumsum([0, *map(len, shots[:-1])]).tolist()
    assert found(list(chain.from_iterable(shots))) == starts


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


def test_the_list_that_pyscenedetect_writes_is_read(tmp_path: Path) -> None:
    scenedetect = pytest.importorskip("scenedetect")
    times = [scenedetect.FrameTimecode(frame, 25.0) for frame in (0, 12, 31, 90)]
    for scenes in (list(pairwise(times)), [(times[0], times[3])]):
        for with_cuts in (True, False):
            scenedetect.write_scene_list(tmp_path / "list.csv", scenes, include_cut_list=with_cuts)
            assert read_cuts(tmp_path / "list.csv") == {start.frame_num for start, _ in scenes}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"12\nsoon\n", "line 2 of the cut list .*cuts.txt says 'soon'"),
        (b"# ours\n\n-3\n", "line 3 of .*cuts.txt says '-3' where a frame number of 0 or more is expected"),
        (b"1.5\n", "line 1 of .*cuts.txt"),
        ("\N{ARABIC-INDIC DIGIT THREE}\n".encode(), "line 1 of .*cuts.txt"),
        (b"Scene Number,Start Frame\n1,1\n2,0\n", "line 3 of .*cuts.txt says '0' where a frame number of 1 or more"),
        (b"Scene Number,Start Frame\n1\n", "line 2 of .*cuts.txt says ''"),
        (b"\xff\xfe\x00\xd8", "cuts.txt is not text"),
    ],
)
def test_what_is_no_list_of_cuts_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "cuts.txt"
    path.write_bytes(content)
    with pytest.raises(InputError, match=message):
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
        seen: list[Frame] = []  # noqa: RUF012

        def _step(self, lr: Frame) -> Frame:
            hr = super()._step(lr)
            self.seen.append(hr)
            return hr

    result = upscale_video(
        source,
        None,
        Upscaler(open_runner=lambda size, io: Recording(small.model, size, io=io)),
        codec=choose_encoder("ffv1"),
    )
    assert result.cuts == [0.2]
    with VideoReader(source) as reader:
        decoded = [frame.rgb for frame in reader.frames()]
    fresh = TorchRunner(small.model, FrameSize(32, 48))
    np.testing.assert_array_equal(Recording.seen[5], fresh.step(decoded[5]))
    np.testing.assert_array_equal(Recording.seen[6], fresh.step(decoded[6]))
    fresh.reset()
    assert (Recording.seen[4] != fresh.step(decoded[4])).any()
