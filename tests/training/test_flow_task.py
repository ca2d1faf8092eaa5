"""Training of the flow network alone, and the weights that are published."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from clips import ArrayClip
from trainings import CPU, settings

from ksnet_deploy.base.errors import CheckpointError
from ksnet_deploy.network.flow import SpyNet
from ksnet_deploy.training.flow_task import FlowTask, measure_flow
from ksnet_deploy.training.flow_weights import load_flow_weights
from ksnet_deploy.training.loop import run_loop
from ksnet_deploy.training.recipe import Recipe, Stage


def cloud(side: int) -> np.ndarray:
    """Structure at all scales, as in pictures."""
    rng = np.random.default_rng(0)
    layers = [np.kron(rng.normal(size=(side // s + 1,) * 2), np.ones((s, s)))[:side, :side] for s in (2, 4, 8, 16)]
    plane = np.clip(127 + 30 * sum(layers), 0, 255).astype(np.uint8)
    return np.repeat(plane[..., None], 3, axis=2)


@pytest.mark.slow
def test_flow_training_lowers_the_end_point_error(tmp_path: Path) -> None:
    clips = [ArrayClip(cloud(200)[None])]
    torch.manual_seed(0)
    model = SpyNet(8)
    recipe = Recipe((Stage(150, 4, 1, 32),), learning_rate=2e-3, gradient_norm=1.0, ema_decay=0.9)
    before = measure_flow(model, clips, pairs=16, side_px=32)
    task = FlowTask(model, clips, [], recipe, tmp_path / "spynet.safetensors", seed=0)
    averaged = run_loop(task, settings(tmp_path), CPU, lambda _: None)
    assert isinstance(averaged, SpyNet)
    assert measure_flow(averaged, clips, pairs=16, side_px=32) < 0.9 * before
    fresh = SpyNet(8)
    fresh.load_state_dict(load_flow_weights(tmp_path / "spynet.safetensors", fresh)[0])
    assert all(torch.equal(a, b) for a, b in zip(fresh.parameters(), averaged.parameters(), strict=True))


@pytest.mark.parametrize("levels", [4, 5, 6])
def test_the_flow_itself_has_no_loss_at_any_number_of_levels(
    levels: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = SpyNet(4, levels)
    recipe = Recipe((Stage(1, 1, 1, 32),), learning_rate=1e-3, gradient_norm=1.0, ema_decay=0.9)
    task = FlowTask(model, [ArrayClip(cloud(64)[None])], [], recipe, tmp_path / "spynet.safetensors", seed=0)
    first, second, flow = next(iter(task.batches(0, CPU)))
    sizes = [len(model.pyramid(first, second)[-1][0, 0]) // 2**n for n in range(levels)]
    exact = [F.interpolate(flow, size=(s, s), mode="area") * s / flow.shape[-1] for s in reversed(sizes)]
    monkeypatch.setattr(model, "pyramid", lambda *_: exact)
    assert float(task.loss((first, second, flow))) < 1e-3
    monkeypatch.setattr(model, "pyramid", lambda *_: [2 * level for level in exact])
    assert float(task.loss((first, second, flow))) > 0.1


@pytest.mark.parametrize(
    "rename",
    [
        lambda level, layer: f"basic_module.{level}.basic_module.{layer}",
        lambda level, layer: f"basic_module.{level}.basic_module.{layer // 2}.conv",
        lambda level, layer: f"netBasic.{level}.netBasic.{layer}",
    ],
    ids=["BasicSR", "MMEditing", "pytorch-spynet"],
)
def test_public_spynet_weights_are_read(tmp_path: Path, rename: Any) -> None:
    model, fresh = SpyNet(), SpyNet()
    public = {}
    for name, value in model.state_dict().items():
        _, level, layer, kind = name.split(".")
        public[f"{rename(int(level), int(layer))}.{kind}"] = value
    torch.save(
        {"params": public, "other": 1} if "basic_module.0.basic_module.0.weight" in public else public,
        tmp_path / "s.pth",
    )
    fresh.load_state_dict(load_flow_weights(tmp_path / "s.pth", fresh)[0])
    assert all(torch.equal(a, b) for a, b in zip(fresh.parameters(), model.parameters(), strict=True))
    with pytest.raises(CheckpointError, match="no SpyNet of 16 channels"):
        load_flow_weights(tmp_path / "s.pth", SpyNet(16))
