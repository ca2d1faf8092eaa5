"""Pre-decoded training data: frames as raw bytes in safetensors files, read by memory mapping.

A data set is a folder of ``*.safetensors`` files. Each tensor is one clip, uint8 (T, H, W, 3) RGB, under the clip's
name; a clip of one frame is a still. The metadata says ``format: ksnet-clips``. Reading needs neither PyAV nor a
decoder, and a crop reads little more than its own bytes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from ksnet_deploy.base.errors import InputError
from ksnet_deploy.base.files import replacing
from ksnet_deploy.video.clips.clip import Clip, Region

__all__ = ["SHARD_SUFFIX", "open_shard", "write_shards"]

FORMAT = "ksnet-clips"
SHARD_SUFFIX = ".safetensors"


class ShardClip(Clip):
    """A clip in a shard."""

    def __init__(self, path: Path, name: str) -> None:
        self.path, self.name = path, name
        self._tensor = _mapped(path).get_slice(name)
        shape = tuple(self._tensor.get_shape())
        if len(shape) != 4 or shape[-1] != 3 or self._tensor.get_dtype() != "U8" or 0 in shape:
            raise InputError(
                f"'{name}' in {path} is {shape} {self._tensor.get_dtype()}; a clip is (frames, height, width, 3) U8, "
                "so pack the data again"
            )
        self.frames, self.height, self.width = shape[:3]

    def read(self, start: int, count: int, region: Region | None = None) -> NDArray[np.uint8]:
        top, left, height, width = region or (0, 0, self.height, self.width)
        window = self._tensor[start : start + count, top : top + height, left : left + width]
        return np.asarray(window, dtype=np.uint8)

    def __reduce__(self) -> tuple[Any, ...]:  # opened anew in every worker process
        return ShardClip, (self.path, self.name)


@cache
def _mapped(path: Path) -> Any:
    """The file, mapped once per process however many clips it holds."""
    return safe_open(path, framework="numpy")


def open_shard(path: Path) -> list[Clip]:
    """The clips of one file. Raises InputError when it is damaged or not a shard."""
    try:
        with safe_open(path, framework="numpy") as file:
            metadata, names = file.metadata() or {}, list(file.keys())
    except (SafetensorError, OSError) as error:
        raise InputError(f"the shard {path} cannot be read ({error}); it is damaged, so pack the data again") from error
    if metadata.get("format") != FORMAT:
        raise InputError(f"{path} holds no training clips; make shards with 'ksnet-deploy pack'")
    return [ShardClip(path, name) for name in names]


def write_shards(clips: Iterable[Clip], folder: Path, *, max_bytes: int) -> Iterator[Clip]:
    """Write clips into files of at most ``max_bytes`` (more where a single clip is larger), yielding each as it goes.

    Only one shard is in memory at a time.
    """
    folder.mkdir(parents=True, exist_ok=True)
    held: dict[str, NDArray[np.uint8]] = {}
    written = 0
    for clip in clips:
        frames = clip.read(0, clip.frames)
        if held and sum(a.nbytes for a in held.values()) + frames.nbytes > max_bytes:
            _write(held, folder / f"{written:05d}{SHARD_SUFFIX}")
            held, written = {}, written + 1
        held[clip.name] = np.ascontiguousarray(frames)
        clip.release()
        yield clip
    if held:
        _write(held, folder / f"{written:05d}{SHARD_SUFFIX}")


def _write(clips: dict[str, NDArray[np.uint8]], path: Path) -> None:
    with replacing(path) as temporary:
        save_file(clips, temporary, {"format": FORMAT})
