"""Sentences that agree with the number of what they are of."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["counted", "without_effect"]


def counted(count: int, one: str, many: str | None = None) -> str:
    """``1 frame`` or ``12 frames``; ``many`` where more than an s differs, as of ``frame is`` and ``frames are``."""
    return f"{count} {one if count == 1 else many or f'{one}s'}"


def without_effect(options: Sequence[str], what: str) -> str:
    """``--a and --b have no effect on a page; leave them out``, of one option or more."""
    has, it = ("has", "it") if len(options) == 1 else ("have", "them")
    return f"{' and '.join(options)} {has} no effect on {what}; leave {it} out"
