"""Two versions of a video, a picture or a folder of frames against each other: PSNR and SSIM, and both in one picture.

The first is the reference, the second is measured against it. The figures are those of ``evaluation.py``: nothing is
cropped, Y is unrounded BT.601 luma, and a frame that equals the reference counts 100 dB in a mean. Frames are uint8 RGB
(H, W, 3), turned upright.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from ksnet_deploy.base.errors import InputError
from ksnet_deploy.base.files import making
from ksnet_deploy.base.frames import FrameSize
from ksnet_deploy.base.metrics import PSNR_LIMIT
from ksnet_deploy.measure.comparison import Comparison, Figures
from ksnet_deploy.measure.layout import Layout, check_output
from ksnet_deploy.measure.pairing import Pairs, Yardstick, check_kinds, enlarged_name, open_version
from ksnet_deploy.measure.showing import Compared, open_show

__all__ = ["Comparison", "Figures", "compare"]


class _Score:
    """Figures of the frames so far, and the frame of the lowest PSNR."""

    def __init__(self) -> None:
        self.frames = self.identical = 0
        self._sums = np.zeros(3)
        self.worst: Compared | None = None

    def add(self, compared: Compared, figures: Figures) -> None:
        self.frames += 1
        self.identical += figures.psnr_rgb_db == math.inf
        limited = min(figures.psnr_rgb_db, PSNR_LIMIT), min(figures.psnr_y_db, PSNR_LIMIT)
        self._sums += (*limited, figures.ssim_y or 0.0)
        if self.worst is None or compared.figures.psnr_rgb_db < self.worst.figures.psnr_rgb_db:
            self.worst = compared

    def mean(self) -> Figures:
        assert self.worst is not None
        rgb, y, similarity = (float(total / self.frames) for total in self._sums)
        if self.identical == self.frames:
            rgb = y = math.inf
        return Figures(rgb, y, None if self.worst.figures.ssim_y is None else similarity)


def compare(
    reference: Path | str,
    found: Path | str,
    target: Path | str | None = None,
    layout: Layout | None = None,
    *,
    source: Path | str | None = None,
    overwrite: bool = False,
    on_start: Callable[[FrameSize, int | None], None] = lambda _size, _frames: None,
    on_frame: Callable[[], None] = lambda: None,
) -> Comparison:
    """Measure one version against another, and show both.

    Frames of videos belong together by their times, those of folders by their order. Where one version is smaller by a
    whole factor it is enlarged by bicubic. Frames are read one by one: memory does not grow with their number.

    Args:
        reference: a video, a picture or a folder of frames.
        found: another of the same kind.
        target: None for the figures alone; a video, for videos, with the sound of ``found``; .png, which shows the
            frame of the lowest PSNR; or .html, a page with a boundary to move and the figures as curves.
        layout: how both are shown; the boundary of a wipe moves in a video and stands in the middle of a picture.
        source: what ``found`` was made from, smaller by a whole factor: enlarged by bicubic it is measured too, and
            stands beside both in pictures and pages.
        overwrite: replace an existing target.
        on_start: called once with the size and the number of frames (None when unknown), ``on_frame`` after each.

    Raises:
        InputError: one cannot be read, or they do not fit each other.
        OutputError: the target cannot be written, exists, or is one of the two.
    """
    layout, reference, found = layout or Layout(), Path(reference), Path(found)
    target, source = (None if path is None else Path(path) for path in (target, source))
    with ExitStack() as stack:
        a, b = open_version(reference, stack), open_version(found, stack)
        check_kinds(a, b)
        if target is not None:
            sources = [path for path in (reference, found, source) if path is not None]
            check_output(target, sources, video=b.reader is not None, overwrite=overwrite)
        pairs, score, of_bicubic = Pairs(a, b), _Score(), _Score()
        yardstick = None if source is None else Yardstick(reference, source, pairs.size, stack)
        names = [enlarged_name(path, factor) for path, factor in zip((reference, found), pairs.factors, strict=True)]
        on_start(pairs.size, min((s.frames for s in (a, b) if s.frames is not None), default=None))
        temporary = None if target is None else stack.enter_context(making(target, overwrite=overwrite))
        bicubic_name = None if yardstick is None else yardstick.name
        show = open_show(target, temporary, (a, b), names, bicubic_name, layout, pairs.size, stack)
        notes = [] if target is None or target.suffix.lower() == ".html" else [layout.legend(reference, found)]
        for pair in pairs:
            bicubic = None if yardstick is None else yardstick.at(pair)
            bicubic_figures = None if bicubic is None else Figures.of(bicubic, pair.reference)
            compared = Compared(pair, Figures.of(pair.found, pair.reference), bicubic, bicubic_figures)
            score.add(compared, compared.figures)
            if bicubic_figures is not None:
                of_bicubic.add(compared, bicubic_figures)
            show.add(compared)
            on_frame()
        if score.worst is None:
            raise InputError(
                f"no frame of {reference} is shown at the time of one of {found}; the first begins at "
                f"{pairs.first[0].at}, the second at {pairs.first[1].at}; give two videos with the same clock"
            )
        if yardstick is not None and not of_bicubic.frames:
            raise InputError(f"no frame of {source} is shown at the time of one that is compared; give their source")
        notes += show.finish(score.worst)
        shown = score.worst.pair.shown[0]
        result = Comparison(
            reference,
            found,
            target,
            pairs.size,
            score.frames,
            score.identical,
            score.mean(),
            score.worst.figures,
            shown.number,
            shown.at if a.reader is None else float(shown.time_s),
            (pairs.unmatched[0], pairs.unmatched[1]),
            of_bicubic.mean() if of_bicubic.frames else None,
            notes + pairs.notes(),
        )
        show.write(result)
        return result
