"""Packing of any clips into shards, with whole source videos put aside for validation."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ksnet_deploy.base.errors import ConfigError, OutputError
from ksnet_deploy.base.frames import SCALE
from ksnet_deploy.base.hidden import temporary_beside
from ksnet_deploy.base.leftovers import remove_leftovers
from ksnet_deploy.base.words import counted
from ksnet_deploy.video.clips.clip import Clip, Region, check_divisible
from ksnet_deploy.video.clips.find import check_unique, find_clips, source_video
from ksnet_deploy.video.clips.shards import MakeVariants, check_variant_names, write_shards

__all__ = ["held_out_videos", "pack_clips"]


class _Cropped(Clip):
    """A clip without the rows and columns at the end that 4 does not divide."""

    def __init__(self, clip: Clip) -> None:
        self._clip, self.name, self.path = clip, clip.name, clip.path
        self.frames = clip.frames
        self.height, self.width = clip.height // SCALE * SCALE, clip.width // SCALE * SCALE

    def release(self) -> None:
        self._clip.release()

    def read(self, start: int, count: int, region: Region | None = None) -> NDArray[np.uint8]:
        return self._clip.read(start, count, region or (0, 0, self.height, self.width))


def held_out_videos(names: Iterable[str], count: int) -> frozenset[str]:
    """``count`` source videos of the clips ``names``, chosen by the hash of their names: the same on every machine.

    Raises:
        ConfigError: there are not more videos than that.
    """
    videos = {source_video(name) for name in names}
    if count >= max(len(videos), 1):
        raise ConfigError(f"{counted(count, 'source video')} cannot be held out of {len(videos)}; lower --hold-out")
    return frozenset(sorted(videos, key=lambda name: hashlib.sha256(name.encode()).hexdigest())[:count])


def pack_clips(
    sources: Sequence[Path],
    folder: Path,
    *,
    hold_out: int = 0,
    max_bytes: int = 48 * 10**6,
    mod_crop: bool = False,
    variants: int = 0,
    seed: int = 0,
    on_clip: Callable[[Clip], None] = lambda _clip: None,
) -> dict[Path, int]:
    """Decode clips once and write them as shards.

    Args:
        hold_out: source videos whose clips go to ``folder/validation``, the rest to ``folder/train``; with 0, all go to
            ``folder`` itself. Stills are never held out.
        max_bytes: of a shard, unless one clip is larger.
        mod_crop: cut clips to a multiple of 4 pixels.
        variants: LR versions as videos have them to keep beside each clip, see measure/variants.py. Stills get theirs
            when they are drawn.
        seed: of the versions.

    Returns:
        Number of clips by folder.

    Raises:
        ConfigError: the number of versions or the seed is below 0.
        InputError: a source cannot be read, two clips have one name, or a clip cannot be reduced four times.
        OutputError: the folder is not empty, or an encoder is missing. It appears under its name only when it is
            complete.
    """
    for name, number in (("variants", variants), ("seed", seed)):
        if number < 0:
            raise ConfigError(f"{name} is {number}; it starts at 0")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise OutputError(f"{folder} exists and is not an empty folder; choose another name, or remove it")
    clips = [clip for source in sources for clip in find_clips(source)]
    check_unique(clips)
    if variants:
        _check_before_encoding(clips, mod_crop)
    held = held_out_videos((clip.name for clip in clips if _moves(clip)), hold_out) if hold_out else frozenset()
    make = partial(_variants, variants, seed)
    remove_leftovers(folder.resolve())
    unfinished = temporary_beside(folder.resolve())
    parts = {"train": False, "validation": True} if hold_out else {"": False}
    counts = {}
    try:
        for part, wanted in parts.items():
            counts[folder / part] = _write(clips, held, wanted, unfinished / part, max_bytes, mod_crop, on_clip, make)
        os.replace(unfinished, folder)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return counts


def _moves(clip: Clip) -> bool:
    """Whether a clip is none of a single frame; what had to be decoded to tell is not kept."""
    moves = clip.frames > 1
    clip.release()
    return moves


def _check_before_encoding(clips: Sequence[Clip], mod_crop: bool) -> None:
    """Raise what would else come up after hours, when it is the turn of a clip or of a codec."""
    from ksnet_deploy.measure.variants import encoder_versions

    encoder_versions()
    check_variant_names(clips)
    for clip in clips:
        if not mod_crop and (clip.height % SCALE or clip.width % SCALE) and _moves(clip):
            check_divisible(clip)


def _write(
    clips: Sequence[Clip],
    held: frozenset[str],
    wanted: bool,
    folder: Path,
    max_bytes: int,
    mod_crop: bool,
    on_clip: Callable[[Clip], None],
    make_variants: MakeVariants,
) -> int:
    """Write the clips that are held out, or those that are not, and return their number."""
    chosen = (clip for clip in clips if (clip.frames > 1 and source_video(clip.name) in held) == wanted)
    count = 0
    for clip in write_shards(
        (_Cropped(c) if mod_crop and c.frames > 1 else c for c in chosen),
        folder,
        max_bytes=max_bytes,
        make_variants=make_variants,
    ):
        count += 1
        on_clip(clip)
    return count


def _variants(count: int, seed: int, clip: Clip, hr: NDArray[np.uint8]) -> Iterator[tuple[NDArray[np.uint8], str]]:
    """LR versions of a clip, so many; none of a still."""
    if not count or clip.frames == 1:
        return
    from ksnet_deploy.measure.variants import make_variant

    check_divisible(clip)
    for index in range(count):
        lr, facts = make_variant(hr, clip.name, index, seed)
        yield lr, json.dumps(facts, sort_keys=True)
