"""The network with what follows each convolution fused into one operation is the network."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from ksnet_deploy.network.bundled import bundled_checkpoint
from ksnet_deploy.network.checkpoints import load_checkpoint
from ksnet_deploy.network.config import KSNetConfig
from ksnet_deploy.network.folding import fold
from ksnet_deploy.network.model import KSNet
from ksnet_deploy.ops.epilogue import epilogue
from ksnet_deploy.runtime.torch_kernels import FusedConv, fuse_convolutions


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
