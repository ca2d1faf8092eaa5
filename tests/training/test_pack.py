"""Packing: what is refused before hours of encoding, and what stays in memory."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from clips import folder_of_frames, noise
from command import failure_of, run
from media import make_video

from ksnet_deploy.base.errors import ConfigError, InputError, OutputError
from ksnet_deploy.base.frames import FrameSize
from ksnet_deploy.measure import variants
from ksnet_deploy.training import pack
from ksnet_deploy.training.pack import pack_clips
from ksnet_deploy.video import compression
from ksnet_deploy.video.clips.clip import VideoClip
from ksnet_deploy.video.clips.find import find_clips


def test_nothing_is_encoded_before_all_clips_are_known_to_be_fit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder_of_frames(tmp_path / "data/a", noise(2, 64, 64, 3))
    folder_of_frames(tmp_path / "data/b", noise(2, 66, 64, 3))
    encoded: list[str] = []

    def make(hr: np.ndarray, name: str, *_: Any) -> tuple[np.ndarray, dict[str, Any]]:
        encoded.append(name)
        return hr[:, ::4, ::4], {}

    monkeypatch.setattr(variants, "make_variant", make)
    with pytest.raises(InputError, match=r"the clip 'b' of .* --crop"):
        pack_clips([tmp_path / "data"], tmp_path / "shards", variants=1)
    assert encoded == []
    pack_clips([tmp_path / "data"], tmp_path / "shards", variants=1, mod_crop=True)
    assert encoded == ["a", "b"]


def test_a_still_of_any_size_is_no_hindrance(tmp_path: Path) -> None:
    folder_of_frames(tmp_path / "data/a", noise(2, 64, 64, 3))
    folder_of_frames(tmp_path / "data/still", noise(1, 66, 65, 3))
    assert sum(pack_clips([tmp_path / "data"], tmp_path / "shards", variants=1).values()) == 2


def test_a_missing_encoder_is_told_before_anything_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder_of_frames(tmp_path / "data/a", noise(2, 64, 64, 3))
    known = compression.choose_encoder

    def choose(name: str, **options: Any) -> Any:
        if name == "vp9":
            raise OutputError("there is no encoder 'vp9' (libvpx-vp9) in this FFmpeg; use av1")
        return known(name, **options)

    monkeypatch.setattr(compression, "choose_encoder", choose)
    with pytest.raises(OutputError, match=r"through vp9 \(there is no .*\); install PyAV from PyPI") as told:
        pack_clips([tmp_path / "data"], tmp_path / "shards", variants=1, on_clip=lambda _: pytest.fail("too late"))
    assert "av1" not in str(told.value), "which LR is not put through"
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


def test_a_clip_has_no_name_of_an_lr_version(tmp_path: Path) -> None:
    for name in ("a", "a#lr0"):
        folder_of_frames(tmp_path / "data" / name, noise(2, 64, 64, 3))
    with pytest.raises(InputError, match=r"'a#lr0' .* has a name under which LR versions are kept"):
        pack_clips([tmp_path / "data"], tmp_path / "shards", variants=1)
    pack_clips([tmp_path / "data"], tmp_path / "shards")
    assert [clip.name for clip in find_clips(tmp_path / "shards")] == ["a", "a#lr0"]


@pytest.mark.parametrize("numbers", [{"variants": -1}, {"variants": 1, "seed": -1}])
def test_numbers_below_zero_are_refused(tmp_path: Path, numbers: dict[str, int]) -> None:
    folder_of_frames(tmp_path / "data/a", noise(2, 64, 64, 3))
    with pytest.raises(ConfigError, match="is -1; it starts at 0"):
        pack_clips([tmp_path / "data"], tmp_path / "shards", **numbers)  # type: ignore[arg-type]


def test_options_of_lr_versions_are_not_ignored_where_there_are_none(tmp_path: Path) -> None:
    folder_of_frames(tmp_path / "data/a", noise(2, 64, 64, 3))
    for option in ("--seed", "--variants"):
        told = failure_of(run("pack", tmp_path / "data", "-o", tmp_path / "s", option, "3"))
        assert f"{option} 3 needs to know of what; add --degradation video" in told


def test_one_video_at_a_time_is_in_memory_where_videos_are_held_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "data").mkdir()
    for name in ("a", "b", "c"):  # Matroska does not say how many frames it has
        make_video(tmp_path / f"data/{name}.mkv", FrameSize(32, 48), frames=3)
    found: list[VideoClip] = []

    def find(path: Path) -> Iterator[VideoClip]:
        for clip in find_clips(path):
            assert isinstance(clip, VideoClip)
            found.append(clip)
            yield clip

    monkeypatch.setattr(pack, "find_clips", find)
    held: list[int] = []
    pack_clips(
        [tmp_path / "data"],
        tmp_path / "shards",
        hold_out=1,
        on_clip=lambda _: held.append(sum(clip._decoded is not None for clip in found)),
    )
    assert held == [0, 0, 0]
