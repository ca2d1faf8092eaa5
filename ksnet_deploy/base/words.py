"""Numbers of things in sentences."""

from __future__ import annotations

__all__ = ["counted"]


def counted(count: int, one: str, many: str | None = None) -> str:
    """``1 frame`` or ``12 frames``; ``many`` where more than an s differs, as of ``frame is`` and ``frames are``."""
    return f"{count} {one if count == 1 else many or f'{one}s'}"
