"""Building blocks that know nothing of time: re-parameterized convolutions, attention, the bicubic base."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ksnet_deploy.base.frames import SCALE

__all__ = [
    "ESA",
    "RCB",
    "BicubicUpsample",
    "Concatenate",
    "EdgeConv",
    "ResidualBlock",
    "activation",
    "conv3x3",
    "initialise",
    "shared_kernels",
    "zero_conv3x3",
]


class EdgeConv(nn.Module):
    """1x1 convolution followed by a fixed 3x3 edge filter with a learned scale and bias per channel."""

    kernel: Tensor
    SOBEL_X = ((1.0, 0.0, -1.0), (2.0, 0.0, -2.0), (1.0, 0.0, -1.0))
    SOBEL_Y = ((1.0, 2.0, 1.0), (0.0, 0.0, 0.0), (-1.0, -2.0, -1.0))
    LAPLACIAN = ((0.0, 1.0, 0.0), (1.0, -4.0, 1.0), (0.0, 1.0, 0.0))

    def __init__(self, c_in: int, c_out: int, kernel: tuple[tuple[float, ...], ...]) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(c_in, c_out, 1)
        self.scale = nn.Parameter(torch.randn(c_out) * 1e-3)
        self.bias = nn.Parameter(torch.zeros(c_out))
        self.register_buffer("kernel", torch.tensor(kernel), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        # Padding before the 1x1 gives its output a border of its own bias, which is what makes the fold exact there.
        squeezed = self.squeeze(F.pad(x, (1, 1, 1, 1)))
        weight = self.scale[:, None, None, None] * self.kernel
        return F.conv2d(squeezed, weight, self.bias, groups=weight.shape[0])


class RCB(nn.Module):
    """Re-parameterized convolution block: parallel 3x3, Sobel and Laplacian branches that fold into one 3x3.

    All branches are linear, so even in training one convolution with their summed kernel computes them, which costs
    little more than a plain one; :meth:`branches` is the definition.
    """

    def __init__(self, c_in: int, c_out: int) -> None:
        super().__init__()
        self.plain = nn.Conv2d(c_in, c_out, 3, padding=1)
        self.sobel_x = EdgeConv(c_in, c_out, EdgeConv.SOBEL_X)
        self.sobel_y = EdgeConv(c_in, c_out, EdgeConv.SOBEL_Y)
        self.laplacian = EdgeConv(c_in, c_out, EdgeConv.LAPLACIAN)

        self._shared: tuple[Tensor, Tensor] | None = None

    def forward(self, x: Tensor) -> Tensor:
        weight, bias = self._shared or self.kernel()
        return F.conv2d(x, weight, bias, padding=1)

    def kernel(self) -> tuple[Tensor, Tensor]:
        """Weight (C_out, C_in, 3, 3) and bias (C_out,) of all branches together, differentiable."""
        edges = (self.sobel_x, self.sobel_y, self.laplacian)
        squeeze = torch.stack([edge.squeeze.weight[:, :, 0, 0] * edge.scale[:, None] for edge in edges])
        filters = torch.stack([edge.kernel for edge in edges])
        weight = self.plain.weight + torch.einsum("eoi,ehw->oihw", squeeze, filters)
        # The biases of the 1x1s meet filters that sum to zero.
        bias = torch.stack([self.plain.bias, *(edge.bias for edge in edges)]).sum(dim=0)  # type: ignore[list-item]
        return weight, bias

    def branches(self, x: Tensor) -> Tensor:
        """Output branch by branch, Eq. (8)."""
        y: Tensor = self.plain(x) + self.sobel_x(x) + self.sobel_y(x) + self.laplacian(x)
        return y


@contextmanager
def shared_kernels(model: nn.Module) -> Iterator[None]:
    """Context in which every RCB sums its kernels once instead of at every call: for a window of frames in training."""
    blocks = [module for module in model.modules() if isinstance(module, RCB)]
    try:
        for block in blocks:
            block._shared = block.kernel()
        yield
    finally:
        for block in blocks:
            block._shared = None


def activation() -> nn.Module:
    return nn.LeakyReLU(0.1)


def initialise(module: nn.Module) -> None:
    """Keep the signal's size through a chain of leaky convolutions (He initialisation); zero convolutions stay zero.

    PyTorch's default shrinks it in every layer; 0.018 of it was left after the two-stage upsampler, 0.2 is from here.
    """
    for child in module.modules():
        if isinstance(child, nn.Conv2d) and not child.weight.is_meta and child.weight.any():
            nn.init.kaiming_normal_(child.weight, a=0.1)
            nn.init.zeros_(child.bias)  # type: ignore[arg-type]
    for child in module.modules():
        if isinstance(child, RCB):
            for edge in (child.sobel_x, child.sobel_y, child.laplacian):
                nn.init.kaiming_normal_(edge.squeeze.weight, a=1)
        if isinstance(child, ResidualBlock):
            last = child.body[2]
            conv = last.plain if isinstance(last, RCB) else last
            assert isinstance(conv, nn.Conv2d)
            with torch.no_grad():
                conv.weight.mul_(0.1)


def zero_conv3x3(c_in: int, c_out: int) -> nn.Conv2d:
    """A convolution whose output is zero until it is trained."""
    conv = nn.Conv2d(c_in, c_out, 3, padding=1)
    nn.init.zeros_(conv.weight)
    nn.init.zeros_(conv.bias)  # type: ignore[arg-type]
    return conv


def conv3x3(c_in: int, c_out: int, *, reparameterize: bool) -> nn.Module:
    """A 3x3 convolution, trained as an RCB or plain."""
    return RCB(c_in, c_out) if reparameterize else nn.Conv2d(c_in, c_out, 3, padding=1)


class ResidualBlock(nn.Module):
    def __init__(self, channels: int, *, reparameterize: bool = True) -> None:
        super().__init__()
        self.body = nn.Sequential(
            conv3x3(channels, channels, reparameterize=reparameterize),
            activation(),
            conv3x3(channels, channels, reparameterize=reparameterize),
        )

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = x + self.body(x)
        return y


class Concatenate(nn.Module):
    """Tensors beside one another along their channels; a runtime may put a faster one in its place."""

    def forward(self, *parts: Tensor) -> Tensor:
        return torch.cat(parts, dim=1)


class ESA(nn.Module):
    """Enhanced spatial attention (RFANet, CVPR 2020)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        c = max(channels // 4, 1)
        self.reduce = nn.Conv2d(channels, c, 1)
        self.stride = nn.Conv2d(c, c, 3, stride=2)
        self.body = nn.Sequential(
            nn.Conv2d(c, c, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(c, c, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(c, c, 3, padding=1),
        )
        self.skip = nn.Conv2d(c, c, 1)
        self.expand = nn.Conv2d(c, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        reduced = self.reduce(x)
        # Contiguous: with channels last, PyTorch's pooling takes five times as long on a GPU.
        context = self.body(F.max_pool2d(self.stride(reduced).contiguous(), kernel_size=7, stride=3))
        context = F.interpolate(context, size=x.shape[-2:], mode="bilinear", align_corners=False)
        return x * torch.sigmoid(self.expand(context + self.skip(reduced)))


class BicubicUpsample(nn.Module):
    """x4 bicubic interpolation (a = -0.5, edges replicated) as one fixed 5x5 convolution and a pixel shuffle, which a
    residual is added to."""

    kernel: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("kernel", self._polyphase(), persistent=False)

    @staticmethod
    def _polyphase() -> Tensor:
        """(3 * 16, 1, 5, 5): for each colour the kernels of the 4 x 4 output phases."""
        phase = (torch.arange(SCALE, dtype=torch.float64) + 0.5) / SCALE - 0.5
        distance = (phase[:, None] - torch.arange(-2, 3, dtype=torch.float64)).abs()
        a = -0.5
        near = (a + 2) * distance**3 - (a + 3) * distance**2 + 1
        far = a * (distance**3 - 5 * distance**2 + 8 * distance - 4)
        taps = torch.where(distance <= 1, near, torch.where(distance < 2, far, torch.zeros_like(far)))
        kernel = torch.einsum("ai,bj->abij", taps, taps).reshape(SCALE * SCALE, 1, 5, 5)
        return kernel.repeat(3, 1, 1, 1).float()

    def forward(self, lr: Tensor, residual: Tensor) -> Tensor:
        """(N, 3, H, W) and (N, 3, 4 H, 4 W) -> (N, 3, 4 H, 4 W) float32."""
        # Half precision would round the picture itself.
        if lr.device.type != "meta" and torch.is_autocast_enabled(lr.device.type):
            with torch.autocast(lr.device.type, enabled=False):
                return residual.float() + self._enlarged(lr.float())
        return residual.float() + self._enlarged(lr)

    def _enlarged(self, lr: Tensor) -> Tensor:
        padded = F.pad(lr.to(self.kernel.dtype), (2, 2, 2, 2), mode="replicate")
        return F.pixel_shuffle(F.conv2d(padded, self.kernel, groups=3), SCALE).float()
