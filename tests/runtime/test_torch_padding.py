"""Channels in whole vectors: the same pictures."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from ksnet_deploy.network.channel_selection import SplitLevel
from ksnet_deploy.network.config import KSNetConfig
from ksnet_deploy.network.folding import fold
from ksnet_deploy.network.model import KSNet
from ksnet_deploy.ops.padding import padded_split
from ksnet_deploy.runtime.torch_padding import pad_selection


def network_of(*settings: str) -> KSNet:
    torch.manual_seed(0)
    model = fold(KSNet(KSNetConfig(channels=24).replace(list(settings))))
    for parameter in model.parameters():
        parameter.data.add_(0.02 * torch.randn_like(parameter))  # convolutions that begin at zero, and biases
    return model


def widths_of(network: KSNet) -> list[list[int]]:
    """Input channels of the convolutions of each level of the first branch."""
    levels = [module for module in network.propagate.modules() if isinstance(module, SplitLevel)]
    return [[conv.in_channels for conv in level.modules() if isinstance(conv, nn.Conv2d)] for level in levels]


PADDED = [
    # keep ratio 3/4 of 24 channels: 18 and 6, then 14 and 4, then 10 and 4
    pytest.param([], [[8, 24], [8, 16], [8, 16]], id="in order"),
    pytest.param(["slots=rank"], [[8, 24], [8, 16], [8, 16]], id="by rank"),
    pytest.param(["keep_ratio=0.5", "split_levels=1"], [[16, 16]], id="one level of half"),
]


@pytest.mark.parametrize(("settings", "expected"), PADDED)
@torch.inference_mode()
def test_whole_vectors_of_channels_change_no_picture(settings: list[str], expected: list[list[int]]) -> None:
    model = network_of(*settings)
    network = copy.deepcopy(model)
    pad_selection(network, padded_split)
    assert widths_of(network) == expected != widths_of(model)
    lrs = torch.rand(1, 3, 3, 20, 24, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(network.forward_window(lrs), model.forward_window(lrs), rtol=1e-5, atol=2e-5)


@pytest.mark.parametrize(
    "settings", [["channels=12", "deform_groups=4"], ["slots=masked"], ["keep_ratio=1.0"]], ids=str
)
def test_networks_without_such_levels_stay_as_they_are(settings: list[str]) -> None:
    network = network_of(*settings)
    before = [(name, tuple(tensor.shape)) for name, tensor in network.state_dict().items()]
    pad_selection(network, padded_split)
    assert [(name, tuple(tensor.shape)) for name, tensor in network.state_dict().items()] == before
