from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from av.video.frame import VideoFrame
from clips import ArrayClip, folder_of_frames, noise, smooth_picture
from media import make_video

from ksnet_deploy.base.errors import ConfigError, InputError, OutputError
from ksnet_deploy.base.frames import FrameSize
from ksnet_deploy.measure.degradation import degrade
from ksnet_deploy.network.flow import warp
from ksnet_deploy.training.dataset import Draw, DrawSampler, WindowDataset, check_clips
from ksnet_deploy.training.motion import camera_window, flow_pair, smooth_flow
from ksnet_deploy.training.pack import held_out_videos, pack_clips
from ksnet_deploy.training.recipe import Stage
from ksnet_deploy.video.clips.clip import Clip
from ksnet_deploy.video.clips.find import find_clips, source_video
from ksnet_deploy.video.clips.shards import open_shard
from ksnet_deploy.video.picture import read_picture, write_png


def windows(*clips: Clip, seed: int = 0, still_share: float = 0.0) -> WindowDataset:
    return WindowDataset(clips, degradation="BI", still_share=still_share, seed=seed)


def test_the_lr_window_is_a_crop_of_the_degraded_clip() -> None:
    frames = noise(6, 96, 80, 3)
    whole = torch.from_numpy(degrade(frames, "BI")).permute(0, 3, 1, 2)
    seen = set()
    for index in range(12):
        lr, hr, encoded = windows(ArrayClip(frames))[Draw(0, index, 3, 16)]
        assert not encoded
        assert lr.shape == (3, 3, 16, 16)
        assert hr.shape == (3, 3, 64, 64)
        places = [
            (t, y, x, flips)
            for flips in range(16)
            for t in range(4)
            for y in range(9)
            for x in range(5)
            if torch.equal(lr, undo(whole[t : t + 3, :, y : y + 16, x : x + 16], flips))
        ]
        assert len(places) == 1, "not a crop of the degraded frames, under any flip"
        t, y, x, flips = places[0]
        original = torch.from_numpy(frames).permute(0, 3, 1, 2)[t : t + 3, :, 4 * y : 4 * y + 64, 4 * x : 4 * x + 64]
        assert torch.equal(hr, undo(original, flips))
        seen.add(places[0])
    assert len(seen) > 6


def undo(window: torch.Tensor, flips: int) -> torch.Tensor:
    window = window.flip([axis for bit, axis in enumerate((0, 2, 3)) if flips >> bit & 1])
    return window.transpose(2, 3) if flips >> 3 & 1 else window


def test_a_draw_depends_on_seed_iteration_and_index_alone() -> None:
    clip, still = ArrayClip(noise(6, 96, 96, 3)), ArrayClip(smooth_picture(96, 120)[None], "still")
    data = windows(clip, still, still_share=0.5)
    draw = Draw(5, 3, 4, 16)
    first = data[draw]
    data[Draw(1, 1, 4, 16)]  # what was drawn in between does not matter
    assert all(torch.equal(a, b) for a, b in zip(first, data[draw], strict=True))
    for other in (
        data[Draw(5, 2, 4, 16)],
        data[Draw(4, 3, 4, 16)],
        windows(clip, still, seed=1, still_share=0.5)[draw],
    ):
        assert not torch.equal(first[0], other[0])


def test_a_window_longer_than_its_clip_turns_back() -> None:
    frames = np.stack([np.roll(smooth_picture(64, 64), 5 * t, axis=1) for t in range(3)])
    _, hr, _ = windows(ArrayClip(frames))[Draw(0, 0, 6, 16)]
    same = [[torch.equal(a, b) for b in hr] for a in hr]
    orders = [np.array(order) for order in ([0, 1, 2, 1, 0, 1], [1, 0, 1, 2, 1, 0])]  # forward, reversed in time
    assert any((np.equal.outer(order, order) == same).all() for order in orders)


def test_flat_crops_are_passed_over() -> None:
    frames = np.zeros((2, 64, 640, 3), np.uint8)
    frames[:, :, 320:] = noise(2, 64, 320, 3)
    flat = sum(float(windows(ArrayClip(frames))[Draw(0, i, 2, 16)][1].float().std()) < 3 for i in range(40))
    assert flat <= 2  # a draw has eight tries and almost half of the crops are flat


def test_every_process_takes_its_share_of_each_batch() -> None:
    plan = [Stage(2, 4, 5, 32), Stage(3, 2, 10, 64)]
    shares = [list(DrawSampler(plan, 1, rank, 2)) for rank in range(2)]
    whole = list(DrawSampler(plan, 1, 0, 1))
    assert len(whole) == 4
    assert [sorted((*a, *b), key=lambda d: d.index) for a, b in zip(*shares, strict=True)] == whole
    assert whole[0] == [Draw(1, j, 5, 32) for j in range(4)]
    assert whole[-1] == [Draw(4, j, 10, 64) for j in range(2)]


