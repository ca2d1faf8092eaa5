"""The FP16 policy: what of the folded network computes in half precision, and what stays float32.

Half: every convolution and all that lies between two of them. Float32: frames and their differences, flows, sampling
coordinates and offsets, channel scores, the sum of residual and bicubic base. In half, a coordinate would be off by
half a pixel from 512 on, and two channels whose scores are near each other would be ordered at random.

int8: most convolutions, of whose weights and activations the exported file has whole numbers
(:mod:`ksnet_deploy.export.int8`); here they stay float32.

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

__all__ = ["in_whole_numbers", "with_precision"]


def in_whole_numbers(network: KSNet, precision: Precision) -> dict[str, nn.Conv2d]:
    """The convolutions that a precision has in whole numbers, by their names in the network.

    Beside half only those that enlarge, 78 of uni's 169.5 GMACs, whose results do not go into the state. Else those of
    the flow but for its ends, of the offsets, and of the reconstruction too, and in the blocks that extract the second
    ones, which get rectified values: 135 GMACs together. The rest of what is extracted, and what is fused, is ranked,
    and one wrong rank costs more than all rounding: uni has 47 dB over 30 frames without them, and 44 with them.
    """
    if not precision.startswith("int8"):
        return {}
    enlarging = ("reconstruct.upsample.", "reconstruct.head.")
    others = ("reconstruct.", "propagate.align.offsets.", "refine.align.offsets.")
    levels = () if network.flow is None else network.flow.levels
    inner = {each for level in levels for each in _convolutions(level)[1:-1]}
    inner |= {each for block in network.extract.children() for each in _convolutions(block)[1:]}
    return {
        name: module
        for name, module in network.named_modules()
        if isinstance(module, nn.Conv2d)
        and (name.startswith(enlarging) or (precision == "int8" and (name.startswith(others) or module in inner)))
    }


def _convolutions(part: nn.Module) -> list[nn.Conv2d]:
    return [module for module in part.modules() if isinstance(module, nn.Conv2d)]


def with_precision(network: KSNet, precision: Precision) -> KSNet:
    """A copy of the folded network whose convolutions have the precision.

    Raises:
        CheckpointError: a weight is too large for it.
    """
    network = copy.deepcopy(network)
    if precision in ("fp16", "int8-fp16"):
        kept = set(in_whole_numbers(network, precision).values())
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
