"""Sources of HR frames: shards, folders of frames, videos, stills.

A path given to ``train`` is a video, a shard, a still, or a folder, which is searched: a folder of consecutively
numbered pictures is a clip, a folder of videos, stills, shards or further folders is many.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from ksnet_deploy.base.errors import InputError
from ksnet_deploy.video.clips.clip import Clip, FrameFolder, VideoClip
from ksnet_deploy.video.kinds import PICTURE_SUFFIXES, VIDEO_SUFFIXES, check_is_no_address

__all__ = ["REDS4", "check_unique", "find_clips", "read_listing", "source_video"]


REDS4 = ("000", "011", "015", "020")
"""Clips of REDS that are its test set."""


def find_clips(path: Path) -> Iterator[Clip]:
    """Every clip under a path, in the order of names, which are relative to the path.

    Raises:
        InputError: there is none, or one cannot be read.
    """
    if not path.exists():
        check_is_no_address(path)
        raise InputError(f"{path} does not exist; give a folder of frames, videos, stills or shards, or one such file")
    found = False
    for clip in _find(path, path):
        found = True
        yield clip
    if not found:
        raise InputError(
            f"{path} holds no frames; expected folders of frames ({', '.join(sorted(PICTURE_SUFFIXES))}), videos "
            f"({', '.join(sorted(VIDEO_SUFFIXES))}) or shards (.safetensors)"
        )


def _find(path: Path, root: Path) -> Iterator[Clip]:
    name = path.relative_to(root).as_posix() if path != root else path.name
    if path.is_file():
        yield from _open(name.removesuffix(path.suffix), path)
        return
    entries = sorted(entry for entry in path.iterdir() if not entry.name.startswith("."))
    sequences = _numbered([entry for entry in entries if entry.suffix.lower() in PICTURE_SUFFIXES])
    for prefix, pictures in sequences.items():
        yield FrameFolder(name if len(sequences) == 1 else f"{name}/{prefix}", pictures)
    frames = {picture for pictures in sequences.values() for picture in pictures}
    for entry in entries:
        if entry not in frames:
            yield from _find(entry, root)


def _open(name: str, path: Path) -> Iterator[Clip]:
    from ksnet_deploy.video.clips.shards import SHARD_SUFFIX, open_shard

    suffix = path.suffix.lower()
    if suffix == SHARD_SUFFIX:
        yield from open_shard(path)
    elif suffix in VIDEO_SUFFIXES:
        yield VideoClip(name, path)
    elif suffix in PICTURE_SUFFIXES:
        yield FrameFolder(name, [path])


def _numbered(pictures: Sequence[Path]) -> dict[str, list[Path]]:
    """Pictures that a decoder wrote: by prefix, those that are numbered without a gap. Others are photos.

    Raises:
        InputError: a few of the numbers are missing, or there are two such pictures for each.
    """
    groups: dict[tuple[str, str], dict[int, Path]] = {}
    for picture in pictures:
        prefix = picture.stem.rstrip("0123456789")
        if digits := picture.stem[len(prefix) :]:
            groups.setdefault((prefix, picture.suffix), {})[int(digits)] = picture
    sequences: dict[str, list[Path]] = {}
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
            frames = [group[n] for n in numbers]
            if prefix in sequences:
                raise InputError(
                    f"{frames[0].parent} holds frames twice, such as {sequences[prefix][0].name} and {frames[0].name}; "
                    "keep those of one kind in it, and move the others to a folder of their own"
                )
            sequences[prefix] = frames
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
    """Names of the clips in one of Vimeo90K's official lists, as :func:`find_clips` gives them for its folder.

    Raises:
        InputError: it is no text.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()  # some editors begin a text with a mark
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is no list of clips: it is not text; restore it from the data set") from error
    return {f"sequences/{line.strip()}" for line in lines if line.strip()}
