"""The native CUDA kernels in the place of what PyTorch computes: operators, and what follows each convolution."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ksnet_deploy.network.alignment import FlowAlignment, FlowGuidedAlignment
from ksnet_deploy.network.blocks import BicubicUpsample, Concatenate, ResidualBlock
from ksnet_deploy.network.channel_selection import SplitLevel
from ksnet_deploy.network.flow import SpyNet, enlarged
from ksnet_deploy.network.model import KSNet
from ksnet_deploy.ops.epilogue import NARROW_OUTPUTS, narrow_order, shuffled_order
from ksnet_deploy.ops.kernel_structs import NarrowConvParams
from ksnet_deploy.ops.padding import VECTOR
from ksnet_deploy.runtime.torch_padding import pad_selection

__all__ = ["accelerated", "extract_beside_flow", "fuse_convolutions", "fuse_head", "use_native_kernels"]

M = TypeVar("M", bound=nn.Module)
Epilogue = Callable[..., Tensor]
"""The function :func:`ksnet_deploy.ops.epilogue.epilogue`, or a faster one."""
NarrowConv = Callable[..., Tensor]
"""The function :func:`ksnet_deploy.ops.epilogue.narrow_conv`, or a faster one."""


def accelerated(network: KSNet, *, folded: bool = True, frames: torch.dtype = torch.float32) -> KSNet:
    """A network on a CUDA device as it is fastest there, which takes the place of the one given; what is not ``folded``
    keeps its convolutions as they are. For ``frames`` of uint8 its pictures are encoded already, where it can be."""
    from ksnet_deploy.ops import native

    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    if use_native_kernels(network, frames) and folded:
        if network.dtype == torch.float16:
            pad_selection(network, native.topk_split)
        if native.kernel_library().narrow_conv_runs():
            fuse_head(network, native.narrow_conv)
        network = fuse_convolutions(network, native.epilogue)
    if network.flow is not None:
        extract_beside_flow(network)
    return network


def use_native_kernels(network: KSNet, frames: torch.dtype = torch.float32) -> bool:
    """Put the native kernels in the place of the reference operators, where their library was built; tell whether.
    For ``frames`` of uint8 the network's pictures are encoded then."""
    from ksnet_deploy.ops import library, native

    if library.find_kernel_library() is None:
        return False

    if isinstance(network.flow, SpyNet):
        network.flow = NativeFlow(network.flow)  # type: ignore[assignment]
    for module in network.modules():
        if isinstance(module, FlowGuidedAlignment):
            module.align = native.align
            # The kernel reads its weight in the order of the file; here once, not with every frame.
            module.weight.data = module.weight.data.contiguous()
        if isinstance(module, SplitLevel) and not module.ranked:
            module.topk_split = native.topk_split
        if isinstance(module, FlowAlignment | KSNet):
            module.warp = native.warp
        if isinstance(module, Concatenate):
            module.forward = native.concatenate  # type: ignore[method-assign]
        if isinstance(module, BicubicUpsample):
            kind = torch.uint8 if frames == torch.uint8 else torch.float32
            module.forward = partial(native.picture, dtype=kind)  # type: ignore[method-assign]
    return True


class NativeFlow(nn.Module):
    """A SpyNet with one kernel between two levels, and one pyramid for both frames: what it is made of is so small that
    a launch costs more than the work."""

    def __init__(self, spynet: SpyNet) -> None:
        super().__init__()
        self.spynet = spynet

    def forward(self, lr: Tensor, ref: Tensor) -> Tensor:
        """Flow from lr to ref, as of :meth:`SpyNet.forward`."""
        from ksnet_deploy.ops import native

        network = self.spynet
        n, _, h, w = lr.shape
        flow: Tensor | None = None
        correction: Tensor | None = None
        for level, (images,) in zip(network.levels, network.images(torch.cat((lr, ref))), strict=False):
            seen, flow = native.flow_input(images[:n], images[n:], flow, correction, dtype=network.dtype)
            correction = level(seen)
        assert flow is not None
        assert correction is not None
        flow = flow + correction  # float32, whatever the correction
        for _ in range(network.LEVELS - len(network.levels)):
            flow = enlarged(flow)
        return flow[..., :h, :w]


class FusedConv(nn.Module):
    """A convolution, and one kernel for all that follows it until the next: bias, activation, sum, pixel shuffle."""

    def __init__(self, conv: nn.Conv2d, epilogue: Epilogue, slope: float = 1.0, shuffle: int = 1) -> None:
        super().__init__()
        self.stride: Any = conv.stride
        self.padding: Any = conv.padding
        self.epilogue, self.slope, self.shuffle = epilogue, slope, shuffle
        weight, bias = conv.weight.detach(), conv.bias
        assert bias is not None
        assert conv.groups == 1
        weight, bias = (shuffled_order(tensor, shuffle) for tensor in (weight, bias.detach()))
        padded = F.pad(weight, (0, 0, 0, 0, 0, 0, 0, -len(weight) % VECTOR))  # or cuDNN does, every time
        self.weight = nn.Parameter(padded.contiguous(memory_format=torch.channels_last), requires_grad=False)
        self.bias = nn.Parameter(bias, requires_grad=False)

    def forward(self, x: Tensor, skip: Tensor | None = None) -> Tensor:
        y = F.conv2d(x, self.weight, None, self.stride, self.padding)
        return self.epilogue(y, self.bias, slope=self.slope, skip=skip, shuffle=self.shuffle)


