"""Schedules of a training, and the loss."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from ksnet_deploy.base.errors import ConfigError
from ksnet_deploy.training.losses import charbonnier
from ksnet_deploy.training.recipe import RECIPES, Recipe, Stage, check_batches


def test_a_batch_that_cannot_be_shared_is_refused() -> None:
    check_batches(RECIPES["short"], 4)
    with pytest.raises(ConfigError, match="a batch of 4 cannot be shared equally by 8 processes"):
        check_batches(RECIPES["short"], 8)


def test_charbonnier_is_the_papers() -> None:
    a, b = torch.tensor([0.5, 0.0]), torch.tensor([0.5, 0.3])
    assert float(charbonnier(a, b)) == pytest.approx((1e-3 + math.sqrt(0.09 + 1e-6)) / 2)


def test_the_rate_falls_along_a_cosine() -> None:
    recipe = Recipe((Stage(60, 1, 1, 16), Stage(40, 1, 1, 16)), learning_rate=2.0, final_learning_rate=1.0)
    assert recipe.rate(0) == 2.0
    assert recipe.rate(50) == pytest.approx(1.5)
    assert recipe.rate(100) == pytest.approx(1.0)
    warm = Recipe((Stage(60, 1, 1, 16),), learning_rate=2.0, warm_up=10)
    assert [warm.rate(i) for i in (0, 4, 9)] == pytest.approx([0.2, 1.0, 2.0])


def test_a_rate_below_the_recipes_end_is_kept_and_does_not_rise() -> None:
    recipe = replace(RECIPES["short"], learning_rate=1e-6, warm_up=0)
    assert recipe.final_learning_rate > 1e-6
    assert {recipe.rate(i) for i in range(0, recipe.iterations + 1, 100)} == {1e-6}


@pytest.mark.parametrize("iterations", [4, 30, 49, 199, 300])
def test_the_rate_falls_in_a_run_that_is_shorter_than_its_warm_up_too(iterations: int) -> None:
    recipe = Recipe((Stage(iterations, 1, 1, 16),), learning_rate=2.0, final_learning_rate=0.0, warm_up=50)
    rates = [recipe.rate(i) for i in range(iterations)]
    assert max(rates) == 2.0
    highest = max(i for i, rate in enumerate(rates) if rate == 2.0)
    assert highest + 1 <= max(min(50, iterations // 4) + 1, 1)
    assert rates[highest:] == sorted(rates[highest:], reverse=True)
    assert recipe.rate(iterations) == pytest.approx(0.0)


def test_the_papers_recipes() -> None:
    for name, rate in (("paper-reds", 1e-4), ("paper-vimeo", 2e-4)):
        recipe = RECIPES[name]
        assert recipe.iterations == 600_000
        assert recipe.rate(0) == rate
        assert (recipe.flow_rate_factor, recipe.flow_frozen) == (2.0, 5_000)
        assert {stage.patch_px for stage in recipe.stages} == {64}


@pytest.mark.parametrize("text", ["", "100", "100:8x5", "a:8x5x32", "0:8x5x32", "10:8x5x8"])
def test_a_stage_that_cannot_be_run_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="training stage"):
        Stage.parse(text)
