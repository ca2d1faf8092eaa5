"""The network with what follows each convolution fused into one operation is the network."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from fake_torch_cuda import FakeStream, use_fake_cuda
from torch import nn

from ksnet_deploy.base.frames import FrameSize
from ksnet_deploy.network.blocks import BicubicUpsample
from ksnet_deploy.network.bundled import bundled_checkpoint
from ksnet_deploy.network.checkpoints import load_checkpoint
from ksnet_deploy.network.config import KSNetConfig
from ksnet_deploy.network.flow import flow_input, warp
from ksnet_deploy.network.folding import fold
from ksnet_deploy.network.model import KSNet
from ksnet_deploy.ops import native, reference
from ksnet_deploy.ops.epilogue import epilogue
from ksnet_deploy.runtime.torch import TorchRunner
from ksnet_deploy.runtime.torch_kernels import FusedConv, fuse_convolutions

SIZE = FrameSize(20, 24)


@pytest.fixture
def played(monkeypatch: pytest.MonkeyPatch) -> None:
    """A CUDA device that is this CPU, and in the place of our kernels what defines them."""
    use_fake_cuda(monkeypatch)
    monkeypatch.setattr("ksnet_deploy.ops.library.find_kernel_library", lambda: Path("kernels.so"))
    base = BicubicUpsample()
    definitions = {
        "align": reference.align,
        "concatenate": lambda *parts: torch.cat(parts, dim=1),
        "epilogue": epilogue,
        "flow_input": flow_input,
        "picture": lambda lr, residual: BicubicUpsample.forward(base, lr, residual),
        "topk_split": reference.topk_split,
        "warp": warp,
    }
    for name, definition in definitions.items():
        monkeypatch.setattr(native, name, definition)


@pytest.mark.slow
@pytest.mark.usefixtures("played")
@pytest.mark.parametrize("fold", [True, False])
@pytest.mark.parametrize("recorded", [True, False])
@pytest.mark.parametrize("name", ["lite", "uni"])
def test_a_runner_with_every_kernel_gives_the_pictures_of_the_plain_one(name: str, recorded: bool, fold: bool) -> None:
    model = load_checkpoint(bundled_checkpoint(name)).model
    lrs = np.random.default_rng(0).integers(0, 256, (4, SIZE.height, SIZE.width, 3), np.uint8)
    settings = {"device": "cuda", "precision": "fp32", "fold": fold, "recorded": recorded}
    with TorchRunner(model, SIZE, **settings) as runner, TorchRunner(model, SIZE) as plain:  # type: ignore[arg-type]
        assert any(isinstance(module, FusedConv) for module in runner._model.modules()) == fold
        for index, lr in enumerate(lrs):
            if index == 2:
                runner.state = runner.state
            assert abs(runner.step(lr).astype(int) - plain.step(lr)).max() <= 1


@pytest.mark.usefixtures("played")
def test_features_wait_for_their_frame_and_the_first_branch_for_them() -> None:
    model = load_checkpoint(bundled_checkpoint("lite")).model
    with TorchRunner(model, SIZE, device="cuda", precision="fp32", recorded=False) as runner:
        main, orders = FakeStream.current, []
        extract, propagate = runner._model.extract, runner._model.propagate
        inner = extract.get_submodule("extract")
        for module in (inner, propagate):
            module.register_forward_pre_hook(lambda *_: orders.append((FakeStream.current, *FakeStream.log)))
        runner.step(np.zeros((SIZE.height, SIZE.width, 3), np.uint8))
    (side, *before), (at, *behind) = orders
    assert side is not main
    assert at is main
    assert before == [(side, main)]
    assert behind == [(side, main), (main, side)]


@pytest.mark.usefixtures("played")
def test_a_download_waits_for_its_step() -> None:
    model = load_checkpoint(bundled_checkpoint("lite")).model
    with TorchRunner(model, SIZE, device="cuda", precision="fp32") as runner:
        FakeStream.log.clear()
        runner.submit(np.zeros((SIZE.height, SIZE.width, 3), np.uint8))
        assert runner._recorded is not None
        assert FakeStream.log == [(runner._recorded._downloads, FakeStream.current)]
        runner.collect()


@torch.inference_mode()
def windows_of(network: KSNet, model: KSNet) -> tuple[torch.Tensor, torch.Tensor]:
    lrs = torch.rand(1, 3, 3, 20, 24, generator=torch.Generator().manual_seed(0))
    return network.forward_window(lrs), model.forward_window(lrs)


@pytest.mark.parametrize("name", ["lite", "uni", "bi"])
def test_a_fused_network_gives_the_pictures_of_the_plain_one(name: str) -> None:
    model = fold(load_checkpoint(bundled_checkpoint(name)).model)
    network = fuse_convolutions(copy.deepcopy(model), epilogue)
    kinds = {type(module) for module in network.modules()}
    assert FusedConv in kinds
    assert not kinds & {nn.Conv2d, nn.LeakyReLU, nn.ReLU, nn.PixelShuffle}
    found, expected = windows_of(network, model)
    torch.testing.assert_close(found, expected, rtol=0, atol=2e-5)


@pytest.mark.parametrize("settings", [["upsampler=direct"], ["slots=masked"], ["flow_guidance=none"]], ids=str)
def test_other_architectures_are_fused_too(settings: list[str]) -> None:
    torch.manual_seed(0)
    model = fold(KSNet(KSNetConfig(channels=16).replace(settings)))
    for parameter in model.parameters():
        parameter.data.add_(0.02 * torch.randn_like(parameter))  # convolutions that begin at zero, and biases
    found, expected = windows_of(fuse_convolutions(copy.deepcopy(model), epilogue), model)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=2e-5)
