"""The benchmark of a training's choices: each can be trained, and gets the iterations that its time is enough for."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ksnet_deploy.network.config import KSNetConfig
from ksnet_deploy.training.recipe import Stage
from ksnet_deploy.training.run import TrainingRequest

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))
choices = pytest.importorskip("training_choices", reason="needs a checkout")
REQUEST = TrainingRequest(data=(Path("data"),), folder=Path(), size="lite")


@pytest.mark.parametrize("name", choices.CHOICES)
def test_every_choice_can_be_trained_and_differs_from_the_others(name: str) -> None:
    changes = dict(choices.CHOICES[name])
    stage = Stage.parse(f"1:{changes.pop('shape', choices.SHAPE)}")
    KSNetConfig.named("lite").replace(replace(REQUEST, **changes).settings)
    assert 4 * stage.patch_px <= 180, "the height of the training clips"
    assert list(choices.CHOICES.values()).count(choices.CHOICES[name]) == 1


def test_the_cost_of_an_iteration_is_the_least_that_was_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[str] = []

    def train(request: TrainingRequest, shape: str, iterations: int) -> tuple[dict[str, float], dict[int, float]]:
        ran.append(f"{shape} {request.optimizer}")
        each = (2.0 if shape == "8x5x32" else 1.0) * (1.5 if len(ran) == 1 else 1.0)  # the first meets a busy moment
        assert request.validation is None
        return {}, {at: 7.0 + each * at for at in range(0, iterations + 1, request.validate_every)}

    monkeypatch.setattr(choices, "train", train)
    found = choices.costs(replace(REQUEST, validation=Path("clips")))
    assert {name: 1.0 if name != "twice the batch" else 2.0 for name in choices.CHOICES} == found
    assert ran.count("4x5x32 None") == 2 * choices.ROUNDS, "the base, which seed and rate cost as much as, and the tail"


def test_the_processor_time_leaves_out_the_beginning_and_the_validation(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = {20: 50.0, 40: 60.0, 60: 70.0, 80: 110.0}
    monkeypatch.setattr(choices, "train", lambda *_: ({"gain": 1.0}, clock))
    row: dict[str, Any] = choices.measure(REQUEST, choices.SHAPE, 80)
    assert row == {"iterations": 80, "shape": choices.SHAPE, "processor_s": 40, "gain": 1.0}
