"""Pictures inside a page, as WebP in ``data:`` addresses, as good as so many bytes allow."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable, Sequence

from PIL import Image

from ksnet_deploy.base.errors import OutputError
from ksnet_deploy.video.writing.comparison import Picture

__all__ = ["LOSSLESS", "data_uri", "embed", "webp"]

LOSSLESS = 101
"""Stands for no loss on the scale of WebP's qualities, 1 to 100."""
QUALITIES = (LOSSLESS, 95, 88, 78, 62, 45, 25, 8)
WORTH_TRYING = 4_000_000
"""Pixels, beyond which pictures are not tried without loss: they would take some 2 bytes each."""


def embed(pictures: Sequence[Picture], most_bytes: int) -> tuple[list[str], int]:
    """Pictures (H, W, 3) as addresses of together at most so many bytes, and the quality that they were given.

    All have the same quality, so that none looks better than another for another reason than its own.

    Raises:
        OutputError: there are too many for the least quality.
    """
    pixels = sum(picture.shape[0] * picture.shape[1] for picture in pictures)
    for quality in QUALITIES:
        if quality == LOSSLESS and pixels > WORTH_TRYING:
            continue
        found = _within((webp(picture, quality) for picture in pictures), most_bytes)
        if found is not None:
            return found, quality
    raise OutputError(
        f"{len(pictures)} pictures do not fit into a page of {most_bytes / 1e6:.1f} MB; show fewer of them"
    )


def webp(picture: Picture, quality: int) -> bytes:
    """A picture (H, W, 3) as WebP; :data:`LOSSLESS` for a quality keeps every value."""
    buffer = io.BytesIO()
    lossless = quality == LOSSLESS
    Image.fromarray(picture).save(buffer, "WEBP", lossless=lossless, quality=40 if lossless else quality, method=2)
    return buffer.getvalue()


def data_uri(encoded: bytes) -> str:
    """The address that holds a WebP file."""
    return f"data:image/webp;base64,{base64.b64encode(encoded).decode()}"


def _within(encoded: Iterable[bytes], most_bytes: int) -> list[str] | None:
    """The addresses, or None as soon as they are more than that."""
    found, total = [], 0
    for each in encoded:
        found.append(data_uri(each))
        total += len(found[-1])
        if total > most_bytes:
            return None
    return found
