"""The network with what follows each convolution fused into one operation is the network."""

from __future__ import annotations

import copy
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from fake_torch_cuda import FakeStream, use_fake_cuda
from torch import nn

from ksnet_deploy.base.frames import FrameSize
from ksnet_deploy.base.metrics import psnr
from ksnet_deploy.network.blocks import BicubicUpsample
from ksnet_deploy.network.bundled import bundled_checkpoint
from ksnet_deploy.network.checkpoints import load_checkpoint
from ksnet_deploy.network.config import KSNetConfig
from ksnet_deploy.network.flow import flow_input, warp
from ksnet_deploy.network.folding import fold
from ksnet_deploy.network.model import KSNet
from ksnet_deploy.network.pixels import encode_frame
from ksnet_deploy.network.precision import with_precision
from ksnet_deploy.ops import native, reference
from ksnet_deploy.ops.epilogue import epilogue, narrow_conv, narrow_order
from ksnet_deploy.ops.padding import VECTOR, padded_split
from ksnet_deploy.runtime.torch import TorchRunner
from ksnet_deploy.runtime.torch_kernels import FusedConv, FusedHead, fuse_convolutions, fuse_head

SIZE = FrameSize(20, 24)


@pytest.fixture
def played(monkeypatch: pytest.MonkeyPatch) -> None:
    """A CUDA device that is this CPU, and in the place of our kernels what defines them."""
    use_fake_cuda(monkeypatch)
    monkeypatch.setattr("ksnet_deploy.ops.library.find_kernel_library", lambda: Path("kernels.so"))
    base = BicubicUpsample()

    def picture(lr: torch.Tensor, residual: torch.Tensor, *, dtype: torch.dtype) -> torch.Tensor:
        planes = BicubicUpsample.forward(base, lr, residual)
        return encode_frame(planes, dtype).permute(0, 3, 1, 2)

    definitions = {
        "align": reference.align,
        "concatenate": lambda *parts: torch.cat(parts, dim=1),
        "epilogue": epilogue,
        "flow_input": flow_input,
        "narrow_conv": narrow_conv,
        "picture": picture,
        "topk_split": lambda f, o, lam, k, *, ranked=False, channels=None: (
            reference.topk_split(f, o, lam, k, ranked=ranked)
            if channels is None
            else padded_split(f, o, lam, k, ranked=ranked, channels=channels)
        ),
        "warp": warp,
    }
    for name, definition in definitions.items():
        monkeypatch.setattr(native, name, definition)
    library = SimpleNamespace(narrow_conv_runs=lambda: True)
    monkeypatch.setattr(native, "kernel_library", lambda: library)


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
@pytest.mark.parametrize("runs", [True, False])
def test_in_half_precision_the_split_and_the_last_layers_take_kernels_of_their_own(
    runs: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last layers where the device runs theirs."""
    monkeypatch.setattr(native.kernel_library(), "narrow_conv_runs", lambda: runs)
    model = load_checkpoint(bundled_checkpoint("uni")).model
    lrs = np.random.default_rng(0).integers(0, 256, (3, SIZE.height, SIZE.width, 3), np.uint8)
    with TorchRunner(model, SIZE, device="cuda") as runner, TorchRunner(model, SIZE) as plain:
        modules = list(runner._model.modules())
        assert any(isinstance(module, FusedHead) for module in modules) == runs
        widths = [module.weight.shape[1] for module in modules if isinstance(module, FusedConv)]
        assert not [width for width in widths if width % VECTOR and width != 3]
        for lr in lrs:
            assert psnr(runner.step(lr), plain.step(lr)) > 45  # as engines must, of noise here


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


@pytest.mark.parametrize(("name", "fused"), [("uni", True), ("lite", False)])
def test_the_last_layers_in_half_precision_become_one_operation(name: str, fused: bool) -> None:
    """Where they are two convolutions; lite's is one, and a pixel shuffle."""
    model = with_precision(fold(load_checkpoint(bundled_checkpoint(name)).model), "fp16")
    network = copy.deepcopy(model)
    fuse_head(network, narrow_conv)
    assert isinstance(network.reconstruct.head, FusedHead) == fused
    assert isinstance(fuse_convolutions(network, epilogue).reconstruct.head, FusedHead) == fused
    x = torch.randn(1, model.config.channels, 12, 10, generator=torch.Generator().manual_seed(0)).half()
    with torch.inference_mode():
        found, expected = network.reconstruct.head(x), model.reconstruct.head(x)
    torch.testing.assert_close(found, expected, rtol=2e-3, atol=2e-3)


def test_more_output_channels_than_the_kernel_has_are_refused() -> None:
    with pytest.raises(ValueError, match="9 output channels; at most 8 fit"):
        narrow_order(torch.zeros(9, 32, 3, 3))


def test_the_last_layers_in_float32_stay_as_they_are() -> None:
    model = fold(load_checkpoint(bundled_checkpoint("uni")).model)
    fuse_head(model, narrow_conv)
    assert not isinstance(model.reconstruct.head, FusedHead)


@pytest.mark.parametrize("settings", [["upsampler=direct"], ["slots=masked"], ["flow_guidance=none"]], ids=str)
def test_other_architectures_are_fused_too(settings: list[str]) -> None:
    torch.manual_seed(0)
    model = fold(KSNet(KSNetConfig(channels=16).replace(settings)))
    for parameter in model.parameters():
        parameter.data.add_(0.02 * torch.randn_like(parameter))  # convolutions that begin at zero, and biases
    found, expected = windows_of(fuse_convolutions(copy.deepcopy(model), epilogue), model)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=2e-5)
