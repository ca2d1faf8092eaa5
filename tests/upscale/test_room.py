"""Where there is no room: one true sentence, nothing left. A limit on the size of files stands in for full disks."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from media import make_video
from runners import FadingRunner

from ksnet_deploy.base.errors import OutputError
from ksnet_deploy.base.frames import FrameSize
from ksnet_deploy.upscale.run import upscale_video
from ksnet_deploy.upscale.upscaler import Upscaler

resource = pytest.importorskip("resource", reason="the system has no limit on the size of files")


@contextmanager
def no_file_beyond(size: int) -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_video(tmp_path_factory.mktemp("film") / "v.mp4", FrameSize(32, 48), frames=12, sound=True)


@pytest.mark.parametrize(
    ("target", "size", "words"),
    [
        ("o.mp4", 0, r"cannot be written to: its file system holds no file so large, as FAT32.*choose another disk"),
        ("o.mkv", 3000, r"\.o\.mkv\.ksnet-job cannot be written \(File too large\); choose another output"),
        ("frames", 300, r"picture 00000000\.png cannot be written.*\(File too large\); make room, or choose another"),
    ],
)
def test_what_there_is_no_room_for_is_told_and_leaves_nothing(
    film: Path, tmp_path: Path, target: str, size: int, words: str
) -> None:
    """Not that a container cannot hold the tracks, and not in the words of the library that writes the segments."""
    with pytest.raises(OutputError, match=words) as caught, no_file_beyond(size):
        upscale_video(film, tmp_path / target, Upscaler(open_runner=FadingRunner), tracks="drop")
    assert "serializing" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_a_job_that_cannot_begin_leaves_no_folder(film: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, content: bytes) -> Any:
        path.with_suffix(".part").write_bytes(content[:10])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("ksnet_deploy.upscale.job.write_durably", full)
    with pytest.raises(OutputError, match=r"the disk of .* is full"):
        upscale_video(film, tmp_path / "o.mp4", Upscaler(open_runner=FadingRunner))
    assert list(tmp_path.iterdir()) == []
