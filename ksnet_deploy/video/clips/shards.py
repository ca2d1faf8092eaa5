"""Pre-decoded training data: frames as raw bytes in safetensors files, read by memory mapping.

A data set is a folder of ``*.safetensors`` files. Each tensor is one clip, uint8 (T, H, W, 3) RGB, under the clip's
name; a clip of one frame is a still. The metadata says ``format: ksnet-clips``. Reading needs neither PyAV nor a
decoder, and a crop reads little more than its own bytes.

LR versions of a clip, (T, H / 4, W / 4, 3), stand beside it as ``NAME#lr0``, ``NAME#lr1``, ...; the metadata
``variants`` says, as JSON, what is known of each by the clip's name. ``crc32`` holds a checksum of each tensor, which
is compared when the file is opened; shards of older versions have none.
"""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from ksnet_deploy.base.errors import InputError
from ksnet_deploy.base.files import replacing
from ksnet_deploy.base.frames import SCALE
from ksnet_deploy.video.clips.clip import Clip, Region

__all__ = ["SHARD_SUFFIX", "check_variant_names", "open_shard", "write_shards"]

FORMAT = "ksnet-clips"
SHARD_SUFFIX = ".safetensors"
MakeVariants: TypeAlias = Callable[[Clip, NDArray[np.uint8]], Iterable[tuple[NDArray[np.uint8], str]]]
"""LR versions, and what is known of each, of a clip and its HR frames."""


class ShardClip(Clip):
    """A clip in a shard."""

    def __init__(self, path: Path, name: str, variants: tuple[str, ...] = ()) -> None:
        self.path, self.name, self.variants = path, name, variants
        self._tensor = _mapped(path).get_slice(name)
        shape = tuple(self._tensor.get_shape())
        if len(shape) != 4 or shape[-1] != 3 or self._tensor.get_dtype() != "U8" or 0 in shape:
            raise InputError(
                f"'{name}' in {path} is {shape} {self._tensor.get_dtype()}; a clip is (frames, height, width, 3) U8, "
                "so pack the data again"
            )
        self.frames, self.height, self.width = shape[:3]
        self._lr = [_mapped(path).get_slice(_lr_name(name, index)) for index in range(len(variants))]
        expected = (self.frames, self.height // SCALE, self.width // SCALE, 3)
        for index, tensor in enumerate(self._lr):
            if tuple(tensor.get_shape()) != expected:
                raise InputError(
                    f"LR version {index} of '{name}' in {path} is {tuple(tensor.get_shape())}; expected is {expected}, "
                    "so pack the data again"
                )

    def read(self, start: int, count: int, region: Region | None = None) -> NDArray[np.uint8]:
        top, left, height, width = region or (0, 0, self.height, self.width)
        window = self._tensor[start : start + count, top : top + height, left : left + width]
        return np.asarray(window, dtype=np.uint8)

    def read_variant(self, index: int, start: int, count: int, region: Region) -> NDArray[np.uint8]:
        top, left, height, width = region
        window = self._lr[index][start : start + count, top : top + height, left : left + width]
        return np.asarray(window, dtype=np.uint8)

    def __reduce__(self) -> tuple[Any, ...]:  # opened anew in every worker process
        return ShardClip, (self.path, self.name, self.variants)


@cache
def _mapped(path: Path) -> Any:
    """The file, mapped once per process however many clips it holds."""
    return safe_open(path, framework="numpy")


def open_shard(path: Path) -> list[Clip]:
    """The clips of one file. Raises InputError when it is damaged or not a shard."""
    try:
        with safe_open(path, framework="numpy") as file:
            metadata, names = file.metadata() or {}, list(file.keys())
            damaged = _damaged(file, metadata)
    except (SafetensorError, OSError) as error:
        raise InputError(f"the shard {path} cannot be read ({error}); it is damaged, so pack the data again") from error
    if metadata.get("format") != FORMAT:
        raise InputError(f"{path} holds no training clips; make shards with 'ksnet-deploy pack'")
    if damaged is not None:
        raise InputError(
            f"the shard {path} is damaged: '{damaged}' in it does not match its checksum; copy it again, or pack the "
            "data again"
        )
    try:
        variants = {name: tuple(facts) for name, facts in json.loads(metadata.get("variants", "{}")).items()}
        beside = {_lr_name(name, index) for name, facts in variants.items() for index in range(len(facts))}
        return [ShardClip(path, name, variants.get(name, ())) for name in names if name not in beside]
    except (SafetensorError, ValueError, AttributeError, TypeError) as error:
        raise InputError(f"the LR versions in {path} cannot be read ({error}); pack the data again") from error


def _damaged(file: Any, metadata: Mapping[str, str]) -> str | None:
    """Name of a tensor that is not what was written, or of the list of their checksums; None where all are."""
    if "crc32" not in metadata:
        return None
    try:
        sums = dict(json.loads(metadata["crc32"]))
    except (ValueError, TypeError):
        return "crc32"
    tensors = ((name, file.get_tensor(name)) for name in file.keys())  # noqa: SIM118 (not a mapping)
    return next((name for name, tensor in tensors if sums.get(name) != _checksum(name, tensor, metadata)), None)


def _checksum(name: str, tensor: NDArray[Any], metadata: Mapping[str, str]) -> int:
    """CRC-32 of a tensor, after all else that says what it is."""
    about = f"{name} {tensor.shape} {tensor.dtype} {metadata.get('variants')}"
    return zlib.crc32(np.ascontiguousarray(tensor).data, zlib.crc32(about.encode()))


def check_variant_names(clips: Iterable[Clip]) -> None:
    """Raise InputError for a clip under whose name an LR version of another may be kept."""
    for clip in clips:
        if re.search(r"#lr[0-9]+$", clip.name):
            raise InputError(f"{clip} has a name under which LR versions are kept in shards; rename it")


def write_shards(
    clips: Iterable[Clip], folder: Path, *, max_bytes: int, make_variants: MakeVariants = lambda _clip, _frames: ()
) -> Iterator[Clip]:
    """Write clips into files of at most ``max_bytes`` (more where a single clip is larger), yielding each as it goes.

    Only one shard is in memory at a time.
    """
    folder.mkdir(parents=True, exist_ok=True)
    held: dict[str, NDArray[np.uint8]] = {}
    known: dict[str, list[str]] = {}
    written = 0
    for clip in clips:
        tensors = {clip.name: np.ascontiguousarray(clip.read(0, clip.frames))}
        facts = []
        for index, (lr, fact) in enumerate(make_variants(clip, tensors[clip.name])):
            tensors[_lr_name(clip.name, index)] = lr
            facts.append(fact)
        if held and sum(a.nbytes for a in [*held.values(), *tensors.values()]) > max_bytes:
            _write(held, known, folder / f"{written:05d}{SHARD_SUFFIX}")
            held, known, written = {}, {}, written + 1
        held |= tensors
        known |= {clip.name: facts} if facts else {}
        clip.release()
        yield clip
    if held:
        _write(held, known, folder / f"{written:05d}{SHARD_SUFFIX}")


def _write(tensors: dict[str, NDArray[np.uint8]], variants: dict[str, list[str]], path: Path) -> None:
    metadata = {"format": FORMAT, "variants": json.dumps(variants)} if variants else {"format": FORMAT}
    metadata["crc32"] = json.dumps({name: _checksum(name, tensor, metadata) for name, tensor in tensors.items()})
    with replacing(path) as temporary:
        save_file(tensors, temporary, metadata)


def _lr_name(clip: str, index: int) -> str:
    """Name of the tensor of an LR version."""
    return f"{clip}#lr{index}"
