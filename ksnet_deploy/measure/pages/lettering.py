"""Pictures (H, W, 3) beside each other with names on them."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from ksnet_deploy.measure.pages.areas import Area
from ksnet_deploy.video.writing.comparison import Picture

__all__ = ["STRIP_PX", "captioned", "framed", "label", "sheet"]

STRIP_PX = 30
"""Height of a line of text."""
FONT_PX, GAP_PX, MARGIN_PX = 16, 8, 10
MISSING = "\U0010fffd"
"""A character that no font has."""
GROUND, INK, FAINT = (24, 25, 28), (240, 240, 242), (160, 164, 172)


def label(text: str, width: int, *, faint: bool = False) -> Picture:
    """A line of text, (STRIP_PX, width, 3); what does not fit is cut off and ends in dots."""
    image = Image.new("RGB", (max(width, 1), STRIP_PX), GROUND)
    shown = "".join(map(_drawable, text))
    while shown and _font().getlength(shown) > width - MARGIN_PX:
        shown = shown.removesuffix("...")[:-1] + "..." if shown != "..." else ""
    ImageDraw.Draw(image).text((2, STRIP_PX // 2), shown, font=_font(), fill=FAINT if faint else INK, anchor="lm")
    return np.asarray(image)


def framed(picture: Picture, area: Area, colour: tuple[int, int, int] = (255, 196, 0)) -> Picture:
    """A copy with a line around an area."""
    image = Image.fromarray(picture)
    right, bottom = area.left + area.width - 1, area.top + area.height - 1
    ImageDraw.Draw(image).rectangle((area.left, area.top, right, bottom), outline=colour, width=2)
    return np.asarray(image)


def captioned(picture: Picture, text: str) -> Picture:
    """A picture with a line of text above it."""
    return np.concatenate([label(text, picture.shape[1], faint=True), picture])


def sheet(rows: Sequence[tuple[str, Sequence[Picture]]], columns: Sequence[str], title: str = "") -> Picture:
    """Pictures in rows and columns, with the name of each column above it and that of each row above the row.

    Args:
        rows: name (empty for no line of text) and pictures.
        columns: names, at least as many as a row has pictures; none where each row has widths of its own.
    """
    own = [[picture.shape[1] for picture in pictures] for _, pictures in rows]
    if columns:
        shared = [max((row[n] for row in own if n < len(row)), default=1) for n in range(len(columns))]
        own = [shared] * len(rows)
    inner = max(sum(widths) + GAP_PX * (len(widths) - 1) for widths in own)
    lines: list[Picture] = []
    if title:
        lines.append(label(title, inner))
    if columns:
        lines.append(_beside([label(name, width) for name, width in zip(columns, own[0], strict=True)], own[0]))
    for (name, pictures), widths in zip(rows, own, strict=True):
        if name:
            lines.append(label(name, inner, faint=True))
        lines.append(_beside(pictures, widths))
    height = sum(line.shape[0] for line in lines) + GAP_PX * (len(lines) - 1) + 2 * MARGIN_PX
    whole = np.full((height, inner + 2 * MARGIN_PX, 3), GROUND, np.uint8)
    top = MARGIN_PX
    for line in lines:
        whole[top : top + line.shape[0], MARGIN_PX : MARGIN_PX + line.shape[1]] = line
        top += line.shape[0] + GAP_PX
    return whole


def _beside(pictures: Sequence[Picture], widths: Sequence[int]) -> Picture:
    height = max(picture.shape[0] for picture in pictures)
    row = np.full((height, sum(widths) + GAP_PX * (len(widths) - 1), 3), GROUND, np.uint8)
    left = 0
    for picture, width in zip(pictures, widths, strict=False):
        row[: picture.shape[0], left : left + picture.shape[1]] = picture
        left += width + GAP_PX
    return row


@lru_cache(maxsize=4096)
def _drawable(character: str) -> str:
    """Characters that the font has, in the place of one that it may lack, which would be drawn as an empty box: the
    letter without its accent, or a question mark."""
    if character == "×":
        return "x"
    missing = bytes(_font().getmask(MISSING))
    without = (part for part in unicodedata.normalize("NFKD", character) if not unicodedata.combining(part))
    for shown in (character, "".join(without)):
        if shown and shown.isprintable() and all(bytes(_font().getmask(part)) != missing for part in shown):
            return shown
    return "?"


@lru_cache(maxsize=1)
def _font() -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(FONT_PX)
