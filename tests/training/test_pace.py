"""Runs whose length follows from hours: train --hours."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor, nn
from trainings import CPU, settings, tiny_task

from ksnet_deploy.base.errors import CheckpointError, ConfigError
from ksnet_deploy.training.log import Progress
from ksnet_deploy.training.loop import run_loop
from ksnet_deploy.training.loop_settings import LoopSettings
from ksnet_deploy.training.recipe import Recipe, Stage
from ksnet_deploy.training.task import Task
from ksnet_deploy.training.world import World

STAGES = (Stage(300, 8, 5, 32), Stage(100, 4, 20, 32))
"""An iteration of the second takes twice as long."""
VALIDATION_S = 40.0


class Timed(Task):
    """A task that costs nothing, by a clock that it moves itself."""

    ema_decay, gradient_norm = 0.9, None
    target = Path("none.safetensors")
    identity: ClassVar[dict[str, str]] = {}

    def __init__(self, each_s: float, validation_s: float = VALIDATION_S) -> None:
        self.model: nn.Module = nn.Linear(1, 1)
        self.recipe = Recipe(STAGES, learning_rate=1.0, final_learning_rate=0.001, warm_up=4)
        self.iterations = self.recipe.iterations
        self.each_s, self.validation_s = each_s, validation_s
        self.now = 1000.0
        self.drawn: list[int] = []
        self.rates: list[float] = []

    def clock(self) -> float:
        return self.now

    def parameter_groups(self) -> list[dict[str, Any]]:
        return [{"params": list(self.model.parameters()), "role": "main"}]

    def rate(self, role: str, iteration: int) -> float:
        del role
        return self.recipe.rate(iteration)

    def batches(self, start: int, world: World) -> Iterable[tuple[Tensor, ...]]:
        del world
        first = 0
        for stage in self.recipe.stages:
            for i in range(max(first, start), first + stage.iterations):
                self.drawn.append(i)
                yield (torch.tensor([[float(stage.batch * stage.frames)]]),)
            first += stage.iterations

    def loss(self, batch: tuple[Tensor, ...]) -> Tensor:
        # The first iterations are slow, as they are.
        self.now += self.each_s * float(batch[0]) / 40 * (10 if len(self.drawn) < 4 else 1)
        self.rates.append(self.rate("main", self.drawn[-1]))
        result: Tensor = self.model(batch[0] * 0).square().mean()
        return result

    def validate(self, model: nn.Module) -> Mapping[str, float]:
        del model
        self.now += self.validation_s
        return {"gain": 1.0}

    def save(self, model: nn.Module, iteration: int, figures: Mapping[str, float]) -> None:
        del model, iteration, figures


def timed_run(task: Timed, folder: Path, hours: float, **options: Any) -> list[Progress]:
    seen: list[Progress] = []
    run_loop(task, LoopSettings(folder, hours=hours, clock=task.clock, **options), CPU, seen.append)
    return seen


@pytest.mark.slow
@pytest.mark.parametrize(("each_s", "hours"), [(1.0, 0.5), (2.6, 2.5), (15.0, 6.0)])
def test_the_rate_ends_when_the_hours_do(tmp_path: Path, each_s: float, hours: float) -> None:
    task = Timed(each_s)
    seen = timed_run(task, tmp_path, hours)
    over_s = task.now - 1000.0 - 3600 * hours
    assert -VALIDATION_S - each_s <= over_s <= each_s, "to an iteration, and a validation that may not come any more"
    assert task.rates[3] == pytest.approx(1.0), "the rate is at its height while the speed is measured"
    assert task.rates[-1] == pytest.approx(0.001, rel=0.02)
    assert task.drawn == list(range(task.iterations)), "no iteration is left out or repeated"
    assert [s.iterations / task.iterations for s in task.recipe.stages] == pytest.approx([0.75, 0.25], abs=0.01)
    told = [progress for progress in seen if progress.fit is not None]
    assert len(told) == 1
    assert told[0].figures == {"gain": 1.0}, "validated, to know how long that takes"
    assert told[0].fit is not None
    assert told[0].fit.iterations == task.iterations
    assert told[0].fit.iterations_per_s == pytest.approx(1 / each_s)
    assert f"{task.iterations} iterations take {hours:g} hours" in str(told[0].fit)


@pytest.mark.slow
def test_the_speed_is_measured_for_a_minute_and_less_in_a_short_run(tmp_path: Path) -> None:
    for hours, measured_s in ((0.5, 60.0), (0.1, 36.0)):
        task = Timed(0.5, validation_s=0.0)
        seen = timed_run(task, tmp_path / str(hours), hours, log_every=10**9)
        iteration = next(progress.iteration for progress in seen if progress.fit is not None)
        assert iteration == 3 + measured_s / 0.5


class Thawing(Timed):
    """A task that leaves a part of its weights as they are at first, in which it is faster."""

    def __init__(self, each_s: float, frozen: int) -> None:
        super().__init__(each_s)
        self.model = nn.Sequential(nn.Linear(1, 1), nn.Linear(1, 1))
        self.frozen = frozen

    def parameter_groups(self) -> list[dict[str, Any]]:
        layers = zip(self.model.children(), ("main", "flow"), strict=True)
        return [{"params": list(layer.parameters()), "role": role} for layer, role in layers]

    def rate(self, role: str, iteration: int) -> float:
        return 0.0 if role == "flow" and iteration < self.frozen else super().rate("main", iteration)

    def loss(self, batch: tuple[Tensor, ...]) -> Tensor:
        if self.drawn[-1] < self.frozen:
            self.now -= 0.4 * self.each_s * float(batch[0]) / 40
        return super().loss(batch)


@pytest.mark.slow
def test_the_speed_is_that_of_iterations_that_train_all(tmp_path: Path) -> None:
    task = Thawing(1.0, frozen=100)
    seen = timed_run(task, tmp_path / "a", 0.5)
    (fit,) = [progress.fit for progress in seen if progress.fit is not None]
    assert fit.iterations_per_s == pytest.approx(1.0)
    assert -VALIDATION_S - 1 <= task.now - 1000.0 - 1800 <= 1
    never = Thawing(1.0, frozen=10**9)
    seen = timed_run(never, tmp_path / "b", 0.5)
    (fit,) = [progress.fit for progress in seen if progress.fit is not None]
    assert fit.iterations_per_s == pytest.approx(1 / 0.6)
    first = next(progress.iteration for progress in seen if progress.fit is not None)
    assert first == pytest.approx(3 + (180 + 60 - 3 * 9) / 0.6, abs=1), "a minute, after a tenth of the time"
    assert -VALIDATION_S - 1 <= never.now - 1000.0 - 1800 <= 1


@pytest.mark.slow
def test_validations_while_the_speed_is_measured_are_no_part_of_it(tmp_path: Path) -> None:
    task = Timed(1.0, validation_s=30.0)
    seen = timed_run(task, tmp_path, 2.0, validate_every=20)
    (fit,) = [progress.fit for progress in seen if progress.fit is not None]
    assert fit.iterations_per_s == pytest.approx(1.0)
    assert -30 - 20 <= task.now - 1000.0 - 7200 <= 30


def test_a_resumed_run_keeps_the_length_that_was_chosen(tmp_path: Path) -> None:
    whole = Timed(1.0)
    timed_run(whole, tmp_path / "whole", 0.5)
    cut = Timed(1.0)

    def stop(progress: Progress) -> None:
        if progress.iteration >= 200:
            raise KeyboardInterrupt

    options = LoopSettings(tmp_path / "cut", hours=0.5, clock=cut.clock, save_every_s=0.0)
    with pytest.raises(KeyboardInterrupt):
        run_loop(cut, options, CPU, stop)
    slower = Timed(7.0)
    seen = timed_run(slower, tmp_path / "cut", 0.5)
    assert slower.iterations == whole.iterations
    assert slower.rates == whole.rates[-len(slower.rates) :]
    assert seen[0].fit is not None
    assert seen[0].fit.iterations == whole.iterations
    assert seen[-1].iteration == whole.iterations
    with pytest.raises(CheckpointError, match="a run with another number of hours"):
        timed_run(Timed(1.0), tmp_path / "cut", 0.75)


def test_a_real_run_of_seconds_ends_at_its_length(tmp_path: Path) -> None:
    task, seen = tiny_task(tmp_path), list[Progress]()
    run_loop(task, settings(tmp_path, hours=2 / 3600, validate_every=10**6), CPU, seen.append)
    assert seen[-1].iteration == task.iterations == task.recipe.iterations
    assert seen[-1].rate == task.recipe.rate(task.iterations - 1)


@pytest.mark.parametrize("hours", [0.0, -1.0, math.inf, math.nan])
def test_no_time_is_refused(tmp_path: Path, hours: float) -> None:
    with pytest.raises(ConfigError, match="give --hours a finite number above 0"):
        LoopSettings(tmp_path, hours=hours)


def test_stages_keep_their_proportions() -> None:
    recipe = Recipe((Stage(1, 8, 5, 32), Stage(1000, 4, 10, 32), Stage(500, 4, 10, 64)))
    for iterations in (3, 4, 10, 1501, 9999):
        stages = recipe.spread(iterations).stages
        assert sum(stage.iterations for stage in stages) == iterations
        assert min(stage.iterations for stage in stages) >= 1
    assert recipe.spread(1501) == recipe
    assert recipe.spread(3002).stages[1].iterations == 2000
    assert recipe.cost_ratio == pytest.approx((1 + 1000 + 4 * 500) / 1501)
