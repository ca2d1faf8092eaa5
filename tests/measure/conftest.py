"""What several tests of measuring share."""

from __future__ import annotations

import pytest
from benches import Bed


@pytest.fixture
def bed(monkeypatch: pytest.MonkeyPatch) -> Bed:
    return Bed(monkeypatch)
