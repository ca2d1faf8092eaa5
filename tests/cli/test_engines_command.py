"""The command build-engine, without the build."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

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


def test_a_bound_of_no_comparison_is_refused(requests: list[EngineRequest]) -> None:
    words = failure_of(run("build-engine", "--min-psnr", "40", "--verify-frames", "0"))
    assert "--min-psnr has no effect on an engine that is not compared; leave it out, or compare some frames" in words
    assert not requests


@pytest.mark.parametrize(("precision", "remedy"), [("fp16", "build in float32"), ("fp32", "report this")])
def test_an_engine_below_its_bound_ends_with_3_and_a_remedy_that_is_another_build(
    monkeypatch: pytest.MonkeyPatch, precision: str, remedy: str
) -> None:
    fault, spec = "did not pass its comparison with float32", SimpleNamespace(precision=precision)
    sidecar = SimpleNamespace(fault=fault, spec=spec, as_dict=lambda: {"precision": precision})
    made = SimpleNamespace(path=Path("e.engine"), sidecar=sidecar, sidecars=(sidecar,), reused=False, outputs=None)
    monkeypatch.setattr(front, "build_engine", lambda *_, **__: made)
    ended = run("build-engine", "--precision", precision, "--json")
    assert ended.returncode == 3
    assert f"e.engine is there, but {fault}; {remedy}, or accept less with --min-psnr" in ended.stderr
