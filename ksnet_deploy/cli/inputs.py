"""Videos that a user names: files, folders of them, and patterns."""

from __future__ import annotations

import glob
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from ksnet_deploy.base.errors import InputError
from ksnet_deploy.base.words import counted
from ksnet_deploy.upscale.destination import RESULT_NAME
from ksnet_deploy.video.kinds import PICTURE_SUFFIXES, PIPE, VIDEO_SUFFIXES, check_is_no_address, is_folder

__all__ = ["find_videos"]


def find_videos(inputs: Sequence[str], say: Callable[[str], object] = lambda _: None) -> list[Path]:
    """The videos that inputs name, each once, in their order; those of a folder or pattern by name.

    A folder without videos but with pictures is one video, and ``-`` is standard input. ``say`` takes what a folder
    holds that is left out, as a sentence.

    Raises:
        InputError: a folder holds no video, or a pattern matches nothing.
    """
    return list(dict.fromkeys(path for text in inputs for path in _named_by(text, say)))


def _named_by(text: str, say: Callable[[str], object]) -> Iterator[Path]:
    path = Path(text)
    check_is_no_address(path)
    if text == PIPE:
        yield path
    elif is_folder(path):
        videos = [p for p in sorted(path.iterdir()) if p.suffix.lower() in VIDEO_SUFFIXES and p.is_file()]
        sources = [p for p in videos if not RESULT_NAME.search(p.stem)]
        sources = [p for p in sources if not p.name.startswith(".")]
        pictures = sum(p.suffix.lower() in PICTURE_SUFFIXES and not p.name.startswith(".") for p in path.iterdir())
        if sources:
            if pictures:
                some = counted(pictures, "picture")
                say(f"Leaving out {some} beside the videos in {path}; name what to upscale of them.")
            yield from sources
        elif pictures:
            yield path  # the frames of one video
        else:
            raise InputError(f"{path} holds no video or picture to upscale; give a folder of them, or a video's path")
    elif not glob.has_magic(text) or _exists(path):
        yield path
    else:
        found = [Path(name) for name in sorted(glob.glob(text, recursive=True))]  # noqa: PTH207 - of any pattern
        if not (files := [p for p in found if p.is_file()]):
            raise InputError(f"no file matches {text}; check the pattern, or give the path of a video")
        yield from files


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:
        return False
