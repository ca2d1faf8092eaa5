"""Sources of HR frames: shards, folders of frames, videos, stills.

A path given to ``train`` is a video, a shard, a still, or a folder, which is searched: a folder of consecutively
numbered pictures is a clip, a folder of videos, stills, shards or further folders is many.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from ksnet_deploy.errors import InputError

__all__ = ["Clip", "Region", "find_clips", "source_video"]

Region: TypeAlias = tuple[int, int, int, int]
"""Top, left, height, width in pixels."""

PICTURES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff")
VIDEOS = (".mp4", ".mkv", ".mov", ".avi", ".webm", ".m4v", ".ts", ".y4m")


class Clip(ABC):
    """Consecutive HR frames without a cut. A clip of one frame is a still."""

    name: str
    frames: int
    height: int
    width: int

    @abstractmethod
    def read(self, start: int, count: int, region: Region | None = None) -> NDArray[np.uint8]:
        """Frames start to start + count - 1, all of them or a region: (count, H, W, 3) RGB."""


class FrameFolder(Clip):
    """A folder of pictures, decoded when read. REDS and Vimeo90K are laid out so."""

    def __init__(self, name: str, pictures: Sequence[Path]) -> None:
        from ksnet_deploy.video.picture import picture_size

        self.name, self.pictures = name, list(pictures)
        self.frames = len(self.pictures)
        size = picture_size(self.pictures[0])
        self.height, self.width = size.height, size.width

    def read(self, start: int, count: int, region: Region | None = None) -> NDArray[np.uint8]:
        from ksnet_deploy.video.picture import read_picture

        top, left, height, width = region or (0, 0, self.height, self.width)
        frames = []
        for path in self.pictures[start : start + count]:
            frame = read_picture(path)
            if frame.shape[:2] != (self.height, self.width):
                raise InputError(
                    f"{path} is {frame.shape[0]}x{frame.shape[1]} while {self.pictures[0].name} in the same folder is "
                    f"{self.height}x{self.width} (height x width); the frames of a clip must have one size"
                )
            frames.append(frame[top : top + height, left : left + width])
        return np.stack(frames)


class VideoClip(Clip):
    """A video, decoded as a whole when it is first read, and kept: for films, pack the data instead."""

    def __init__(self, name: str, path: Path) -> None:
        from ksnet_deploy.video import VideoReader

        self.path, self.name = path, name
        with VideoReader(path) as reader:
            self.height, self.width = reader.size.height, reader.size.width
        self._decoded: NDArray[np.uint8] | None = None

    @property
    def frames(self) -> int:  # type: ignore[override]
        return len(self._all())

    def read(self, start: int, count: int, region: Region | None = None) -> NDArray[np.uint8]:
        top, left, height, width = region or (0, 0, self.height, self.width)
        return self._all()[start : start + count, top : top + height, left : left + width]

    def _all(self) -> NDArray[np.uint8]:
        from ksnet_deploy.video import Frame, VideoReader

        if self._decoded is None:
            with VideoReader(self.path) as reader:
                frames = [event.rgb for event in reader if isinstance(event, Frame)]
                lost = reader.frames_lost
            if not frames or lost:
                raise InputError(
                    f"{self.path} is damaged ({len(frames)} frames decoded, {lost} lost); replace it or leave it out"
                )
            self._decoded = np.stack(frames)
        return self._decoded


def find_clips(path: Path) -> Iterator[Clip]:
    """Every clip under a path, in the order of names, which are relative to the path.

    Raises:
        InputError: there is none, or one cannot be read.
    """
    if not path.exists():
        raise InputError(f"{path} does not exist; give a folder of frames, videos, stills or shards, or one such file")
    found = False
    for clip in _find(path, path):
        found = True
        yield clip
    if not found:
        raise InputError(
            f"{path} holds no frames; expected folders of frames ({', '.join(PICTURES)}), videos "
            f"({', '.join(VIDEOS)}) or shards (.safetensors)"
        )


def _find(path: Path, root: Path) -> Iterator[Clip]:
    name = path.relative_to(root).with_suffix("").as_posix() if path != root else path.stem
    if path.is_file():
        yield from _open(name, path)
        return
    entries = sorted(entry for entry in path.iterdir() if not entry.name.startswith("."))
    pictures = [entry for entry in entries if entry.suffix.lower() in PICTURES]
    if _are_numbered(pictures):
        yield FrameFolder(name, pictures)
        entries = [entry for entry in entries if entry not in set(pictures)]
    for entry in entries:
        yield from _find(entry, root)


def _open(name: str, path: Path) -> Iterator[Clip]:
    from ksnet_deploy.training.shards import SHARD_SUFFIX, open_shard

    suffix = path.suffix.lower()
    if suffix == SHARD_SUFFIX:
        yield from open_shard(path)
    elif suffix in VIDEOS:
        yield VideoClip(name, path)
    elif suffix in PICTURES:
        yield FrameFolder(name, [path])


def _are_numbered(pictures: Sequence[Path]) -> bool:
    """Consecutive numbers at the end of the names, as a decoder writes frames; photos are not."""
    digits = [picture.stem[len(picture.stem.rstrip("0123456789")) :] for picture in pictures]
    if len(pictures) < 2 or not all(digits):
        return False
    numbers = [int(d) for d in digits]
    return numbers == list(range(numbers[0], numbers[0] + len(numbers)))


def source_video(name: str) -> str:
    """Name of the video that a clip was cut from: clips ``NAME_0`` and ``NAME_25`` belong together, scenes too."""
    return re.sub(r"(-Scene-\d+|_\d+)*$", "", name)
