"""The command build-engine, without the build."""

from __future__ import annotations

import pytest
from command import failure_of, run

from ksnet_deploy.base.errors import BackendError
from ksnet_deploy.export import front
from ksnet_deploy.export.engine.make import EngineRequest, MadeEngine


@pytest.fixture
def requests(monkeypatch: pytest.MonkeyPatch) -> list[EngineRequest]:
    """What was asked for; each build ends there."""
    asked: list[EngineRequest] = []

    def make_engine(request: EngineRequest, **_told: object) -> MadeEngine:
        asked.append(request)
        raise BackendError("nothing is built here")

    monkeypatch.setattr(front, "make_engine", make_engine)
    return asked


@pytest.mark.parametrize(
    ("options", "precision"),
    [
        ((), "fp32"),
        (("--fp16",), "fp16"),
        (("--precision", "fp16"), "fp16"),
        (("--precision", "fp32"), "fp32"),
        (("--fp16", "--precision", "fp16"), "fp16"),
    ],
)
def test_the_precision_is_given_in_either_way(
    requests: list[EngineRequest], options: tuple[str, ...], precision: str
) -> None:
    assert "nothing is built here" in failure_of(run("build-engine", "--gpu", "sm86", *options))
    assert [request.precision for request in requests] == [precision]


def test_two_precisions_are_refused(requests: list[EngineRequest]) -> None:
    words = failure_of(run("build-engine", "--fp16", "--precision", "fp32"))
    assert "--fp16 and --precision fp32 contradict each other; give one of them" in words
    assert not requests
