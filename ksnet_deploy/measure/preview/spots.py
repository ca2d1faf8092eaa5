"""Frames of a film by every network; a part of them where whole ones would take long."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import sqrt
from typing import Any

from numpy.typing import NDArray

from ksnet_deploy.base.frames import FrameSize, values_of
from ksnet_deploy.measure.degradation import enlarge_bicubic
from ksnet_deploy.measure.pages.areas import Area
from ksnet_deploy.measure.preview.moments import Stretch
from ksnet_deploy.upscale.networks import Network
from ksnet_deploy.upscale.upscaler import Upscaler
from ksnet_deploy.upscale.windows import Windows
from ksnet_deploy.video.writing.comparison import Picture

__all__ = ["BICUBIC", "Pace", "Spot", "bicubic_of", "part_size", "upscale_stretches"]

BICUBIC = "bicubic"
WORK = 2.4e12
"""Multiply-adds of a network for a preview: about 40 seconds of two cores."""


@dataclass(frozen=True)
class Spot:
    """One frame, enlarged in several ways."""

    time_s: float
    """Time of the frame in seconds from the beginning of the film."""
    frames_before: int
    """Frames of the same scene that the networks saw before it."""
    part: Area | None
    """Part of the source's frame that is shown, in its pixels; None for all of it."""
    pictures: dict[str, Picture]
    """(4 H, 4 W, 3) uint8, upright: bicubic first, then by the networks' names."""


@dataclass
class Pace:
    """Speed of a network on the frames that were upscaled for the preview, the first step left out where there are
    others."""

    steps: int = 0
    seconds: float = 0.0

    @property
    def frame_s(self) -> float:
        """Seconds of a frame."""
        return self.seconds / max(self.steps, 1)


def part_size(size: FrameSize, networks: list[Network], steps: int) -> FrameSize:
    """Size of the part of a frame that each network does so many steps on with :data:`WORK`; the whole where it can.

    Exported files run whole frames only.
    """
    if not all(network.can_be_tiled or network.config() is not None for network in networks):
        return size
    most = max(network.macs_per_frame(size.padded) or 0 for network in networks)
    share = sqrt(min(WORK / steps / most, 1.0)) if most else 1.0
    sides = (max(round(side * share), min(side, FrameSize.MINIMUM)) for side in (size.height, size.width))
    return FrameSize(*sides)


def bicubic_of(stretch: Stretch) -> Picture:
    """The frame to look at enlarged by bicubic, upright."""
    return _shown(enlarge_bicubic(values_of(stretch.frames[-1], "uint8")), stretch)


def upscale_stretches(
    upscaler: Upscaler, stretches: list[Stretch], on_step: Callable[[], None]
) -> tuple[list[Picture], Pace]:
    """The last frame of every stretch as the network makes it after those before, and the network's pace."""
    found: list[Picture] = []
    first: tuple[int, float] | None = None
    for stretch in stretches:
        upscaler.reset()
        picture: NDArray[Any] | None = None
        for hr in upscaler.window(stretch.frames, stretch.ahead[: upscaler.windows.ahead]):
            picture = hr
            first = first or (upscaler.steps, upscaler.step_s)
            on_step()
        assert picture is not None
        found.append(_shown(values_of(picture, "uint8"), stretch))
    assert first is not None
    if upscaler.is_bidirectional:  # its first frame comes when half of the work on all is done
        seen = Windows(len(stretches[0].frames), min(len(stretches[0].ahead), upscaler.windows.ahead))
        return found, Pace(upscaler.steps, upscaler.step_s * upscaler.windows.work / seen.work)
    if upscaler.steps == first[0]:
        return found, Pace(*first)
    return found, Pace(upscaler.steps - first[0], upscaler.step_s - first[1])


def _shown(picture: Picture, stretch: Stretch) -> Picture:
    """A picture as players show it."""
    return picture if stretch.display is None else stretch.display.upright(picture)
