"""Jobs of a page, with networks that cost nothing."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from media import make_video
from runners import FadingRunner

from ksnet_deploy.base.frames import FrameSize
from ksnet_deploy.web.jobs import JobStore
from ksnet_deploy.web.turns import Turns

SIZE = FrameSize(16, 24)
FRAMES, SEGMENT = 60, 24


@pytest.fixture
def store(tmp_path: Path) -> Iterator[JobStore]:
    with JobStore(tmp_path / "jobs") as opened:
        yield opened


@pytest.fixture
def turns(store: JobStore, costless: None) -> Iterator[Turns]:  # noqa: ARG001
    with Turns(store) as opened:
        yield opened


@pytest.fixture
def costless(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bundled networks cost nothing, and show a state that was lost; segments are short."""

    def opened(_network: object, size: FrameSize, io: Any, *_: object, **__: object) -> FadingRunner:
        return FadingRunner(size, io)

    monkeypatch.setattr("ksnet_deploy.upscale.plan.LONGEST_SEGMENT", SEGMENT)
    monkeypatch.setattr("ksnet_deploy.upscale.networks.NetworkFile.open", opened)


@pytest.fixture(scope="session")
def long_film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A film of three segments, the last of them short, with sound."""
    return make_video(tmp_path_factory.mktemp("long") / "long.mp4", SIZE, frames=FRAMES, sound=True)