def test_the_camera_moves_over_a_still() -> None:
    view = camera_window(smooth_picture(200, 240), 5, 64, 48, np.random.default_rng(3))
    assert view.shape == (5, 64, 48, 3)
    assert view.dtype == np.uint8
    changes = np.abs(np.diff(view.astype(int), axis=0)).mean(axis=(1, 2, 3))
    assert (changes > 0.3).all()


def test_the_flow_of_a_pair_brings_the_second_frame_to_the_first() -> None:
    for seed in range(6):
        first, second, flow = flow_pair(smooth_picture(120, 120), 64, 80, 8.0, np.random.default_rng(seed))
        assert first.shape == second.shape == (3, 64, 80)
        assert flow.shape == (2, 64, 80)
        assert flow.norm(dim=0).max() <= 8.0 + 1e-4
        inside = slice(9, -9)  # beyond the crop the second frame is not known
        error = (warp(second[None], flow[None])[0] - first)[:, inside, inside].abs()
        assert error.mean() < 0.01
        if flow.norm(dim=0).mean() > 1:
            assert error.mean() < 0.2 * (second - first)[:, inside, inside].abs().mean()


def test_smooth_flow_has_motion_of_all_lengths() -> None:
    lengths = [float(smooth_flow(32, 32, 8.0, np.random.default_rng(s)).norm(dim=0).max()) for s in range(60)]
    assert max(lengths) <= 8.0 + 1e-4
    assert max(lengths) > 6
    assert min(lengths) < 2


def test_packed_clips_are_the_decoded_clips(tmp_path: Path) -> None:
    frames = noise(3, 32, 48, 3)
    folder_of_frames(tmp_path / "data/walk", frames)
    write_png(tmp_path / "data/photo.png", frames[0])
    make_video(tmp_path / "data/clip.mp4", FrameSize(32, 48), frames=5)
    counts = pack_clips([tmp_path / "data"], tmp_path / "shards", max_bytes=1)
    assert counts == {tmp_path / "shards": 3}
    packed = {clip.name: clip for path in sorted((tmp_path / "shards").iterdir()) for clip in open_shard(path)}
    assert {name: clip.frames for name, clip in packed.items()} == {"walk": 3, "photo": 1, "clip": 5}
    np.testing.assert_array_equal(packed["walk"].read(0, 3), frames)
    np.testing.assert_array_equal(packed["walk"].read(1, 2, (4, 8, 16, 20)), frames[1:3, 4:20, 8:28])
    video = next(clip for clip in find_clips(tmp_path / "data/clip.mp4"))
    np.testing.assert_array_equal(packed["clip"].read(0, 5), video.read(0, 5))


def test_held_out_videos_keep_all_their_clips_together(tmp_path: Path) -> None:
    for name in ("a_0", "a_25", "b_0", "c-Scene-1", "c-Scene-2"):
        folder_of_frames(tmp_path / "data" / name, noise(2, 16, 16, 3))
    pack_clips([tmp_path / "data"], tmp_path / "out", hold_out=1)
    names = {
        part: {source_video(clip.name) for clip in find_clips(tmp_path / "out" / part)}
        for part in ("train", "validation")
    }
    assert len(names["validation"]) == 1
    assert names["train"] | names["validation"] == {"a", "b", "c"}
    assert not names["train"] & names["validation"]
    assert names["validation"] == held_out_videos(["a_0", "b_0", "c-Scene-1"], 1)
    with pytest.raises(ConfigError, match="3 source videos cannot be held out of 3"):
        held_out_videos(["a_0", "a_1", "b", "c"], 3)


@pytest.mark.parametrize(
    ("name", "video"),
    [("davis_cows_52", "davis_cows"), ("x-Scene-004", "x"), ("000", "000"), ("walk", "walk"), ("v.3_0", "v.3")],
)
def test_source_video_of_a_clip(name: str, video: str) -> None:
    assert source_video(name) == video


def test_an_empty_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=f"{tmp_path} holds no frames"):
        list(find_clips(tmp_path))
    with pytest.raises(InputError, match="does not exist"):
        list(find_clips(tmp_path / "nowhere"))


def test_frames_of_mixed_size_are_named(tmp_path: Path) -> None:
    folder = folder_of_frames(tmp_path / "clip", noise(2, 32, 32, 3))
    write_png(folder / "00000002.png", noise(32, 36, 3))
    clip = next(find_clips(folder))
    with pytest.raises(InputError, match=r"00000002\.png is 32x36 while 00000000\.png"):
        clip.read(0, 3)


