"""Report of a preview: values, text, a sheet of pictures, a page."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

from ksnet_deploy.base.frames import FrameSize
from ksnet_deploy.base.words import counted
from ksnet_deploy.measure.degradation import apply_matrices, bicubic_matrix
from ksnet_deploy.measure.pages.areas import Area, most_different
from ksnet_deploy.measure.pages.embedding import LOSSLESS, embed
from ksnet_deploy.measure.pages.lettering import framed, sheet
from ksnet_deploy.measure.preview.spots import BICUBIC, Spot
from ksnet_deploy.video.writing.comparison import Picture

__all__ = ["NetworkEstimate", "Preview"]

PAGE_BYTES = 5_700_000
"""Bytes of a page's pictures: with all else the page stays below 6 MB."""
PAGE_PIXELS = 16_000_000
"""Pixels of a page's pictures; of larger ones it shows a part, rather than fewer pixels or little quality."""
CROP = FrameSize(264, 352)
"""Size of the parts that the sheet shows pixel by pixel."""


@dataclass(frozen=True)
class NetworkEstimate:
    """Estimate for the whole film with a network."""

    name: str
    fps: float
    seconds: float | None
    """None where the source does not say how long it is."""
    bytes: int | None
    """Bytes of the video; None where only a part of the frames was upscaled, or the output is no video."""
    measured_frames: int
    scaled: bool
    """Whether the network alone was measured, and on a part of the frames in proportion to their area; else the whole
    way was, encoder included."""

    @property
    def duration(self) -> str:
        """Time in words, ``h:mm:ss``."""
        return "not known" if self.seconds is None else str(timedelta(seconds=max(round(self.seconds), 1)))

    @property
    def size(self) -> str:
        """Bytes in words."""
        return "not known" if self.bytes is None else f"{max(self.bytes / 1e6, 0.1):,.1f} MB"


