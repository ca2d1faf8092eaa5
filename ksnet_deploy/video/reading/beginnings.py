"""First bytes of files: what one that FFmpeg does not read as a video is, and how many pictures one holds."""

from __future__ import annotations

import itertools
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

__all__ = ["kind_in_words", "page_count", "starts_as_jpeg"]

HEAD = 64
MOST_PAGES = 10_000
"""Bound on the pages that are counted, for a damaged file may name itself as its next page."""

KINDS = (
    (b"#EXTM3U", "a playlist (M3U) that names other files; give one of them, or the playlist as .m3u8"),
    (b"[playlist]", "a playlist (PLS) that names other files; give one of them"),
    (b"<?xml", "an XML document, perhaps a playlist; give a video"),
    (b"<MPD", "a manifest (DASH) that names other files; give one of them"),
    (b"<!doctype html", "a web page, perhaps one that was saved in place of a video; download the video again"),
    (b"<html", "a web page, perhaps one that was saved in place of a video; download the video again"),
    (b"version https://git-lfs", "a pointer of Git LFS to the file, which is not here; fetch it with 'git lfs pull'"),
    (b"v=0\no=", "the description of a stream (SDP); give a video"),
    (b"v=0\r\no=", "the description of a stream (SDP); give a video"),
    (b"d8:announce", "a torrent, not what it describes; give the video"),
    (b"%PDF", "a PDF document; extract its pictures first"),
    (b"PK\x03\x04", "a ZIP archive; unpack it first"),
    (b"Rar!", "a RAR archive; unpack it first"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive; unpack it first"),
    (b"\x1f\x8b", "compressed by gzip; unpack it first"),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "an Office document; extract its pictures first"),
)
"""First bytes, in any case, and the kind of file with the remedy."""


def kind_in_words(path: Path) -> str | None:
    """Kind of a file that is no video, with the remedy, as the end of a sentence; None where its first bytes tell none.

    Raises OSError.
    """
    if not path.is_file():
        return None
    with path.open("rb") as file:
        head = file.read(HEAD)
    if not head:
        return "empty; copy or download it again"
    start = head.removeprefix(b"\xef\xbb\xbf").lstrip(b" \t\r\n") if head[:1] in b"\xef \t\r\n<" else head
    return next((words for begin, words in KINDS if start.lower().startswith(begin.lower())), None)


def starts_as_jpeg(path: Path) -> bool:
    """Whether a file begins as JPEG does. Raises OSError."""
    with path.open("rb") as file:
        return file.read(2) == b"\xff\xd8"


def page_count(path: Path) -> int:
    """Pages of a TIFF, of which FFmpeg decodes the first: those that are no smaller copy or mask of another ("TIFF
    Revision 6.0", tag 254; the large kind by "BigTIFF Design"). 1 for any other file. Raises OSError.
    """
    with path.open("rb") as file:
        order = {b"II": "<", b"MM": ">"}.get(file.read(2))
        if order is None:
            return 1
        try:
            pages = sum(not kind & 0b101 for kind in itertools.islice(_subfile_types(file, order), MOST_PAGES))
        except struct.error:  # cut off: no page lies behind
            return 1
    return max(pages, 1)


def _subfile_types(file: BinaryIO, order: str) -> Iterator[int]:
    """NewSubfileType of each of a TIFF's directories, as their chain has them."""

    def number(form: str) -> int:
        value: int = struct.unpack(order + form, file.read(struct.calcsize(order + form)))[0]
        return value

    version = number("H")
    if version not in (42, 43):
        return
    offset, count, size = ("I", "H", 12) if version == 42 else ("Q", "Q", 20)
    if version == 43:
        file.seek(8)
    at, seen = number(offset), set[int]()
    while at and at not in seen:
        seen.add(at)
        file.seek(at)
        entries, kind = number(count), 0
        first = file.tell()
        for index in range(min(entries, 1 << 16)):
            file.seek(first + index * size)
            if number("H") == 254:
                file.seek(first + index * size + size - struct.calcsize(offset))
                kind = number(offset)
                break
        yield kind
        file.seek(first + entries * size)
        try:
            at = number(offset)
        except struct.error:
            return
