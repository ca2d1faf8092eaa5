"""Scene cuts, found frame by frame, at which a recurrent network forgets its state."""

from __future__ import annotations

import csv
from collections import deque
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ksnet_deploy.errors import InputError

__all__ = ["CutDetector", "GivenCuts", "NoCuts", "SceneDetector", "read_cuts"]


class CutDetector(Protocol):
    """Asked once for every frame, in order."""

    def starts_scene(self, rgb: NDArray[Any]) -> bool:
        """Whether a frame, (H, W, 3), is the first of a scene; the first frame of all is."""


class NoCuts:
    """One scene, whatever is shown."""

    def __init__(self) -> None:
        self._index = -1

    def __repr__(self) -> str:
        return "none"

    def starts_scene(self, rgb: NDArray[Any]) -> bool:  # noqa: ARG002 - the interface
        self._index += 1
        return self._index == 0


class GivenCuts:
    """The cuts that a user names by the number of the first frame of each scene, from 0."""

    def __init__(self, frames: frozenset[int]) -> None:
        self._frames, self._index = frames | {0}, -1

    def __repr__(self) -> str:
        return f"given {sorted(self._frames)}"

    def starts_scene(self, rgb: NDArray[Any]) -> bool:  # noqa: ARG002 - the interface
        self._index += 1
        return self._index in self._frames


class SceneDetector:
    """Finds cuts in small pictures of the frames, from the past alone; the same frames give the same answers.

    A cut is where a frame cannot be had from the one before by a shift, and differs much more than frames did lately.
    """

    ROWS, COLUMNS = 27, 48
    LEAST, RATIO, HISTOGRAM = 12.0, 3.0, 0.25

    def __init__(self) -> None:
        self._before: NDArray[np.float64] | None = None
        self._histogram: NDArray[np.float64] | None = None
        self._recent: deque[float] = deque(maxlen=12)

    def __repr__(self) -> str:
        return "detected"

    def starts_scene(self, rgb: NDArray[Any]) -> bool:
        small, histogram = self._summary(rgb)
        before, histogram_before = self._before, self._histogram
        self._before, self._histogram = small, histogram
        if before is None or histogram_before is None:
            return True
        difference = _difference(small, before)
        apart = 0.5 * float(np.abs(histogram - histogram_before).sum())
        usual = float(np.median(self._recent)) if self._recent else 0.0
        cut = difference > max(self.LEAST, self.RATIO * usual) and apart > self.HISTOGRAM
        if cut:
            self._recent.clear()
        else:
            self._recent.append(difference)
        return cut

    def _summary(self, rgb: NDArray[Any]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Block means of luma, and shares of 64 colours."""
        h, w, _ = rgb.shape
        step = max(h // (2 * self.ROWS), 1), max(w // (2 * self.COLUMNS), 1)
        sparse = rgb[:: step[0], :: step[1]]
        if sparse.dtype == np.uint16:
            sparse = (sparse >> 8).astype(np.uint8)
        luma = sparse.astype(np.int64) @ np.array([77, 150, 29])
        rows, columns = max(luma.shape[0] // 2, 1), max(luma.shape[1] // 2, 1)
        even = luma[: rows * 2, : columns * 2] if min(luma.shape) >= 2 else luma
        if even.shape == (rows * 2, columns * 2):
            even = even.reshape(rows, 2, columns, 2).sum(axis=(1, 3)) // 4
        colours = (sparse >> 6).astype(np.int64) @ np.array([16, 4, 1])
        return even / 256.0, np.bincount(colours.ravel(), minlength=64) / colours.size


def _difference(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    """Mean absolute difference under the best shift of up to three blocks."""
    best = float(np.abs(a - b).mean())
    h, w = a.shape
    for dy in range(-3, 4):
        for dx in range(-3, 4):
            part = a[max(dy, 0) : h + min(dy, 0), max(dx, 0) : w + min(dx, 0)]
            other = b[max(-dy, 0) : h + min(-dy, 0), max(-dx, 0) : w + min(-dx, 0)]
            if part.size * 2 > a.size:
                best = min(best, float(np.abs(part - other).mean()))
    return best


def read_cuts(path: Path) -> frozenset[int]:
    """Frame numbers of a file: one a line, ``#`` begins a comment; or a scene list of PySceneDetect (CSV).

    Raises:
        InputError: the file cannot be read, or a line is no frame number.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"the cut list {path} cannot be read ({error}); give a text file of frame numbers") from error
    header = next((i for i, line in enumerate(lines) if "Start Frame" in line), None)
    if header is not None:
        rows = csv.DictReader(lines[header:])
        return frozenset(_number(row.get("Start Frame"), path, header + 2 + i) - 1 for i, row in enumerate(rows))
    texts = [(number, line.split("#")[0].strip()) for number, line in enumerate(lines, 1)]
    return frozenset(_number(text, path, number) for number, text in texts if text)


def _number(text: str | None, path: Path, line: int) -> int:
    if text is None or not text.strip().isdecimal():
        raise InputError(f"line {line} of {path} is '{text}', not a frame number; give one number a line")
    return int(text)
