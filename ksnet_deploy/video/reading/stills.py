"""Files of a single picture."""

from __future__ import annotations

import itertools
from pathlib import Path

from ksnet_deploy.base.errors import InputError
from ksnet_deploy.video.kinds import Source
from ksnet_deploy.video.reading.sources import open_video

__all__ = ["has_colour_profile", "is_picture"]

STILLS = ("image2", "gif", "apng")
"""Formats of files that may hold one picture, by FFmpeg's names; most others of these end in _pipe."""
BRANDS = frozenset({"avif", "heic", "heix", "mif1"})
"""Brands of files of ISO/IEC 14496-12 whose first content is a picture (ISO/IEC 23008-12)."""

PROFILES = {b"\x89PNG": b"iCCP", b"\xff\xd8\xff": b"ICC_PROFILE\0", b"RIFF": b"ICCP"}
"""First bytes of a PNG, a JPEG and a WebP, with those of a colour profile in it."""
HEAD = 1 << 20
"""Bytes in which a profile is looked for; it comes before the picture."""


def has_colour_profile(path: Path) -> bool:
    """Whether a PNG, JPEG or WebP carries a colour profile (ICC). Raises OSError."""
    with path.open("rb") as file:
        head = file.read(HEAD)
    return any(head.startswith(start) and mark in head for start, mark in PROFILES.items())


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
        if len(container.streams.video) > 2:  # two where one is the transparency
            raise InputError(
                f"{source.path} is a picture that is put together from {len(container.streams.video)} tiles, which is "
                "not supported; convert it to PNG or JPEG first"
            )
        coded = (packet for packet in container.demux(video) if packet.size)
        return len(list(itertools.islice(coded, 2))) == 1
