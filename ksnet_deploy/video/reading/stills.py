"""Files of a single picture."""

from __future__ import annotations

import itertools
from pathlib import Path

from av.container import InputContainer

from ksnet_deploy.base.errors import InputError
from ksnet_deploy.base.words import counted
from ksnet_deploy.video.kinds import Source
from ksnet_deploy.video.reading.heif import STILL_BRANDS
from ksnet_deploy.video.reading.pages import check_picture, further_pictures, page_count
from ksnet_deploy.video.reading.sources import ICON, open_video, picture_files

__all__ = ["has_colour_profile", "is_picture", "pictures_left_out"]

STILLS = ("image2", "gif", "apng", ICON)
"""Formats of files that may hold one picture, by FFmpeg's names; most others of these end in _pipe."""
SEVERAL = (".tif", ".tiff", ".jpg", ".jpeg")
"""Suffixes of pictures that may have pages, or others beside them."""
PROFILES = {b"\x89PNG": b"iCCP", b"\xff\xd8\xff": b"ICC_PROFILE\0", b"RIFF": b"ICCP"}
"""First bytes of a PNG, a JPEG and a WebP, with those of a colour profile in it."""
HEAD = 1 << 20
"""Bytes in which a profile is looked for; it comes before the picture."""


def has_colour_profile(path: Path) -> bool:
    """Whether a PNG, JPEG or WebP carries a colour profile (ICC). Raises OSError."""
    with path.open("rb") as file:
        head = file.read(HEAD)
    return any(head.startswith(start) and mark in head for start, mark in PROFILES.items())


def pictures_left_out(source: Source, container: InputContainer) -> list[str]:
    """Pictures of a file, or of a folder's files, that are not read beside the one that is, in words for a note.

    Raises:
        InputError: one is a TIFF that FFmpeg does not decode rightly.
    """
    if container.format.name == ICON:
        others = len(container.streams.video) - 1
        return [counted(others, "smaller picture of the icon", "smaller pictures of the icon")] if others else []
    if source.kind == "pipe":
        return []
    files = picture_files(source.path) if source.kind == "folder" else [source.path]
    if source.kind == "folder" and files[0].suffix.lower() not in SEVERAL:
        return []
    for file in files:
        check_picture(file)
    pages, pictures = sum(page_count(file) - 1 for file in files), sum(map(further_pictures, files))
    found = [counted(pages, "further page", "further pages")] if pages else []
    return found + ([counted(pictures, "further picture", "further pictures")] if pictures else [])


def is_picture(source: Source) -> bool:
    """Whether a source is a file of a single picture, by what is in it and not by its name.

    A GIF or a PNG that moves is a film.

    Raises:
        InputError: the file cannot be read as a video or a picture.
    """
    if source.kind != "file":
        return False
    container, video = open_video(source)
    with container:
        name, brand = container.format.name, container.metadata.get("major_brand", "")
        if name not in STILLS and not name.endswith("_pipe") and brand.strip() not in STILL_BRANDS:
            return False
        if name != ICON and len(container.streams.video) > 2:  # two where one is the transparency
            raise InputError(
                f"{source.path} is a picture that is put together from {len(container.streams.video)} tiles, which is "
                "not supported; convert it to PNG or JPEG first"
            )
        coded = (packet for packet in container.demux(video) if packet.size)
        return len(list(itertools.islice(coded, 2))) == 1
