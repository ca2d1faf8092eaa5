"""Frames above what a card holds: tiles by engines, planned from its free memory; on stand-ins."""

from __future__ import annotations

import numpy as np
import pytest
from fake_card import FakeCard
from numpy.typing import NDArray

from ksnet_deploy import Upscaler
from ksnet_deploy.base.errors import ConfigError
from ksnet_deploy.base.frames import FrameSize
from ksnet_deploy.export.cache import cached_onnx
from ksnet_deploy.network import elements
from ksnet_deploy.network.checkpoints import Checkpoint
from ksnet_deploy.network.config import KSNetConfig
from ksnet_deploy.network.elements import countable_pixels, largest_tensor
from ksnet_deploy.runtime.lockstep import LockstepOnnxRunner
from ksnet_deploy.runtime.tiles import TiledRunner
from ksnet_deploy.upscale import memory
from ksnet_deploy.upscale.memory import RESERVE, memory_needed_on_gpu, plan_for_gpu

SIZE = FrameSize(20, 64)


def frames(count: int) -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (count, SIZE.height, SIZE.width, 3), dtype=np.uint8)


@pytest.fixture(autouse=True)
def narrow_overlap(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "OVERLAP", 8)


@pytest.mark.slow
def test_engines_of_the_tiles_size_give_the_pictures_of_tiles_on_the_cpu(card: FakeCard, network: Checkpoint) -> None:
    card.free_bytes = int(memory_needed_on_gpu(SIZE, network.model.config) / RESERVE) - 5000
    for again in (False, True):
        said: list[str] = []
        with Upscaler(str(network.path), runtime="rtx", on_note=said.append) as upscaler:
            found = [upscaler.push(lr) for lr in frames(2)]
            plan, identity = upscaler.tiling, upscaler.identity()
        assert plan is not None
        assert said[0] == f"Upscaling {plan}."
        assert (f"Building the engines for tiles of {plan.tile} on your RTX 3080, once." in said) != again
        assert len(identity["engines"].split()) == 7
    assert card.built == [str(plan.tile)] * 7
    tile = cached_onnx(network.path, plan.tile, "uint8", "fp16")
    on_cpu = LockstepOnnxRunner(tile, plan.tile, rewrite=lambda _model: None)
    with TiledRunner(on_cpu, plan) as reference:
        np.testing.assert_array_equal(found, [reference.step(lr) for lr in frames(2)])


@pytest.mark.slow
def test_frames_that_gpu_libraries_cannot_count_go_in_tiles_unless_these_are_off(
    card: FakeCard, network: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(elements, "LIMIT", largest_tensor(network.model.config, SIZE))
    with (
        Upscaler(str(network.path), runtime="onnxruntime", device="cuda", tiles="off") as upscaler,
        pytest.raises(ConfigError, match=r"2\^31 elements.*without --tiles off"),
    ):
        upscaler.push(frames(1)[0])
    with Upscaler(str(network.path), runtime="onnxruntime", device="cuda") as upscaler:
        assert upscaler.push(frames(1)[0]).shape == (80, 256, 3)
        assert upscaler.tiling is not None
    assert card.built == []


@pytest.mark.parametrize(("text", "free_gb"), [("540x960", 3), ("540x960", 9), ("1080x1920", 9), ("1080x1920", None)])
def test_tiles_on_a_gpu_fit_its_free_memory_and_can_be_counted(
    text: str, free_gb: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "OVERLAP", 32)
    config, size = KSNetConfig.named("uni"), FrameSize.parse(text)
    free = None if free_gb is None else free_gb * 10**9
    plan = plan_for_gpu(size, config, free)
    fits = free is None or memory_needed_on_gpu(size, config) <= RESERVE * free
    assert (plan is None) == (fits and size.height * size.width <= countable_pixels(config))
    if plan is not None:
        assert plan.tile.height * plan.tile.width <= countable_pixels(config)
        assert free is None or memory_needed_on_gpu(size, config, plan) <= RESERVE * free


def test_a_card_that_is_full_is_said() -> None:
    with pytest.raises(ConfigError, match=r"no tiles of frames of 2160x3840 .* or use --device cpu"):
        plan_for_gpu(FrameSize(2160, 3840), KSNetConfig.named("uni"), 9 * 10**9)
    with pytest.raises(ConfigError, match=r"into the 0\.5 GB that are left on the GPU; close other programs"):
        plan_for_gpu(FrameSize(540, 960), KSNetConfig.named("uni"), 500 * 10**6)
