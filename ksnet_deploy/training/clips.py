"""Sources of HR frames: shards, folders of frames, videos, stills.

A path given to ``train`` is a video, a shard, a still, or a folder, which is searched: a folder of consecutively
numbered pictures is a clip, a folder of videos, stills, shards or further folders is many.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ksnet_deploy.errors import InputError

__all__ = ["REDS4", "Clip", "Region", "check_unique", "find_clips", "read_listing", "source_video"]

Region: TypeAlias = tuple[int, int, int, int]
"""Top, left, height, width in pixels."""

PICTURES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff")
VIDEOS = (".mp4", ".mkv", ".mov", ".avi", ".webm", ".m4v", ".ts", ".y4m")


REDS4 = ("000", "011", "015", "020")
"""Clips of REDS that are its test set."""


class Clip(ABC):
    """Consecutive HR frames without a cut. A clip of one frame is a still."""

    name: str
    path: Path = Path()
    """The file or folder it is in, for messages."""
    frames: int
    height: int
    width: int

    @abstractmethod
    def read(self, start: int, count: int, region: Region | None = None) -> NDArray[np.uint8]:
        """Frames start to start + count - 1, all of them or a region: (count, H, W, 3) RGB."""

    def release(self) -> None:  # noqa: B027 (most have nothing to forget)
        """Forget what reading left in memory."""

    def __str__(self) -> str:
        return f"the clip '{self.name}' of {self.path}"


class FrameFolder(Clip):
    """A folder of pictures, decoded when read. REDS and Vimeo90K are laid out so."""

    def __init__(self, name: str, pictures: Sequence[Path]) -> None:
        from ksnet_deploy.video.picture import picture_size

        self.name, self.path, self.pictures = name, pictures[0].parent, list(pictures)
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
    """A video, decoded as a whole when it is first read, and kept until released: for films, pack the data instead."""

    def __init__(self, name: str, path: Path) -> None:
        from ksnet_deploy.video import VideoReader

        self.path, self.name = path, name
        with VideoReader(path) as reader:
            self.height, self.width = reader.size.height, reader.size.width
            self._count = reader.expected_frames
        self._decoded: NDArray[np.uint8] | None = None

    @property
    def frames(self) -> int:  # type: ignore[override]
        if self._count is None:  # only MP4 and MOV say how many they have
            self._count = len(self._all())
        return self._count

    def read(self, start: int, count: int, region: Region | None = None) -> NDArray[np.uint8]:
        top, left, height, width = region or (0, 0, self.height, self.width)
        return self._all()[start : start + count, top : top + height, left : left + width]

    def release(self) -> None:
        self._decoded = None

    def __getstate__(self) -> dict[str, Any]:  # a worker process decodes for itself
        return {**self.__dict__, "_decoded": None}

    def _all(self) -> NDArray[np.uint8]:
        from ksnet_deploy.video import VideoReader

        if self._decoded is None:
            with VideoReader(self.path) as reader:
                frames = [frame.rgb for frame in reader.frames(eight_bits=True)]
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
    name = path.relative_to(root).as_posix() if path != root else path.name
    if path.is_file():
        yield from _open(name.removesuffix(path.suffix), path)
        return
    entries = sorted(entry for entry in path.iterdir() if not entry.name.startswith("."))
    sequences = _numbered([entry for entry in entries if entry.suffix.lower() in PICTURES])
    for prefix, pictures in sequences.items():
        yield FrameFolder(name if len(sequences) == 1 else f"{name}/{prefix}", pictures)
    frames = {picture for pictures in sequences.values() for picture in pictures}
    for entry in entries:
        if entry not in frames:
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


def _numbered(pictures: Sequence[Path]) -> dict[str, list[Path]]:
    """Pictures that a decoder wrote: by prefix, those that are numbered without a gap. Others are photos.

    Raises:
        InputError: a few of the numbers are missing.
    """
    groups: dict[tuple[str, str], dict[int, Path]] = {}
    for picture in pictures:
        prefix = picture.stem.rstrip("0123456789")
        if digits := picture.stem[len(prefix) :]:
            groups.setdefault((prefix, picture.suffix), {})[int(digits)] = picture
    sequences = {}
    for (prefix, _), group in groups.items():
        numbers = sorted(group)
        missing = numbers[-1] - numbers[0] + 1 - len(numbers)
        if 0 < missing <= len(numbers) / 2:
            first = next(n for n in range(numbers[0], numbers[-1]) if n not in group)
            raise InputError(
                f"{group[numbers[0]].parent} lacks frame {first} of {numbers[0]} to {numbers[-1]}; restore it, or move "
                "the frames after it to a folder of their own"
            )
        if len(numbers) > 1 and not missing:
            sequences[prefix] = [group[n] for n in numbers]
    return sequences


def source_video(name: str) -> str:
    """Name of the video that a clip was cut from: clips ``NAME_0`` and ``NAME_25`` belong together, scenes too."""
    return re.sub(r"(-Scene-\d+|_\d+)*$", "", name)


def check_unique(clips: Sequence[Clip]) -> None:
    """Raise InputError when two clips have one name."""
    seen: dict[str, Clip] = {}
    for clip in clips:
        if clip.name in seen:
            raise InputError(f"{clip.path} and {seen[clip.name].path} both hold a clip '{clip.name}'; rename one")
        seen[clip.name] = clip


def read_listing(path: Path) -> set[str]:
    """Names of the clips in one of Vimeo90K's official lists, as :func:`find_clips` gives them for its folder."""
    return {f"sequences/{line.strip()}" for line in path.read_text().splitlines() if line.strip()}
