"""The FP16 policy: what of the folded network computes in half precision, and what stays float32.

Half: every convolution and all that lies between two of them. Float32: frames and their differences, flows, sampling
coordinates and offsets, channel scores, the sum of residual and bicubic base. In half, a coordinate would be off by
half a pixel from 512 on, and two channels whose scores are near each other would be ordered at random.

int8: the last piece, of whose weights and activations the exported file has whole numbers
(:mod:`ksnet_deploy.export.int8`); here it stays float32.

The casts stand in the network itself, where they cost nothing in float32. So PyTorch on a GPU, the exported graph and
every engine built from it follow one policy.
"""

from __future__ import annotations

import copy

from torch import nn

from ksnet_deploy.base.errors import CheckpointError
from ksnet_deploy.network.alignment import FlowGuidedAlignment
from ksnet_deploy.network.blocks import BicubicUpsample
from ksnet_deploy.network.config import Precision
from ksnet_deploy.network.model import KSNet

__all__ = ["last_piece", "with_precision"]


def last_piece(network: KSNet) -> dict[str, nn.Conv2d]:
    """The convolutions that ``int8`` computes in whole numbers, by their names in the network: those that enlarge.

    They take 78 of uni's 169.5 GMACs, and nothing that they give goes into the state, so no error of theirs grows.
    """
    parts = {"upsample": network.reconstruct.upsample, "head": network.reconstruct.head}
    return {
        f"reconstruct.{part}.{name}": module
        for part, layers in parts.items()
        for name, module in layers.named_children()
        if isinstance(module, nn.Conv2d)
    }


def with_precision(network: KSNet, precision: Precision) -> KSNet:
    """A copy of the folded network whose convolutions have the precision.

    Raises:
        CheckpointError: a weight is too large for it.
    """
    network = copy.deepcopy(network)
    if precision in ("fp16", "int8-fp16"):
        kept = set(last_piece(network).values()) if precision == "int8-fp16" else set()
        for module in network.modules():
            if isinstance(module, (nn.Conv2d, FlowGuidedAlignment, BicubicUpsample)) and module not in kept:
                module.half()
        for name, weight in network.state_dict().items():
            if not weight.isfinite().all():
                raise CheckpointError(
                    f"the weight '{name}' of the folded network is too large for half precision, which ends at 65504; "
                    "take --precision fp32, or another checkpoint"
                )
    return network
