"""Fixtures of the tests of upscaling."""

from __future__ import annotations

import pytest
from fake_card import FakeCard
from networks import SMALL, new_checkpoint

from ksnet_deploy.network.checkpoints import Checkpoint


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    """The small network, in a file of its own."""
    return new_checkpoint(tmp_path_factory.mktemp("ladder"), SMALL)


@pytest.fixture
def card(monkeypatch: pytest.MonkeyPatch) -> FakeCard:
    """An RTX 3080 that is not there."""
    return FakeCard().install(monkeypatch)