@pytest.mark.parametrize("damage", [b"", b"not a picture at all" * 9])
def test_a_corrupt_frame_is_named(tmp_path: Path, damage: bytes) -> None:
    folder = folder_of_frames(tmp_path / "clip", noise(3, 32, 32, 3))
    (folder / "00000001.png").write_bytes(damage)
    with pytest.raises(InputError, match=r"00000001\.png"):
        next(find_clips(folder)).read(0, 3)


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_a_truncated_picture_is_named(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"picture{suffix}"
    if suffix == ".png":
        write_png(path, noise(64, 64, 3))
    else:
        VideoFrame.from_ndarray(noise(64, 64, 3), format="rgb24").save(path)
    assert read_picture(path).shape == (64, 64, 3)
    content = path.read_bytes()
    for share in (0.3, 0.9):
        path.write_bytes(content[: int(len(content) * share)])
        with pytest.raises(InputError, match=f"picture{suffix}"):
            read_picture(path)


def test_numbered_pictures_are_a_clip_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    frames = noise(12, 16, 16, 3)
    for index, frame in enumerate(frames):
        write_png(tmp_path / f"f_{index + 1}.png", frame)
    write_png(tmp_path / "cover.png", frames[0])
    clips = {clip.name: clip for clip in find_clips(tmp_path)}
    assert {name: clip.frames for name, clip in clips.items()} == {tmp_path.name: 12, "cover": 1}
    np.testing.assert_array_equal(clips[tmp_path.name].read(0, 12), frames)
    (tmp_path / "f_7.png").unlink()
    with pytest.raises(InputError, match="lacks frame 7 of 1 to 12"):
        list(find_clips(tmp_path))


def test_photos_with_numbers_far_apart_are_stills(tmp_path: Path) -> None:
    for name in ("100007", "100080", "203100"):
        write_png(tmp_path / f"{name}.png", noise(16, 16, 3))
    assert [clip.frames for clip in find_clips(tmp_path)] == [1, 1, 1]


def test_folders_with_a_dot_in_their_names_stay_apart(tmp_path: Path) -> None:
    for name in ("clip.v1", "clip.v2"):
        folder_of_frames(tmp_path / name, noise(2, 16, 16, 3))
    assert [clip.name for clip in find_clips(tmp_path)] == ["clip.v1", "clip.v2"]


def test_a_failed_packing_leaves_nothing(tmp_path: Path) -> None:
    folder_of_frames(tmp_path / "data/a", noise(2, 16, 16, 3))
    broken = folder_of_frames(tmp_path / "data/b", noise(2, 16, 16, 3))
    (broken / "00000001.png").write_bytes(b"")
    with pytest.raises(InputError, match=r"00000001\.png"):
        pack_clips([tmp_path / "data"], tmp_path / "shards", max_bytes=1)
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


def test_a_damaged_shard_is_named(tmp_path: Path) -> None:
    folder_of_frames(tmp_path / "data/walk", noise(3, 32, 48, 3))
    pack_clips([tmp_path / "data"], tmp_path / "shards")
    path = next((tmp_path / "shards").iterdir())
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(InputError, match=f"the shard {path} cannot be read"):
        list(find_clips(tmp_path / "shards"))
    with pytest.raises(OutputError, match="is not an empty folder"):
        pack_clips([tmp_path / "data"], tmp_path / "shards")


@pytest.mark.parametrize("place", ["pixels", "names"])
def test_a_shard_with_a_flipped_bit_is_named(tmp_path: Path, place: str) -> None:
    folder_of_frames(tmp_path / "data/walk", noise(3, 32, 48, 3))
    pack_clips([tmp_path / "data"], tmp_path / "shards")
    path = next((tmp_path / "shards").iterdir())
    data = bytearray(path.read_bytes())
    data[-1000 if place == "pixels" else data.rindex(b"walk")] ^= 1
    path.write_bytes(data)
    with pytest.raises(InputError, match=f"the shard {path} is damaged: '.alk' in it does not match its checksum"):
        list(find_clips(tmp_path / "shards"))


@pytest.mark.parametrize(
    ("size", "sentence"), [((30, 32), "30x32 .* 4 does not divide"), ((64, 32), "smaller than an HR patch of 64")]
)
def test_clips_that_cannot_be_cut_are_named(size: tuple[int, int], sentence: str) -> None:
    with pytest.raises(InputError, match=f"the clip 'array' of .* is .*{sentence}"):
        check_clips([ArrayClip(noise(2, *size, 3))], 16)


@pytest.mark.parametrize("suffix", [".PNG", ".bmp"])
def test_frames_that_are_there_in_two_kinds_are_refused(tmp_path: Path, suffix: str) -> None:
    """Neither is left out unseen, nor taken for stills."""
    folder = folder_of_frames(tmp_path / "a", noise(3, 64, 64, 3))
    for picture in sorted(folder.iterdir()):
        picture.with_suffix(suffix).write_bytes(picture.read_bytes())
    with pytest.raises(InputError, match=rf"a holds frames twice, such as 0+{suffix} and 0+.png|0+.png and 0+{suffix}"):
        list(find_clips(tmp_path))
