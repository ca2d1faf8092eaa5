"""Pictures in a file beside the one that FFmpeg decodes, and TIFFs of which it decodes none rightly."""

from __future__ import annotations

import itertools
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from ksnet_deploy.base.errors import InputError

__all__ = ["check_picture", "further_pictures", "page_count"]

MOST_PAGES = 10_000
"""Bound on the pages that are counted, for a damaged file may name itself as its next page."""
MOST_ENTRIES = 1 << 16

SUBFILE_TYPE, COMPRESSION, PHOTOMETRIC, SAMPLES, DNG_VERSION = 254, 259, 262, 277, 50706
"""Tags of "TIFF Revision 6.0" and of Adobe's "Digital Negative Specification"."""
REDUCED, MASK = 0b001, 0b100
"""Bits of a directory's kind: a smaller copy of another, or its mask."""
JPEGS = (6, 7, 34892)
"""Compressions that are JPEG: as in TIFF 6.0, as it is now, and that of raw photos."""
PALETTE = 3

IMAGES, ENTRIES = 0xB001, 0xB002
"""Tags of a JPEG's list of pictures ("Multi-Picture Format", CIPA DC-007): how many, and the list."""
THUMBNAILS = (0x010001, 0x010002)
"""Kinds of pictures that are smaller copies of another."""

FORMS = {1: "B", 3: "H", 4: "I", 7: "B", 13: "I", 16: "Q"}
"""Types of TIFF's values that are whole numbers, and how they are read."""

Directory = dict[int, tuple[int, int]]
"""Tags of a TIFF's directory: the first value, or the first byte's where there are many, and the place of the value."""


def check_picture(path: Path) -> None:
    """Refuse a TIFF that FFmpeg decodes to something else than is in it, without an error.

    Raises:
        InputError: it is one; OSError: it cannot be read.
    """
    first = next(_pages(path), None)
    if first is None:
        return
    values = {tag: value for tag, (value, _) in first.items()}
    if DNG_VERSION in values or values.get(SUBFILE_TYPE, 0) & REDUCED:
        raise InputError(
            f"{path} is a camera's raw photo, or begins with a smaller copy of its picture, which is all that would be "
            "read; develop it to PNG or JPEG first"
        )
    if values.get(COMPRESSION) in JPEGS:
        raise InputError(f"{path} is a TIFF compressed as JPEG, which FFmpeg does not decode; convert it to PNG first")
    if values.get(PHOTOMETRIC) == PALETTE and values.get(SAMPLES, 1) > 1:
        raise InputError(
            f"{path} is a TIFF of a palette and transparency, which FFmpeg does not decode; convert it to PNG first"
        )


def further_pictures(path: Path) -> int:
    """Pictures of a JPEG beside its first, such as the second eye's or a gain map, that are no smaller copies (CIPA
    DC-007); 0 for any other file. Raises OSError."""
    with path.open("rb") as file:
        start = _multi_picture_part(file)
        if start is None:
            return 0
        file.seek(start)
        order = {b"II": "<", b"MM": ">"}.get(file.read(2))
        if order is None:
            return 0
        try:
            listed = next(_directories(file, order, start), {})
            count, place = listed.get(IMAGES, (0, 0))[0], listed.get(ENTRIES, (0, 0))[1]
            file.seek(place)
            (offset,) = struct.unpack(f"{order}I", file.read(4))
            kinds = []
            for index in range(min(count, MOST_PAGES) if place else 0):
                file.seek(start + offset + 16 * index)
                kinds.append(struct.unpack(f"{order}I", file.read(4))[0] & 0xFFFFFF)
        except struct.error:  # cut off: no picture lies behind
            return 0
    return max(sum(kind not in THUMBNAILS for kind in kinds) - 1, 0)


def _multi_picture_part(file: BinaryIO) -> int | None:
    """Place of the list of pictures in a JPEG; None where it has none, or is no JPEG."""
    if file.read(2) != b"\xff\xd8":
        return None
    while len(head := file.read(4)) == 4 and head[0] == 0xFF and head[1] not in (0xD9, 0xDA):
        place, length = file.tell(), int.from_bytes(head[2:], "big")
        if head[1] == 0xE2 and file.read(4) == b"MPF\0":
            return place + 4
        file.seek(place + length - 2)
    return None


def page_count(path: Path) -> int:
    """Pages of a TIFF, of which FFmpeg decodes the first: those that are no smaller copy or mask of another ("TIFF
    Revision 6.0", tag 254; the large kind by "BigTIFF Design"). 1 for any other file. Raises OSError.
    """
    kinds = (page.get(SUBFILE_TYPE, (0, 0))[0] for page in itertools.islice(_pages(path), MOST_PAGES))
    return max(sum(not kind & (REDUCED | MASK) for kind in kinds), 1)


def _pages(path: Path) -> Iterator[Directory]:
    """Directories of a TIFF, as their chain has them, until the first that is cut off; none of any other file."""
    with path.open("rb") as file:
        order = {b"II": "<", b"MM": ">"}.get(file.read(2))
        if order is not None:
            try:
                yield from _directories(file, order)
            except struct.error:
                return


def _directories(file: BinaryIO, order: str, start: int = 0) -> Iterator[Directory]:
    """Directories that a TIFF's head, whose first two bytes were read, leads to; ``start`` is that head's place.

    Raises struct.error where the file ends before what is read.
    """

    def number(form: str) -> int:
        value: int = struct.unpack(order + form, file.read(struct.calcsize(order + form)))[0]
        return value

    version = number("H")
    if version not in (42, 43):
        return
    offset, count, size = ("I", "H", 12) if version == 42 else ("Q", "Q", 20)
    if version == 43:
        file.seek(start + 8)
    at, seen = number(offset), set[int]()
    while at and at not in seen:
        seen.add(at)
        file.seek(start + at)
        entries, directory = number(count), Directory()
        first = file.tell()
        for index in range(min(entries, MOST_ENTRIES)):
            file.seek(first + index * size)
            tag, kind, _ = number("H"), number("H"), number(offset)
            directory[tag] = (number(FORMS.get(kind, "B")), first + (index + 1) * size - struct.calcsize(offset))
        yield directory
        file.seek(first + entries * size)
        try:
            at = number(offset)
        except struct.error:
            return
