"""Files of a single picture."""

from __future__ import annotations

import itertools
from pathlib import Path

from av.container import InputContainer

from ksnet_deploy.base.errors import InputError
from ksnet_deploy.base.words import counted
from ksnet_deploy.video.kinds import Source
from ksnet_deploy.video.reading.beginnings import page_count
from ksnet_deploy.video.reading.sources import ICON, open_video, picture_files

__all__ = ["has_colour_profile", "is_picture", "pictures_left_out"]

STILLS = ("image2", "gif", "apng", ICON)
"""Formats of files that may hold one picture, by FFmpeg's names; most others of these end in _pipe."""
BRANDS = frozenset({"avif", "heic", "heix", "mif1"})
"""Brands of files of ISO/IEC 14496-12 whose first content is a picture (ISO/IEC 23008-12)."""

PAGED = (".tif", ".tiff")
"""Suffixes of pictures that may have pages."""
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
    """Pictures of a file, or of a folder's files, that are not read beside the one that is, in words for a note."""
    if container.format.name == ICON:
        others = len(container.streams.video) - 1
        return [counted(others, "smaller picture of the icon", "smaller pictures of the icon")] if others else []
    if source.kind == "pipe":
        return []
    files = picture_files(source.path) if source.kind == "folder" else [source.path]
    if source.kind == "folder" and files[0].suffix.lower() not in PAGED:
        return []
    others = sum(page_count(file) - 1 for file in files)
    return [counted(others, "further page", "further pages")] if others else []


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
        if name not in STILLS and not name.endswith("_pipe") and brand.strip() not in BRANDS:
            return False
        if name != ICON and len(container.streams.video) > 2:  # two where one is the transparency
            raise InputError(
                f"{source.path} is a picture that is put together from {len(container.streams.video)} tiles, which is "
                "not supported; convert it to PNG or JPEG first"
            )
        coded = (packet for packet in container.demux(video) if packet.size)
        return len(list(itertools.islice(coded, 2))) == 1
