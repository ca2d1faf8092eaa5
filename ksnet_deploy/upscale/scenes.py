"""Scene cuts of a video, at which a recurrent network forgets what it saw.

:class:`SceneDetector` looks at each frame once, at the frames before it, and never ahead. It asks how much of a small
thumbnail can be had from the thumbnail before, moved and relit: that is what a camera and a lamp do within a scene,
and what a cut does not. All of it is integer arithmetic, so the same frames give the same cuts on every machine.
"""

from __future__ import annotations

import csv
import re
from collections import deque
from pathlib import Path
from typing import Protocol

from ksnet_deploy.base.errors import InputError
from ksnet_deploy.upscale.picture_change import (
    FLASH_STRUCTURE,
    Picture,
    _difference,
    _ends_fade,
    _is_flash,
    _Thumbnail,
    _weigh,
)

__all__ = ["CutDetector", "GivenCuts", "NoCuts", "SceneDetector", "cuts_in_words", "is_one_scene", "read_cuts"]

CHANGE_LIMIT = 575
"""Limit per mille that the change between two pictures of one scene hardly ever exceeds."""
CHANGE_STEP, CHANGE_MOST = 220, 850
"""Per mille: a cut differs by so much more than is usual in a scene that is all motion, or by so much in any."""
COLOUR_CHANGE = 100
"""Per mille of colours that every cut changes; noise alone changes all the structure but few colours."""
REMEMBERED, USUAL = 4, 8
"""Pictures that a scene can come back to, after a flash for example; differences that make up what is usual."""


class CutDetector(Protocol):
    """Detector that tells the first frame of each scene."""

    def starts_scene(self, rgb: Picture) -> bool:
        """Whether a scene starts with the next frame, (H, W, 3). Call it once per frame, in order.

        True for the first frame of all. The answer depends on the frames seen so far and on nothing else.
        """


class NoCuts:
    """The whole video is one scene."""

    def __init__(self) -> None:
        self._started = False

    def __repr__(self) -> str:
        return "none"

    def starts_scene(self, rgb: Picture) -> bool:  # noqa: ARG002
        first, self._started = not self._started, True
        return first


class GivenCuts:
    """Scenes start where a list says."""

    def __init__(self, cuts: frozenset[int]) -> None:
        """``cuts`` are numbers of first frames, counted from 0; frame 0 starts a scene in any case."""
        self.cuts = cuts | {0}
        self._frame = 0

    def __repr__(self) -> str:
        return f"given {sorted(self.cuts)}"

    def starts_scene(self, rgb: Picture) -> bool:  # noqa: ARG002
        self._frame += 1
        return self._frame - 1 in self.cuts


class SceneDetector:
    """Finds cuts in the frames themselves.

    A frame starts a scene when it differs from the one before by more than is usual, in structure and in colour, and
    when none of the few before that explains it either. Flashes and fades are not cuts. A dissolve is none either: no
    frame of it starts anything.
    """

    def __init__(self) -> None:
        self._recent: deque[_Thumbnail] = deque(maxlen=REMEMBERED)
        self._changes: deque[int] = deque(maxlen=USUAL)

    def __repr__(self) -> str:
        return "detected"

    def starts_scene(self, rgb: Picture) -> bool:
        """Whether a scene starts with the next frame, (H, W, 3), uint8 or uint16. Call it once per frame, in order."""
        thumbnail = _Thumbnail.of(rgb)
        starts = not self._recent or self._is_cut(thumbnail)
        if starts:
            self._recent.clear()
            self._changes.clear()
        # A frame that is all white hides the scene: what comes after it is compared with what was before it.
        if starts or not thumbnail.is_white:
            self._recent.append(thumbnail)
        return starts

    def _is_cut(self, now: _Thumbnail) -> bool:
        if now.is_white:
            return False
        before = self._recent[-1]
        structure, colour = _difference(before, now)
        change = _weigh(structure, colour)
        usual = sorted(self._changes)[len(self._changes) // 2] if self._changes else 0
        limit = min(max(CHANGE_LIMIT, usual + CHANGE_STEP), CHANGE_MOST)
        if (
            change > limit
            and colour >= COLOUR_CHANGE
            and not _ends_fade(before, now)
            and not (structure < FLASH_STRUCTURE and _is_flash(before, now))
            and all(_weigh(*_difference(older, now)) > limit for older in list(self._recent)[:-1])
        ):
            return True
        self._changes.append(change)
        return False


def cuts_in_words(cuts: str, other: str) -> str:
    """Words for the ``repr`` of a detector: of given cuts, their number and the first that the other lacks."""
    if not cuts.startswith("given"):
        return cuts
    numbers, others = (re.findall(r"\d+", text) for text in (cuts, other))
    own = [number for number in numbers if number not in {*others, "0"}]
    some = f", {', '.join(own[:3])}{', ...' if len(own) > 3 else ''} among them" if own else ""
    return f"{len(numbers) - 1} given{some}"


def is_one_scene(detector: CutDetector) -> bool:
    """Whether it is known beforehand that there are no cuts."""
    return isinstance(detector, NoCuts) or (isinstance(detector, GivenCuts) and detector.cuts == {0})


def read_cuts(path: Path) -> frozenset[int]:
    """Read a list of first frames of scenes, counted from 0.

    Either one number a line, with blank lines and ``#`` comments, or the CSV of PySceneDetect's ``list-scenes``, whose
    frames are counted from 1.

    Raises:
        InputError: the file cannot be read, or a line of it is something else.
    """
    if path.is_dir():
        raise InputError(f"the cut list {path} cannot be read: it is a folder; give a text file of frame numbers")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise InputError(
            f"the cut list {path} cannot be read ({error.strerror}); give a text file of frame numbers"
        ) from error
    except UnicodeDecodeError as error:
        raise InputError(
            f"the cut list {path} is not text in UTF-8; give a text file with one frame number a line"
        ) from error
    lines = text.splitlines()
    # PySceneDetect may put a line of timecodes before its header.
    header = next((n for n, line in enumerate(lines[:2]) if "Start Frame" in line), None)
    if header is None:
        entries = ((n, line.partition("#")[0].strip()) for n, line in enumerate(lines, 1))
        return frozenset(_frame_number(path, n, entry, 0) for n, entry in entries if entry)
    column = next(csv.reader(lines[header : header + 1])).index("Start Frame")
    rows = ((n, next(csv.reader([line]))) for n, line in enumerate(lines[header + 1 :], header + 2) if line.strip())
    return frozenset(_frame_number(path, n, row[column] if column < len(row) else "", 1) for n, row in rows)


def _frame_number(path: Path, line: int, entry: str, first: int) -> int:
    """The number that an entry says, less ``first``, which is how its list counts the first frame."""
    if not re.fullmatch("[0-9]{1,18}", entry) or int(entry) < first:
        raise InputError(
            f"line {line} of the cut list {path} says '{entry}' where a frame number of {first} or more is expected; "
            "write one number a line, or give the CSV that 'scenedetect list-scenes' writes"
        )
    return int(entry) - first
