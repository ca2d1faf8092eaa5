"""The FP16 policy: what of the folded network computes in half precision, and what stays float32.

Half: every convolution and all that lies between two of them. Float32: frames and their differences, flows, sampling
coordinates and offsets, channel scores, the sum of residual and bicubic base. In half, a coordinate would be off by
half a pixel from 512 on, and two channels whose scores are near each other would be ordered at random.

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

__all__ = ["with_precision"]


def with_precision(network: KSNet, precision: Precision) -> KSNet:
    """A copy of the folded network whose convolutions have the precision.

    Raises:
        CheckpointError: a weight is too large for it.
    """
    network = copy.deepcopy(network)
    if precision == "fp16":
        for module in network.modules():
            if isinstance(module, (nn.Conv2d, FlowGuidedAlignment, BicubicUpsample)):
                module.half()
        for name, weight in network.state_dict().items():
            if not weight.isfinite().all():
                raise CheckpointError(
                    f"the weight '{name}' of the folded network is too large for half precision, which ends at 65504; "
                    "take --precision fp32, or another checkpoint"
                )
    return network
