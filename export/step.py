"""Module that is traced: one folded recurrent step between frames as they are exchanged with the world."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ksnet_deploy.base.frames import FrameSize, FrameType
from ksnet_deploy.network.config import Precision, StepName
from ksnet_deploy.network.folding import fold
from ksnet_deploy.network.model import KSNet
from ksnet_deploy.network.pixels import decode_frame, encode_frame
from ksnet_deploy.network.precision import with_precision
from ksnet_deploy.network.static_split import freeze_split
from ksnet_deploy.network.steps import Step

__all__ = ["StepModule"]


class StepModule(nn.Module):
    """(lr, *features, *state) -> (result, *next): a folded step with the conversion of the frames inside.

    Frames are (N, H, W, 3) of type ``io``, features and states (N, C, H, W), those of the step's ``takes`` and
    ``names``: ``prev_lr`` and ``flow_1`` float32, all others of the precision.
    """

    def __init__(self, model: KSNet, io: FrameType, precision: Precision = "fp32", step: StepName = "step") -> None:
        super().__init__()
        self.network = with_precision(freeze_split(fold(model)), precision)
        self.step = Step(self.network, step)
        self.dtype: torch.dtype = getattr(torch, io)
        self.eval()

    def forward(self, lr: Tensor, *tensors: Tensor) -> tuple[Tensor, ...]:
        features, state = tensors[: len(self.step.takes)], tensors[len(self.step.takes) :]
        before = self.step.completed(dict(zip(self.step.names, state, strict=True)))
        result, following = self.step(decode_frame(lr), *features, state=before)
        if self.step.gives == "hr":
            result = encode_frame(result, self.dtype)
        return result, *self.step.read_part(following).values()

    def example_inputs(self, size: FrameSize, batch: int = 1) -> tuple[Tensor, ...]:
        """Arguments of :meth:`forward` for so many frames of the size."""
        lr = torch.zeros(batch, size.height, size.width, 3, dtype=self.dtype)
        planes = decode_frame(lr)
        state = self.step.read_part(self.step.initial_state(planes))
        # Copies, because the tracer must see independent states where the reset shares one tensor of zeros.
        return lr, *self.step.example_features(planes), *(tensor.clone() for tensor in state.values())
