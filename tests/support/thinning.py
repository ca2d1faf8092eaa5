"""Tables of many cases that are alike: some of each row and column by default, the rest with the slow tests."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest

__all__ = ["table"]


def table(rows: Iterable[Any], columns: Iterable[Any], every: int) -> list[Any]:
    """Parameters (row, column) of all pairs; one in ``every`` of a row, and of a column, is not slow."""
    columns = list(columns)
    return [
        pytest.param(row, column, marks=[pytest.mark.slow] if (i + j) % every else [], id=f"{row}-{column}")
        for i, row in enumerate(rows)
        for j, column in enumerate(columns)
    ]
