"""Module that is traced: one folded recurrent step between frames as they are exchanged with the world."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ksnet_deploy.base.frames import FrameSize, FrameType
from ksnet_deploy.network.config import Precision
from ksnet_deploy.network.folding import fold
from ksnet_deploy.network.model import KSNet
from ksnet_deploy.network.precision import with_precision
from ksnet_deploy.network.state_names import completed_state, read_part, state_names
from ksnet_deploy.runtime.torch import decode_frame, encode_frame

__all__ = ["StepModule"]


class StepModule(nn.Module):
    """(lr, *state) -> (hr, *next): the folded step with the conversion of the frames inside.

    Frames are (1, H, W, 3) of type ``io``, states (1, C, H, W), those of ``names``: ``prev_lr`` and ``flow_1`` float32,
    features of the precision.
    """

    def __init__(self, model: KSNet, io: FrameType, precision: Precision = "fp32") -> None:
        super().__init__()
        self.network = with_precision(fold(model), precision)
        self.names = state_names(model.config)
        """Names of the states, in order; what the network does not read is left out."""
        self.dtype: torch.dtype = getattr(torch, io)
        self.eval()

    def forward(self, lr: Tensor, *state: Tensor) -> tuple[Tensor, ...]:
        before = completed_state(dict(zip(self.names, state, strict=True)))
        hr, following = self.network(decode_frame(lr), before)
        return encode_frame(hr, self.dtype), *read_part(following, self.network.config).values()

    def example_inputs(self, size: FrameSize) -> tuple[Tensor, ...]:
        """Arguments of :meth:`forward` for one frame of the size."""
        lr = torch.zeros(1, size.height, size.width, 3, dtype=self.dtype)
        state = read_part(self.network.initial_state(decode_frame(lr)), self.network.config)
        # Copies, because the tracer must see independent states where the reset shares one tensor of zeros.
        return lr, *(tensor.clone() for tensor in state.values())
