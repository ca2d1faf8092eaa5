"""What a path names: a video, pictures, or a pipe; told by names alone, with nothing heavy imported."""

from __future__ import annotations

from pathlib import Path

__all__ = ["PICTURE_SUFFIXES", "PIPE", "VIDEO_SUFFIXES", "is_folder"]

PIPE = "-"
"""Stands for standard input or output in the place of a path."""
PICTURE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".webp"})

VIDEO_SUFFIXES = frozenset(
    {".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".ts", ".m2ts", ".mts", ".mpg", ".mpeg", ".wmv", ".flv", ".vob"}
    | {".ogv", ".3gp", ".y4m", ".mxf"}
)
"""Of the files that are taken from a folder; a file that is named itself may have any."""


def is_folder(path: Path) -> bool:
    """Whether it is a folder; what the system refuses to look at, such as too long a name, counts as a file."""
    try:
        return path.is_dir()
    except OSError:
        return False
