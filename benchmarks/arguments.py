"""Kinds of arguments that benchmarks take: a wrong one is told in a sentence before anything is measured."""

from __future__ import annotations

import argparse
import math
from pathlib import Path

from ksnet_deploy.base.errors import KSNetError
from ksnet_deploy.base.frames import FrameSize

__all__ = ["count", "duration", "frame_size", "positive", "result_path"]


def positive(text: str) -> int:
    """A number from 1 on."""
    if not text.isascii() or not text.isdigit() or not int(text):
        raise argparse.ArgumentTypeError(f"'{text}' is no number from 1 on")
    return int(text)


def count(text: str) -> int:
    """A number from 0 on."""
    return 0 if text == "0" else positive(text)


def duration(text: str) -> float:
    """A time above 0."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"'{text}' is no time above 0")
    return value


def frame_size(text: str) -> FrameSize:
    """A size, HEIGHTxWIDTH."""
    try:
        return FrameSize.parse(text)
    except KSNetError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def result_path(text: str) -> Path:
    """A file in a folder that is there."""
    path = Path(text)
    if path.is_dir() or not path.parent.is_dir():
        what = "is a folder" if path.is_dir() else "lies in no folder that exists"
        raise argparse.ArgumentTypeError(f"'{text}' {what}; give a file in one that does")
    return path
