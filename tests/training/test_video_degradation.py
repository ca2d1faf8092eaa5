"""LR as videos have it: kernels, packed versions, and what training makes of them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from clips import ArrayClip, folder_of_frames, moving_grain, noise
from numpy.typing import NDArray
from trainings import moving_clip, request

from ksnet_deploy.base.errors import InputError
from ksnet_deploy.base.metrics import psnr
from ksnet_deploy.measure.degradation import degrade
from ksnet_deploy.measure.variants import make_variant, reference_lr
from ksnet_deploy.training.dataset import Draw, WindowDataset, clips_identity
from ksnet_deploy.training.pack import pack_clips
from ksnet_deploy.training.run import train_ksnet
from ksnet_deploy.video.clips.clip import Region
from ksnet_deploy.video.clips.find import find_clips
from ksnet_deploy.video.compression import Compression, compress, encoder_version


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("packed")
    for name in ("a", "b"):
        folder_of_frames(folder / "data" / name, moving_grain(6, 96, 112))
    pack_clips([folder / "data/a", folder / "data/b"], folder / "shards", variants=3)
    return folder


def test_versions_are_packed_beside_their_clips(packed: Path) -> None:
    clips = list(find_clips(packed / "shards"))
    assert [clip.name for clip in clips] == ["a", "b"]
    for clip in clips:
        hr = clip.read(0, clip.frames)
        assert len(clip.variants) == 3
        for index, facts in enumerate(clip.variants):
            lr, expected = make_variant(hr, clip.name, index, 0)
            assert json.loads(facts) == expected
            np.testing.assert_array_equal(clip.read_variant(index, 0, 6, (0, 0, 24, 28)), lr)
            np.testing.assert_array_equal(clip.read_variant(index, 2, 3, (4, 5, 8, 9)), lr[2:5, 4:12, 5:14])
            told = json.loads(facts)
            assert told["seed"] == 0
            if told["compression"] is not None:
                assert told["encoder"] == encoder_version(told["compression"]["codec"])
                assert "libavcodec" in told["encoder"]


def test_windows_are_cut_alike_from_a_clip_and_any_of_its_versions(packed: Path) -> None:
    clip = next(iter(find_clips(packed / "shards")))
    windows = WindowDataset([clip], degradation="video", still_share=0.0, seed=0)
    versions = [clip.read_variant(index, 0, 6, (0, 0, 24, 28)) for index in range(3)]
    hr, seen = clip.read(0, 6), set()
    for index in range(16):
        small, large, encoded = windows[Draw(0, index, 1, 16)]
        for axes in ((), (3,), (2,), (2, 3)):
            for turned in (False, True):
                lr, original = (
                    (x.transpose(2, 3) if turned else x).flip(axes).permute(0, 2, 3, 1).numpy() for x in (small, large)
                )
                seen |= {
                    (version, bool(encoded), t, y, x)
                    for version, frames in enumerate(versions)
                    for t in range(6)
                    for y in range(9)
                    for x in range(13)
                    if np.array_equal(frames[t, y : y + 16, x : x + 16], lr[0])
                    and np.array_equal(hr[t, 4 * y : 4 * y + 64, 4 * x : 4 * x + 64], original[0])
                }
    facts = [json.loads(facts) for facts in clip.variants]
    kinds = {(version, told["compression"] is not None) for version, told in enumerate(facts)}
    assert {(version, encoded) for version, encoded, *_ in seen} == kinds
    assert len(seen) >= 12


class _BlackVersions(ArrayClip):
    """A clip whose only LR version is black, so that windows show whether they were cut from it."""

    variants = ('{"compression": {}}',)

    def read_variant(self, index: int, start: int, count: int, region: Region) -> NDArray[np.uint8]:  # noqa: ARG002
        return np.zeros((count, *region[2:], 3), np.uint8)


def test_a_quarter_of_the_windows_is_reduced_and_nothing_else() -> None:
    clip = _BlackVersions(moving_grain(2, 96, 96), "a")
    windows = WindowDataset([clip], degradation="video", still_share=0.0, seed=0)
    plain = 0
    for index in range(200):
        lr, hr, encoded = windows[Draw(0, index, 2, 16)]
        assert bool(encoded) == (not lr.any())
        if encoded:
            continue
        plain += 1
        reduced = degrade(hr.permute(0, 2, 3, 1).numpy(), "BI")[:, 3:-3, 3:-3]
        np.testing.assert_array_equal(lr.permute(0, 2, 3, 1).numpy()[:, 3:-3, 3:-3], reduced)
    assert 35 <= plain <= 65


def test_windows_of_stills_are_encoded_when_they_are_drawn() -> None:
    still = ArrayClip(moving_grain(1, 160, 200), "still")
    windows = {
        kind: WindowDataset([still], degradation=kind, still_share=1.0, seed=0)  # type: ignore[arg-type]
        for kind in ("BI", "video")
    }
    quality, kinds = [], set()
    for index in range(12):
        lr, hr, encoded = windows["video"][Draw(0, index, 3, 16)]
        kinds.add(bool(encoded))
        assert (lr.shape, hr.shape) == ((3, 3, 16, 16), (3, 3, 64, 64))
        again = windows["video"][Draw(0, index, 3, 16)]
        assert torch.equal(lr, again[0])
        reduced = degrade(hr.permute(0, 2, 3, 1).numpy(), "BI")[:, 3:-3, 3:-3]
        quality.append(psnr(lr.permute(0, 2, 3, 1).numpy()[:, 3:-3, 3:-3], reduced))
    assert min(quality) > 18, "of the same place"
    assert min(quality) < 38, "not only reduced"
    assert kinds == {True, False}


def test_clips_without_versions_are_refused_and_the_command_is_named(tmp_path: Path) -> None:
    folder_of_frames(tmp_path / "data/a", noise(2, 64, 64, 3))
    with pytest.raises(InputError, match=r"the clip 'a' of .* 'ksnet-deploy pack DATA -o FOLDER --degradation video'"):
        train_ksnet(request(tmp_path, tmp_path / "data", degradation="video"), lambda *_: None, lambda _: None)


def test_clips_that_cannot_be_reduced_are_refused_before_they_are_packed(tmp_path: Path) -> None:
    folder_of_frames(tmp_path / "data/a", noise(2, 66, 64, 3))
    with pytest.raises(InputError, match=r"the clip 'a' of .* --crop"):
        pack_clips([tmp_path / "data"], tmp_path / "shards", variants=1)
    pack_clips([tmp_path / "data"], tmp_path / "shards", variants=1, mod_crop=True)
    assert len(next(iter(find_clips(tmp_path / "shards"))).variants) == 1


@pytest.mark.slow
@pytest.mark.parametrize("degradation", ["video", "BI"])
def test_shards_with_versions_train_either_way(packed: Path, tmp_path: Path, degradation: str) -> None:
    seen: list[float] = []
    train_ksnet(
        request(tmp_path, packed / "shards", degradation=degradation, validation=packed / "shards"),
        lambda *_: None,
        lambda progress: seen.append(progress.figures["gain"]),
    )
    assert len(seen) == 1


def test_another_seed_of_the_versions_is_another_data_set(packed: Path, tmp_path: Path) -> None:
    pack_clips([packed / "data/a", packed / "data/b"], tmp_path / "other", variants=3, seed=1)
    clips, others = list(find_clips(packed / "shards")), list(find_clips(tmp_path / "other"))
    assert clips_identity(clips)["data"] == clips_identity(others)["data"]
    assert clips_identity(clips, "video")["data"] != clips_identity(others, "video")["data"]
    assert clips_identity(clips, "video")["data"] != clips_identity(clips)["data"]


def test_validation_goes_through_one_and_the_same_encoder() -> None:
    hr = moving_clip().array
    np.testing.assert_array_equal(reference_lr(hr), compress(degrade(hr, "BI"), Compression("h264", 23)))
