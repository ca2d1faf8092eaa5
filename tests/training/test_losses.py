"""The temporal loss: texture that moves with the scene costs nothing, flicker costs what it is."""

from __future__ import annotations

from pathlib import Path

import command
import pytest
import torch
from clips import folder_of_frames, noise
from torch import Tensor, nn
from trainings import CPU, tiny_task

from ksnet_deploy.base.errors import ConfigError
from ksnet_deploy.training.losses import EPS, temporal_loss
from ksnet_deploy.training.recipe import Recipe, Stage

SHIFT = 4
"""HR pixels by which the scene moves to the right from frame to frame."""


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
    assert temporal_loss(original, original, KnownFlow()) == pytest.approx(EPS, rel=1e-2)
    assert temporal_loss(blurred, original, KnownFlow()) == pytest.approx(EPS, rel=1e-2)


def test_flicker_costs_what_it_is() -> None:
    original = panned(0)
    flickering = original + 0.05 * torch.tensor([1.0, -1.0, 1.0, -1.0])[:, None, None, None]
    assert temporal_loss(flickering, original, KnownFlow()) == pytest.approx(0.1, rel=1e-2)
    standing = original[:, :1].expand_as(original)  # texture that does not follow the scene
    assert temporal_loss(standing, original, KnownFlow()) > 0.1


def test_what_the_flow_does_not_explain_does_not_count() -> None:
    original, found = panned(0), panned(0)
    original[:, 1, :, 8:16, 16:24] = 1 - original[:, 1, :, 8:16, 16:24]  # something that is there for one frame
    found[:, 1, :, 8:16, 16:24] = original[:, 1, :, 8:16, 16:24]
    assert temporal_loss(found, original, KnownFlow()) == pytest.approx(EPS, rel=0.1)


def test_it_teaches_the_frames_and_not_the_flow() -> None:
    original, flow = panned(0), KnownFlow()
    found = torch.rand_like(original).requires_grad_()
    temporal_loss(found, original, flow).backward()
    assert found.grad is not None
    assert all(float(found.grad[:, index].abs().sum()) > 0 for index in range(4))
    assert flow.factor.grad is None


def test_one_frame_has_no_past() -> None:
    original = panned(0, frames=1)
    assert temporal_loss(torch.rand_like(original), original, KnownFlow()) == 0


@torch.no_grad()
def test_a_training_adds_it_by_its_weight(tmp_path: Path) -> None:
    tasks = [tiny_task(tmp_path, Recipe((Stage(1, 1, 3, 16),), temporal_weight=weight)) for weight in (0.0, 2.0)]
    batch = next(iter(tasks[0].batches(0, CPU)))
    lr, hr = (frames.float() / 255 for frames in batch)
    flow = tasks[0].model.flow
    assert flow is not None
    flicker = temporal_loss(tasks[0].model.forward_window(lr), hr, flow)
    without, with_it = (task.loss(batch) for task in tasks)
    assert flicker > EPS
    assert float(with_it) == pytest.approx(float(without + 2 * flicker), rel=1e-5)


@pytest.mark.parametrize("weight", [-1.0, float("nan"), float("inf")])
def test_a_weight_that_is_none_is_refused(weight: float) -> None:
    with pytest.raises(ConfigError, match=r"weight of the temporal loss is .* a finite number from 0 on"):
        Recipe((Stage(1, 1, 1, 16),), temporal_weight=weight)


def test_a_network_without_flow_is_refused(tmp_path: Path) -> None:
    folder_of_frames(tmp_path / "clips" / "one", noise(3, 96, 96, 3))
    options = ("--set", "flow_guidance=none", "--temporal-weight", 1, "--stage", "1:1x2x16")
    refused = command.run("train", tmp_path / "clips", "-o", tmp_path / "run", "--size", "lite", *options)
    assert "takes a flow network" in command.failure_of(refused)
