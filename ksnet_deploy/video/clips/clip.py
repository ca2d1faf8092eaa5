"""Clips of HR frames: folders of pictures and videos."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ksnet_deploy.base.errors import InputError
from ksnet_deploy.base.frames import SCALE
from ksnet_deploy.base.words import counted

__all__ = ["Clip", "Region", "check_divisible"]

Region: TypeAlias = tuple[int, int, int, int]
"""Top, left, height, width in pixels."""


class Clip(ABC):
    """Consecutive HR frames without a cut. A clip of one frame is a still."""

    name: str
    path: Path = Path()
    """File or folder it is in, for messages."""
    frames: int
    height: int
    width: int

    @abstractmethod
    def read(self, start: int, count: int, region: Region | None = None) -> NDArray[np.uint8]:
        """Frames start to start + count - 1, all of them or a region: (count, H, W, 3) RGB."""

    variants: tuple[str, ...] = ()
    """Facts, as JSON, of each LR version that is kept beside the frames; see measure/variants.py."""

    def read_variant(self, index: int, start: int, count: int, region: Region) -> NDArray[np.uint8]:
        """Frames of an LR version, as :meth:`read` gives HR frames; the region is in LR pixels."""
        raise NotImplementedError(f"{self} has no LR version {index}")

    def files(self) -> Sequence[Path]:
        """The files that it is read from; none for a clip in memory."""
        return [self.path] if self.path.is_file() else []

    def release(self) -> None:  # noqa: B027 (most have nothing to forget)
        """Forget what reading left in memory."""

    def __str__(self) -> str:
        return f"the clip '{self.name}' of {self.path}"


def check_divisible(clip: Clip) -> None:
    """Raise InputError for a clip whose frames cannot be reduced four times, naming it."""
    if clip.height % SCALE or clip.width % SCALE:
        raise InputError(
            f"{clip} is {clip.height}x{clip.width} (height x width), which {SCALE} does "
            "not divide; crop it, or let 'ksnet-deploy pack --crop' do so"
        )


class FrameFolder(Clip):
    """A folder of pictures, decoded when read. REDS and Vimeo90K are laid out so."""

    def __init__(self, name: str, pictures: Sequence[Path]) -> None:
        from ksnet_deploy.video.picture import picture_size

        self.name, self.path, self.pictures = name, pictures[0].parent, list(pictures)
        self.frames = len(self.pictures)
        size = picture_size(self.pictures[0])
        self.height, self.width = size.height, size.width

    def files(self) -> Sequence[Path]:
        return self.pictures

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
        from ksnet_deploy.video.reading.reader import VideoReader

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
        from ksnet_deploy.video.reading.reader import VideoReader

        if self._decoded is None:
            with VideoReader(self.path) as reader:
                frames = [frame.rgb for frame in reader.frames(eight_bits=True)]
                lost = reader.frames_lost
            if not frames or lost:
                decoded = counted(len(frames), "frame")
                raise InputError(f"{self.path} is damaged ({decoded} decoded, {lost} lost); replace it or leave it out")
            self._decoded = np.stack(frames)
        return self._decoded
