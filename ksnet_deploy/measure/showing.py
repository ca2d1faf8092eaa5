"""Shows of a comparison: a video, the picture of the worst frame, a page, or nothing."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np

from ksnet_deploy.base.frames import FrameSize
from ksnet_deploy.measure.comparison import Comparison, Figures
from ksnet_deploy.measure.comparison_page import ComparisonPage
from ksnet_deploy.measure.layout import Layout, save_picture
from ksnet_deploy.measure.pages.page import write_page
from ksnet_deploy.measure.pairing import Pair, Version
from ksnet_deploy.video.writing.comparison import CONTAINERS, ComparisonWriter, Picture

__all__ = ["Compared", "Show", "open_show"]


@dataclass(frozen=True)
class Compared:
    """A pair of frames with its figures, and the source's by bicubic where there is one."""

    pair: Pair
    figures: Figures
    bicubic: Picture | None = None
    bicubic_figures: Figures | None = None


class Show:
    """Shows nothing."""

    def add(self, compared: Compared) -> None:
        """The next pair, in the order of time."""

    def finish(self, worst: Compared) -> list[str]:  # noqa: ARG002
        """All pairs were added; notes for a user."""
        return []

    def write(self, comparison: Comparison) -> None:
        """All is known."""


class _Video(Show):
    def __init__(self, temporary: Path, target: Path, found: Version, layout: Layout, size: FrameSize) -> None:
        assert found.reader is not None
        self.writer = ComparisonWriter(temporary, target.suffix, found.reader, layout.size(size))
        self._layout = layout
        self._began_s: Fraction | None = None

    def add(self, compared: Compared) -> None:
        shown_s = compared.pair.shown[1].time_s
        self._began_s = shown_s if self._began_s is None else self._began_s
        boundary = self._layout.boundary(float(shown_s - self._began_s))
        self.writer.write(self._layout.compose(compared.pair.reference, compared.pair.found, boundary), shown_s)

    def finish(self, worst: Compared) -> list[str]:  # noqa: ARG002
        self.writer.finish()
        return self.writer.notes


class _WorstFrame(Show):
    """Picture of the worst frame; with the source by bicubic in front, where versions stand side by side."""

    def __init__(self, temporary: Path, layout: Layout, names: list[str], bicubic: str | None, *, single: bool) -> None:
        self._temporary, self._layout, self._names, self._bicubic = temporary, layout, names, bicubic
        self._single = single

    def finish(self, worst: Compared) -> list[str]:
        shown, names = self._layout.compose(worst.pair.reference, worst.pair.found), self._names
        if self._bicubic is not None and worst.bicubic is not None and self._layout.mode == "side-by-side":
            shown, names = np.concatenate([worst.bicubic, shown], axis=1), [self._bicubic, *names]
        save_picture(self._temporary, self._layout.named(shown, names))
        return [] if self._single else [f"Shown is the frame of the lowest PSNR, {worst.pair.shown[0].at}."]


class _Page(Show):
    """Page; where a source is given, of the frames that it has."""

    def __init__(self, temporary: Path, names: list[str], bicubic: str | None) -> None:
        self._temporary, self._with_bicubic = temporary, bicubic is not None
        self._page = ComparisonPage([*names, *([] if bicubic is None else [bicubic])])

    def add(self, compared: Compared) -> None:
        pictures, figures = [compared.pair.reference, compared.pair.found], [compared.figures]
        if self._with_bicubic:
            if compared.bicubic is None or compared.bicubic_figures is None:
                return
            pictures, figures = [*pictures, compared.bicubic], [*figures, compared.bicubic_figures]
        self._page.add(pictures, [(each.psnr_rgb_db, each.ssim_y) for each in figures], compared.pair.shown[0].at)

    def write(self, comparison: Comparison) -> None:
        title = f"{comparison.reference.name} and {comparison.found.name}"
        write_page(self._temporary, "slider", title, comparison.page(self._page))


def open_show(
    target: Path | None,
    temporary: Path | None,
    versions: tuple[Version, Version],
    names: list[str],
    bicubic: str | None,
    layout: Layout,
    size: FrameSize,
    stack: ExitStack,
) -> Show:
    """The show that a target's name asks for.

    Args:
        temporary: where it is written.
        names: of the two versions, for people; ``bicubic`` is that of the source, if there is one.
        layout: how both are shown in a video or a picture.
        size: of the frames.
        stack: closes what is open.
    """
    if target is None or temporary is None:
        return Show()
    if target.suffix.lower() == ".html":
        return _Page(temporary, names, bicubic)
    if target.suffix.lower() in CONTAINERS:
        video = _Video(temporary, target, versions[1], layout, size)
        stack.enter_context(video.writer)
        return video
    return _WorstFrame(temporary, layout, names, bicubic, single=versions[0].kind == "picture")
