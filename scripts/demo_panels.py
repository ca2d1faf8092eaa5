"""Pictures side by side with their names on them, for the demo and the README."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

__all__ = ["side_by_side", "with_name"]

GAP = 4
"""Columns between two panels."""
FONT_SIZE = 18


def side_by_side(panels: Mapping[str, NDArray[np.uint8]], zoom: int) -> NDArray[np.uint8]:
    """Panels (H, W, 3) of one size from left to right, every pixel ``zoom`` times larger, each with its name on it."""
    columns: list[NDArray[np.uint8]] = []
    for name, panel in panels.items():
        shown = with_name(panel.repeat(zoom, axis=0).repeat(zoom, axis=1), name)
        columns += [np.full((shown.shape[0], GAP, 3), 255, np.uint8), shown] if columns else [shown]
    return np.concatenate(columns, axis=1)


def with_name(picture: NDArray[np.uint8], name: str, *, right: bool = False) -> NDArray[np.uint8]:
    """A picture (H, W, 3) with a name in its lower left corner, or the right one."""
    image = Image.fromarray(picture)
    draw, font = ImageDraw.Draw(image), ImageFont.load_default(FONT_SIZE)
    place = (picture.shape[1] - 10 if right else 10, picture.shape[0] - 10)
    anchor = "rs" if right else "ls"
    draw.text(place, name, font=font, anchor=anchor, fill="white", stroke_width=3, stroke_fill="black")
    return np.asarray(image)
