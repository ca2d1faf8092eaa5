"""Report of a look inside a network: values, text, a sheet of pictures, a page."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ksnet_deploy.base.frames import FrameSize
from ksnet_deploy.base.words import counted
from ksnet_deploy.measure.degradation import apply_matrices, bicubic_matrix
from ksnet_deploy.measure.inspection.channels import LevelSummary
from ksnet_deploy.measure.inspection.maps import (
    flow_picture,
    flow_wheel,
    grey_picture,
    heat_picture,
    maps_of,
    signed_picture,
)
from ksnet_deploy.measure.inspection.recorder import FrameRecord, LevelRecord
from ksnet_deploy.measure.pages.embedding import embed
from ksnet_deploy.measure.pages.lettering import captioned, sheet
from ksnet_deploy.video.writing.comparison import Picture

__all__ = ["Inspection"]

PAGE_BYTES = 5_700_000
LARGEST = FrameSize(270, 480)
"""Maps of larger frames are shown reduced."""
SHOWN = 5
"""High-value and low-value channels of a level in the sheet."""


class _Figure(NamedTuple):
    picture: Picture
    caption: str


@dataclass(frozen=True)
class Inspection:
    """A frame inside a network, and the channels over the frames before it."""

    source: Path
    model: str
    time_s: float
    """Time of the frame in seconds from the beginning of the film."""
    frames: list[FrameRecord]
    """Frames from a fresh state on; the last is the one that was asked for."""
    summaries: list[LevelSummary]
    """Over the frames but the first, which has no past."""
    outputs: list[Path] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    """Notes for a user, one sentence each."""

    @property
    def frame(self) -> FrameRecord:
        """The one that was asked for."""
        return self.frames[-1]

    def as_dict(self) -> dict[str, Any]:
        """Plain values, without the maps."""
        flow = self.frame.flow
        return {
            "input": str(self.source),
            "model": self.model,
            "time_s": round(self.time_s, 3),
            "frames": len(self.frames),
            "flow_px": None if flow is None else {"dx": float(flow[0].mean()), "dy": float(flow[1].mean())},
            "levels": [summary.as_dict() for summary in self.summaries],
            "outputs": [str(path) for path in self.outputs],
            "notes": self.notes,
        }

    def as_text(self) -> str:
        """A table for people."""
        count = counted(len(self.frames), "frame")
        lines = [f"{self.source} at {self.time_s:.3f} s in {self.model}, over {count}"]
        if self.summaries:
            head, rows = _table(self.summaries)
            widths = [max(len(row[column]) for row in [head, *rows]) + 2 for column in range(len(head))]
            for row in [head, *rows]:
                cells = (cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))
                lines.append(row[0].ljust(widths[0]) + "".join(cells))
        return "\n".join([*lines, *self.notes])

    def sheet(self) -> Picture:
        """The frame's maps, and of every level the channels with the best and the worst scores, (H, W, 3)."""
        rows: list[tuple[str, Sequence[Picture]]] = [("", [captioned(*figure) for figure in self._maps()])]
        for level in self.frame.levels:
            high, low = _ranked(level)
            figures = [_channel(level, channel) for channel in (*high[:SHOWN], *low[-SHOWN:])]
            name = f"{level.branch}, level {level.level}: the {min(SHOWN, len(high))} high-value channels with the best"
            rows.append((f"{name} scores, then low-value ones", [captioned(*figure) for figure in figures]))
        if self.summaries:
            rows.append(("share of frames in which each channel is high-value, a line a level", [self._heat()]))
        return sheet(rows, [], f"{self.source.name} at {self.time_s:.2f} s, {self.model}")

    def page(self) -> dict[str, Any]:
        """Data of the template ``maps``."""
        groups: list[tuple[dict[str, Any], dict[str, Any], list[_Figure]]] = []
        sections: list[dict[str, Any]] = []

        def section(title: str, text: str = "", *, folds: bool = False, opened: bool = False) -> dict[str, Any]:
            sections.append({"title": title, "text": text, "groups": [], "tables": [], "folds": folds, "open": opened})
            return sections[-1]

        def group(into: dict[str, Any], title: str, kind: str, figures: Iterator[_Figure]) -> None:
            into["groups"].append({"title": title, "kind": kind, "figures": []})
            groups.append((into, into["groups"][-1], list(figures)))

        maps = section(
            "The frame",
            "Flow: white is at rest, the hue is the direction as in the wheel. Offset map: difference of this frame "
            "from the one before, Eq. (2). Gradient G, Eq. (1), and weighted map, Eq. (2): means over the channels.",
        )
        group(maps, "", "", self._maps())
        if self.summaries:
            over = section(
                f"Over {counted(len(self.frames), 'frame')}",
                "A line a level: how bright, in how many of the frames the channel is high-value. Below, each level by "
                "itself: a row a frame, a column a channel, light where it is high-value.",
            )
            group(over, "", "whole", iter([_Figure(self._heat(), "share of frames in which a channel is high-value")]))
            group(over, "", "whole", self._over_time())
            head, rows = _table(self.summaries)
            over["tables"].append({"head": head, "rows": rows})
            numbers = [str(number) for number in range(2, len(self.summaries[0].flips) + 2)]
            flips = [[summary.name, *map(str, summary.flips)] for summary in self.summaries]
            over["tables"].append({"head": ["flips at frame", *numbers], "rows": flips})
        for level in self.frame.levels:
            high, low = _ranked(level)
            inside = section(
                f"{level.branch}, level {level.level}: {len(high)} of {len(high) + len(low)} channels kept",
                f"Lambda {level.lam:.3f}. Channels with their scores, best first: the least is nearest to the map o.",
                folds=True,
                opened=level.level == 1,
            )
            edge = [high[0], high[-1], low[0], low[-1]]
            group(inside, "Best, last kept, first passed on, worst: channel, G, weighted", "", _steps(level, edge))
            group(inside, "High-value, kept for the next level", "high", (_channel(level, c) for c in high))
            group(inside, "Low-value, passed on", "low", (_channel(level, c) for c in low))
        uris, _ = embed([figure.picture for _, _, figures in groups for figure in figures], PAGE_BYTES)
        addresses = iter(uris)
        for _, inside, figures in groups:
            inside["figures"] = [
                {
                    "src": next(addresses),
                    "caption": figure.caption,
                    "width": figure.picture.shape[1],
                    "height": figure.picture.shape[0],
                }
                for figure in figures
            ]
        return {
            "title": f"{self.source.name} at {self.time_s:.2f} s",
            "subtitle": f"Inside {self.model}",
            "sections": sections,
            "notes": self.notes,
        }

    def _maps(self) -> Iterator[_Figure]:
        frame = self.frame
        yield _Figure(_reduced(_rgb(frame.lr)), "frame")
        if frame.flow is not None:
            most_px = max(float(np.quantile(np.hypot(*frame.flow), 0.99)), 0.1)
            yield _Figure(
                _reduced(flow_picture(frame.flow, most_px)), f"flow to the last frame, up to {most_px:.2f} px"
            )
            room = np.full_like(_reduced(_rgb(frame.lr)), 255)
            side = min(room.shape[:2])
            room[:side, (room.shape[1] - side) // 2 :][:, :side] = flow_wheel(side)
            yield _Figure(room, "directions")
        if frame.offset is not None:
            yield _Figure(_reduced(grey_picture(frame.offset[0])), "offset map o")
        for level in frame.levels:
            if level.level == 1:
                gradient, weighted = maps_of(level.features, level.lam)
                yield _Figure(_reduced(grey_picture(gradient.mean(axis=0))), f"{level.branch}: G")
                yield _Figure(_reduced(signed_picture(weighted.mean(axis=0))), f"{level.branch}: weighted")
        size = FrameSize(*_reduced(_rgb(frame.lr)).shape[:2])
        yield _Figure(_reduced(_rgb(frame.hr), size), "result")

    def _heat(self) -> Picture:
        most = max(len(summary.kept_share) for summary in self.summaries)
        shares = np.zeros((len(self.summaries), most), np.float32)
        for row, summary in enumerate(self.summaries):
            shares[row, : len(summary.kept_share)] = summary.kept_share
        picture = heat_picture(shares, 12)
        for row, summary in enumerate(self.summaries):
            picture[12 * row : 12 * row + 12, 12 * len(summary.kept_share) :] = 128  # narrower than the first level
        return picture

    def _over_time(self) -> Iterator[_Figure]:
        frames = self.frames[1:] or self.frames
        for index, summary in enumerate(self.summaries):
            kept = np.stack([frame.levels[index].kept for frame in frames]).astype(np.float32)
            yield _Figure(heat_picture(kept, 6), f"{summary.name}: from the first frame (top) to the last")


def _ranked(level: LevelRecord) -> tuple[list[int], list[int]]:
    """High-value and low-value channels, each from the best score to the worst."""
    order = [int(channel) for channel in np.argsort(level.scores, kind="stable") if level.active[channel]]
    return [c for c in order if level.kept[c]], [c for c in order if not level.kept[c]]


def _channel(level: LevelRecord, channel: int) -> _Figure:
    picture = _reduced(signed_picture(level.features[channel]))
    return _Figure(picture, f"{channel}: {level.scores[channel]:.3g}")


def _steps(level: LevelRecord, channels: Sequence[int]) -> Iterator[_Figure]:
    for channel in channels:
        gradient, weighted = maps_of(level.features[channel : channel + 1], level.lam)
        yield _channel(level, channel)
        yield _Figure(_reduced(grey_picture(gradient[0])), f"{channel}: G")
        yield _Figure(_reduced(signed_picture(weighted[0])), f"{channel}: weighted")


def _table(summaries: Sequence[LevelSummary]) -> tuple[list[str], list[list[str]]]:
    head = [
        *("level", "lambda", "channels", "always kept", "never", "flips a frame"),
        *("G high", "G low", "corr. high", "corr. low"),
    ]
    rows = [
        [
            summary.name,
            f"{summary.lam:.3f}",
            str(len(summary.kept_share)),
            str(summary.always),
            str(summary.never),
            f"{np.mean(summary.flips):.2f}" if summary.flips else "-",
            *(f"{value:.4f}" for value in summary.gradient),
            *(f"{value:.3f}" for value in summary.correlation),
        ]
        for summary in summaries
    ]
    return head, rows


def _rgb(frame: np.ndarray[Any, np.dtype[np.float32]]) -> Picture:
    """(3, H, W) in [0, 1] as a picture."""
    return np.asarray(np.rint(np.clip(frame.transpose(1, 2, 0), 0, 1) * 255), dtype=np.uint8)


def _reduced(picture: Picture, most: FrameSize = LARGEST) -> Picture:
    share = min(most.height / picture.shape[0], most.width / picture.shape[1], 1.0)
    if share == 1:
        return picture
    sides = [max(round(side * share), 1) for side in picture.shape[:2]]
    rows, columns = (bicubic_matrix(side, new) for side, new in zip(picture.shape[:2], sides, strict=True))
    return apply_matrices(rows, columns, picture)
