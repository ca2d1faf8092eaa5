"""The temporal loss: texture that moves with the scene costs nothing, flicker costs what it is."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import command
import pytest
import torch
from clips import folder_of_frames, noise
from torch import Tensor, nn
from trainings import CPU, tiny_task

from ksnet_deploy.base.errors import ConfigError
from ksnet_deploy.measure.degradation import ClipDegradation
from ksnet_deploy.training.losses import EPS, charbonnier, temporal_loss
from ksnet_deploy.training.recipe import Recipe, Stage

SHIFT = 4
"""HR pixels by which the scene moves to the right from frame to frame."""
ALL = torch.tensor([True])
"""The one window of a batch counts."""


class KnownFlow(nn.Module):
    """The flow from a frame to the one before, of a scene that moves so, at half of HR's size."""

    def __init__(self) -> None:
        super().__init__()
        self.factor = nn.Parameter(torch.ones(()))

    def forward(self, now: Tensor, before: Tensor) -> Tensor:
        assert now.shape == before.shape
        flow = torch.zeros(len(now), 2, *now.shape[-2:])
        flow[:, 0] = -SHIFT / 2
        return flow * self.factor


def panned(seed: int, frames: int = 4, side: int = 32) -> Tensor:
    """A texture that moves: (1, T, 3, H, W). What comes into the picture is new, so its left edge has no past."""
    scene = torch.rand(3, side, side + SHIFT * frames, generator=torch.Generator().manual_seed(seed))
    places = [SHIFT * (frames - 1 - index) for index in range(frames)]
    return torch.stack([scene[..., place : place + side] for place in places])[None]


def test_texture_that_moves_with_the_scene_costs_nothing() -> None:
    original = panned(0)
    blurred = panned(1)  # quite another texture, but one that moves alike
    assert temporal_loss(original, original, KnownFlow(), ALL) == pytest.approx(EPS, rel=1e-2)
    assert temporal_loss(blurred, original, KnownFlow(), ALL) == pytest.approx(EPS, rel=1e-2)


def test_flicker_costs_what_it_is() -> None:
    original = panned(0)
    flickering = original + 0.05 * torch.tensor([1.0, -1.0, 1.0, -1.0])[:, None, None, None]
    assert temporal_loss(flickering, original, KnownFlow(), ALL) == pytest.approx(0.1, rel=1e-2)
    standing = original[:, :1].expand_as(original)  # texture that does not follow the scene
    assert temporal_loss(standing, original, KnownFlow(), ALL) > 0.1


def test_what_the_flow_does_not_explain_does_not_count() -> None:
    original, found = panned(0), panned(0)
    original[:, 1, :, 8:16, 16:24] = 1 - original[:, 1, :, 8:16, 16:24]  # something that is there for one frame
    found[:, 1, :, 8:16, 16:24] = original[:, 1, :, 8:16, 16:24]
    assert temporal_loss(found, original, KnownFlow(), ALL) == pytest.approx(EPS, rel=0.1)


def test_it_teaches_the_frames_and_not_the_flow() -> None:
    original, flow = panned(0), KnownFlow()
    found = torch.rand_like(original).requires_grad_()
    temporal_loss(found, original, flow, ALL).backward()
    assert found.grad is not None
    assert all(float(found.grad[:, index].abs().sum()) > 0 for index in range(4))
    assert flow.factor.grad is None


def test_one_frame_has_no_past() -> None:
    original = panned(0, frames=1)
    assert temporal_loss(torch.rand_like(original), original, KnownFlow(), ALL) == 0


def test_windows_that_do_not_count_are_steady_ones() -> None:
    original = torch.cat([panned(0), panned(1)])
    found = original.clone()
    found[0] += 0.05 * torch.tensor([1.0, -1.0, 1.0, -1.0])[:, None, None, None]
    both, first, second, neither = (
        float(temporal_loss(found, original, KnownFlow(), torch.tensor(counts)))
        for counts in ([True, True], [True, False], [False, True], [False, False])
    )
    assert first == pytest.approx(0.05, rel=1e-2), "half of the windows flicker by 0.1"
    assert second == pytest.approx(EPS / 2, rel=1e-2)
    assert neither == 0
    assert both == pytest.approx(first + second, rel=1e-2)


@torch.no_grad()
def test_a_training_adds_it_by_its_weight(tmp_path: Path) -> None:
    tasks = [tiny_task(tmp_path, Recipe((Stage(1, 1, 3, 16),), temporal_weight=weight)) for weight in (0.0, 2.0)]
    batch = next(iter(tasks[0].batches(0, CPU)))
    lr, hr = (frames.float() / 255 for frames in batch[:2])
    flow = tasks[0].model.flow
    assert flow is not None
    flicker = temporal_loss(tasks[0].model.forward_window(lr), hr, flow, ALL)
    without, with_it = (task.loss(batch) for task in tasks)
    assert flicker > EPS
    assert float(with_it) == pytest.approx(float(without + 2 * flicker), rel=1e-5)


@torch.no_grad()
@pytest.mark.parametrize(
    ("degradation", "encoded", "adds"), [("video", True, 1), ("video", False, 0), ("BI", False, 1)]
)
def test_on_video_it_counts_encoded_windows_only(
    tmp_path: Path, degradation: ClipDegradation, encoded: bool, adds: int
) -> None:
    recipe = Recipe((Stage(1, 1, 3, 16),), temporal_weight=2.0)
    task = tiny_task(tmp_path, recipe)
    task.recipe = replace(recipe, degradation=degradation)
    lr, hr, _ = next(iter(task.batches(0, CPU)))
    with_it = float(task.loss((lr, hr, torch.tensor([encoded]))))
    found, original = task.model.forward_window(lr / 255), hr / 255
    assert task.model.flow is not None
    flicker = float(temporal_loss(found, original, task.model.flow, ALL))
    assert with_it == pytest.approx(float(charbonnier(found, original)) + 2 * adds * flicker, rel=1e-5)


@pytest.mark.parametrize("weight", [-1.0, float("nan"), float("inf")])
def test_a_weight_that_is_none_is_refused(weight: float) -> None:
    with pytest.raises(ConfigError, match=r"weight of the temporal loss is .* a finite number from 0 on"):
        Recipe((Stage(1, 1, 1, 16),), temporal_weight=weight)


def test_a_network_without_flow_is_refused(tmp_path: Path) -> None:
    folder_of_frames(tmp_path / "clips" / "one", noise(3, 96, 96, 3))
    options = ("--set", "flow_guidance=none", "--temporal-weight", 1, "--stage", "1:1x2x16")
    refused = command.run("train", tmp_path / "clips", "-o", tmp_path / "run", "--size", "lite", *options)
    assert "takes a flow network, and this network has none; leave --temporal-weight out" in command.failure_of(refused)
