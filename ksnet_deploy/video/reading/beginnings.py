"""First bytes of files: what one that FFmpeg does not read as a video is."""

from __future__ import annotations

from pathlib import Path

__all__ = ["kind_in_words", "starts_as_jpeg"]

HEAD = 64

KINDS = (
    (b"#EXTM3U", "a playlist (M3U) that names other files; give one of them, or the playlist as .m3u8"),
    (b"[playlist]", "a playlist (PLS) that names other files; give one of them"),
    (b"ffconcat version", "a playlist that names other files; give one of them, or the playlist as .ffconcat"),
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
