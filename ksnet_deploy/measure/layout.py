"""Two pictures shown in one: side by side, wiped, or their difference.

Pictures are uint8 RGB, (H, W, 3).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Literal

import numpy as np

from ksnet_deploy.base.errors import ConfigError, OutputError
from ksnet_deploy.base.files import check_new_file
from ksnet_deploy.base.frames import FrameSize
from ksnet_deploy.measure.pages.lettering import label
from ksnet_deploy.video.picture import write_png
from ksnet_deploy.video.writing.comparison import CONTAINERS, Picture

__all__ = ["Layout", "Mode", "check_output", "save_picture"]
Mode = Literal["side-by-side", "wipe", "difference"]
WIPE_S = 4
"""Seconds in which the boundary of a wipe goes to the right and back."""
LINE_PX = 2
"""Width of the white line on that boundary."""


@dataclass(frozen=True)
class Layout:
    """Way to show two pictures of one size in one."""

    mode: Mode = "side-by-side"
    gain: float = 8.0
    """Factor that a difference is multiplied by."""

    def __post_init__(self) -> None:
        if not 0 < self.gain < float("inf"):
            raise ConfigError(f"a gain of {self.gain} shows nothing; give a number above 0, for example 8")

    def compose(self, a: Picture, b: Picture, boundary: float = 0.5) -> Picture:
        """One picture of two.

        - ``side-by-side``: (H, 2 W, 3), the first on the left.
        - ``wipe``: the first on the left of a white line, the second on its right; ``boundary`` is the line's place,
          0 for the left edge, 1 for the right.
        - ``difference``: ``|a - b| * gain``, rounded; what exceeds 255 becomes 255.
        """
        if self.mode == "side-by-side":
            return np.concatenate([a, b], axis=1)
        if self.mode == "wipe":
            x = round(boundary * a.shape[1])
            picture = np.concatenate([a[:, :x], b[:, x:]], axis=1)
            picture[:, max(x - LINE_PX // 2, 0) : x + LINE_PX // 2] = 255
            return picture
        apart = np.abs(a.astype(np.float32) - b) * np.float32(self.gain)
        return np.asarray(np.minimum(np.rint(apart), 255), dtype=np.uint8)

    def boundary(self, seconds: float) -> float:
        """Place of a wipe's line so many seconds after the first frame: from the left edge to the right and back."""
        return 1 - abs(1 - 2 * (seconds / WIPE_S % 1))

    def size(self, size: FrameSize) -> FrameSize:
        """Size of the composition of two pictures of a size."""
        return FrameSize(size.height, size.width * 2) if self.mode == "side-by-side" else size

    def named(self, picture: Picture, names: Sequence[str]) -> Picture:
        """A composition with a line of text above it, :data:`STRIP_PX` high, that says what is where."""
        width = picture.shape[1]
        if self.mode == "difference":
            strips = [label(f"difference × {self.gain:g}", width)]
        else:
            bounds = [round(width * i / len(names)) for i in range(len(names) + 1)]
            strips = [label(name, right - left) for name, (left, right) in zip(names, pairwise(bounds), strict=True)]
        return np.concatenate([np.concatenate(strips, axis=1), picture])

    def legend(self, a: Path, b: Path) -> str:
        """Legend in a sentence."""
        if self.mode == "difference":
            return f"Shown is the absolute difference, {self.gain:g} times as large; more than 255 is shown as 255."
        return f"{a} is on the left, {b} on the right."


def check_output(target: Path, sources: Iterable[Path], *, video: bool, overwrite: bool) -> None:
    """Raise OutputError where it is known that what is made of two sources cannot be written; ``video``: they are."""
    suffixes = (*CONTAINERS, ".png", ".html") if video else (".png", ".html")
    if target.suffix.lower() not in suffixes:
        what = "two videos" if video else "pictures"
        raise OutputError(f"{target} cannot show {what}; end its name in {' or '.join(suffixes)}")
    for source in sources:
        if target.exists() and target.samefile(source):
            raise OutputError(f"{target} is one of the two that are compared; give another name for the output")
        if target.parent.resolve() == source.resolve():
            raise OutputError(f"{target} would be one of the frames in {source}; choose another folder for it")
    check_new_file(target, target.suffix, overwrite=overwrite)


def save_picture(path: Path, picture: Picture) -> None:
    """Write a PNG under a name with any suffix."""
    named = path.with_suffix(".png")  # which is what decides on the format
    try:
        write_png(named, picture)
        named.replace(path)
    finally:
        named.unlink(missing_ok=True)