class FusedResidualBlock(nn.Module):
    """:class:`ResidualBlock` of two fused convolutions, the second of which adds what came in."""

    def __init__(self, block: ResidualBlock, epilogue: Epilogue) -> None:
        super().__init__()
        self.first, self.second = _fused(block.body, epilogue)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.second(self.first(x), skip=x)
        return y


class FusedHead(nn.Module):
    """Two convolutions and the activation between them, the second to few channels: it reads what the first gave as it
    came, and makes bias and activation on the way."""

    def __init__(self, conv: nn.Conv2d, slope: float, narrow: nn.Conv2d, narrow_conv: NarrowConv) -> None:
        super().__init__()
        assert conv.bias is not None
        assert narrow.bias is not None
        self.padding: Any = conv.padding
        self.slope, self.narrow_conv = slope, narrow_conv
        weight = conv.weight.detach().contiguous(memory_format=torch.channels_last)
        tensors = (weight, conv.bias.detach(), narrow_order(narrow.weight.detach()), narrow.bias.detach())
        parameters = [nn.Parameter(tensor, requires_grad=False) for tensor in tensors]
        self.weight, self.bias, self.narrow_weight, self.narrow_bias = parameters

    def forward(self, x: Tensor) -> Tensor:
        y = F.conv2d(x, self.weight, None, padding=self.padding)
        return self.narrow_conv(y, self.bias, self.narrow_weight, self.narrow_bias, slope=self.slope)


def fuse_head(network: KSNet, narrow_conv: NarrowConv) -> None:
    """Put one kernel in the place of the folded network's last activation and last convolution, where the kernel is
    made for what they are."""
    layers = list(network.reconstruct.head)
    if len(layers) != 3:
        return  # one convolution and a pixel shuffle
    first, activation, last = layers
    assert isinstance(first, nn.Conv2d)
    assert isinstance(last, nn.Conv2d)
    fits = first.out_channels in NarrowConvParams.CHANNELS and last.out_channels <= NARROW_OUTPUTS
    if fits and first.weight.dtype == torch.float16:
        slope = float(activation.negative_slope)  # type: ignore[arg-type]
        network.reconstruct.head = FusedHead(first, slope, last, narrow_conv)  # type: ignore[assignment]


def fuse_convolutions(network: M, epilogue: Epilogue) -> M:
    """The folded network, on its device, with fused convolutions in the place of its own; they give channels last."""
    if isinstance(network, nn.Conv2d):
        return FusedConv(network, epilogue)  # type: ignore[return-value]
    if isinstance(network, ResidualBlock):
        return FusedResidualBlock(network, epilogue)  # type: ignore[return-value]
    if isinstance(network, nn.Sequential):
        return nn.Sequential(*_fused(network, epilogue))  # type: ignore[return-value]
    for name, child in list(network.named_children()):
        setattr(network, name, fuse_convolutions(child, epilogue))
    return network


def _fused(layers: nn.Sequential, epilogue: Epilogue) -> Iterator[nn.Module]:
    """The layers in their order, with each convolution and what can be fused with it as one."""
    remaining = list(layers)
    while remaining:
        layer = remaining.pop(0)
        if not isinstance(layer, nn.Conv2d):
            yield fuse_convolutions(layer, epilogue)
            continue
        slope, shuffle = 1.0, 1
        if remaining and isinstance(remaining[0], nn.LeakyReLU | nn.ReLU):
            slope = float(getattr(remaining.pop(0), "negative_slope", 0.0))
        if remaining and isinstance(remaining[0], nn.PixelShuffle):
            shuffle = int(remaining.pop(0).upscale_factor)  # type: ignore[arg-type]
        yield FusedConv(layer, epilogue, slope, shuffle)


def extract_beside_flow(network: KSNet) -> None:
    """Let the features of a frame be computed on a CUDA stream of their own, beside the flow, which needs none of them
    and whose many small kernels leave most of a card idle. The first branch waits for both."""
    extract, side = network.extract, torch.cuda.Stream()  # type: ignore[no-untyped-call]
    read: list[Tensor] = []

    class Beside(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.extract = extract

        def forward(self, x: Tensor) -> Tensor:
            read.append(x)  # its memory must not go to other work before the other stream has read it
            side.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(side):
                y: Tensor = self.extract(x)
            return y

    def join(*_: object) -> None:
        torch.cuda.current_stream().wait_stream(side)
        read.clear()

    network.extract = Beside()  # type: ignore[assignment]
    network.propagate.register_forward_pre_hook(join)