@dataclass(frozen=True)
class Preview:
    """Some frames of a film by several networks, and what each would take for all of it."""

    source: Path
    size: FrameSize
    """Size of the source's frames."""
    spots: list[Spot]
    networks: list[NetworkEstimate]
    seconds: float
    """Time that the preview took."""
    outputs: list[Path] = field(default_factory=list)
    """The files that were written."""
    notes: list[str] = field(default_factory=list)
    """Notes for a user, one sentence each."""
    is_part: bool = False
    """Whether the times and bytes are of a part of the film, which was asked for."""

    @property
    def extent(self) -> str:
        """Extent of the times and bytes in words."""
        return "this part" if self.is_part else "whole film"

    def as_dict(self) -> dict[str, Any]:
        """Plain values, without the pictures, as ``--json`` gives them."""
        return {
            "input": str(self.source),
            "height": self.size.upscaled.height,
            "width": self.size.upscaled.width,
            "spots": [
                {
                    "time_s": round(spot.time_s, 3),
                    "frames_before": spot.frames_before,
                    "part": None if spot.part is None else spot.part._asdict(),
                }
                for spot in self.spots
            ],
            "networks": [
                {
                    "model": each.name,
                    "fps": round(each.fps, 3),
                    "seconds": None if each.seconds is None else round(each.seconds, 1),
                    "bytes": each.bytes,
                    "measured_frames": each.measured_frames,
                    "network_alone": each.scaled,
                }
                for each in self.networks
            ],
            "seconds": round(self.seconds, 1),
            "outputs": [str(path) for path in self.outputs],
            "notes": self.notes,
        }

    def as_text(self) -> str:
        """A table for people."""
        moments = ", ".join(f"{spot.time_s:.2f}" for spot in self.spots)
        lines = [
            f"{self.source}: {self.size} to {self.size.upscaled} (height x width), frames at {moments} s",
            f"{'':<16}{self.extent:>14}{'fps':>9}{'file':>14}",
        ]
        lines += [f"{one.name:<16}{one.duration:>14}{one.fps:>9.2f}{one.size:>14}" for one in self.networks]
        return "\n".join([*lines, *self.notes])

    def sheet(self) -> Picture:
        """All of it in one picture (H, W, 3): each frame small, and the part where the versions differ most, 1:1."""
        names = [BICUBIC, *(each.name for each in self.networks)]
        rows = []
        for spot in self.spots:
            area = _difference(spot, CROP)
            whole, small = spot.pictures[BICUBIC], _reduced(spot.pictures[BICUBIC], CROP)
            share = small.shape[0] / whole.shape[0]
            marked = framed(small, Area(*(round(side * share) for side in area)))
            rows.append((_caption(spot), [marked, *(area.of(spot.pictures[name]) for name in names)]))
        headings = ["frame", *(_heading(name, self.networks) for name in names)]
        return sheet(rows, headings, f"{self.source.name}, four times larger; parts at 1:1 where they differ most")

    def page(self) -> dict[str, Any]:
        """Data of the template ``slider``."""
        names = [BICUBIC, *(each.name for each in self.networks)]
        spots = [_limited(spot, PAGE_PIXELS // (len(self.spots) * len(names))) for spot in self.spots]
        uris, quality = embed([spot.pictures[name] for spot in spots for name in names], PAGE_BYTES)
        notes = list(self.notes)
        if any(a is not b for a, b in zip(spots, self.spots, strict=True)):
            notes.append("The page shows parts of the pictures, where they differ most; whole ones are too large.")
        views = []
        for index, spot in enumerate(spots):
            height, width = spot.pictures[BICUBIC].shape[:2]
            area = _difference(spot, FrameSize(max(height // 3, 1), max(width // 3, 1)))
            views.append(
                {
                    "label": f"{spot.time_s:.2f} s",
                    "caption": _caption(spot),
                    "width": width,
                    "height": height,
                    "focus": area._asdict(),
                    "pictures": uris[index * len(names) : (index + 1) * len(names)],
                }
            )
        loss = "without loss" if quality == LOSSLESS else f"as WebP of quality {quality}, which loses a little"
        return {
            "title": self.source.name,
            "subtitle": f"Preview: {self.size.height}×{self.size.width} to {self.size.upscaled.height}×"
            f"{self.size.upscaled.width} (height × width)",
            "versions": names,
            "start": [0, len(names) - 1] if len(names) == 2 else [0, 1],
            "views": views,
            "curve": None,
            "table": {
                "title": f"What {'' if self.is_part else 'the '}{self.extent} would take here",
                "head": ["Network", "Time (h:mm:ss)", "Frames per second", "File"],
                "rows": [[each.name, each.duration, f"{each.fps:.2f}", each.size] for each in self.networks],
            },
            "notes": [*notes, f"Pictures are kept {loss}."],
        }


def _difference(spot: Spot, size: FrameSize) -> Area:
    return most_different(list(spot.pictures.values()), size)


def _limited(spot: Spot, pixels: int) -> Spot:
    """A spot whose pictures have no more pixels than that: the part of them where they differ most."""
    height, width = spot.pictures[BICUBIC].shape[:2]
    share = (pixels / (height * width)) ** 0.5
    if share >= 1:
        return spot
    area = _difference(spot, FrameSize(max(int(height * share), 1), max(int(width * share), 1)))
    return replace(spot, pictures={name: area.of(picture) for name, picture in spot.pictures.items()})


def _caption(spot: Spot) -> str:
    seen = (
        f"{counted(spot.frames_before, 'frame before it was', 'frames before it were')} seen"
        if spot.frames_before
        else "no frame before it was seen"
    )
    shown = "" if spot.part is None else f"; a part of {spot.part.height}x{spot.part.width} pixels of the source"
    return f"At {spot.time_s:.2f} s, {seen}{shown}"


def _heading(name: str, networks: list[NetworkEstimate]) -> str:
    estimate = next((each for each in networks if each.name == name), None)
    return name if estimate is None else f"{name}: {estimate.duration}, {estimate.fps:.2f} fps"


def _reduced(picture: Picture, most: FrameSize) -> Picture:
    """A picture that is no larger than that, by bicubic."""
    share = min(most.height / picture.shape[0], most.width / picture.shape[1], 1.0)
    sides = [max(round(side * share), 1) for side in picture.shape[:2]]
    rows, columns = (bicubic_matrix(side, new) for side, new in zip(picture.shape[:2], sides, strict=True))
    return apply_matrices(rows, columns, picture)
