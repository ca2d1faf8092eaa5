"""The KSNet network: forward of one recurrent step, (lr, state) -> (hr, state); of bi, a step for each branch.

From the whole to its parts: :class:`KSNet` is extract -> two recurrent branches -> reconstruct; a
:class:`RecurrentBranch` is alignment (``alignment.py``) -> fusion -> channel selection
(``channel_selection.py``). Equation numbers are of "Kernel Dimension Matters" (MM '23).

Frames are RGB in [0, 1], (N, 3, H, W) with H, W >= 16. Flows are in pixels, dx before dy; see ``flow.py``.
"""

from __future__ import annotations

from typing import NamedTuple, TypeVar

import torch
from torch import Tensor, nn

from ksnet_deploy.base.errors import ConfigError
from ksnet_deploy.base.frames import SCALE, FrameSize
from ksnet_deploy.base.memory import available_memory
from ksnet_deploy.network.alignment import FlowAlignment, FlowGuidedAlignment, Motion
from ksnet_deploy.network.blocks import (
    BicubicUpsample,
    Concatenate,
    ResidualBlock,
    activation,
    initialise,
    zero_conv3x3,
)
from ksnet_deploy.network.channel_selection import channel_selection
from ksnet_deploy.network.config import KSNetConfig
from ksnet_deploy.network.flow import SpyNet, warp

__all__ = ["KSNet", "PropagateState", "RefineState", "State", "new_network"]

S = TypeVar("S", bound="State | PropagateState | RefineState")


class KSNet(nn.Module):
    """Kernel Split Network. ``uni`` is called frame by frame, ``bi`` branch by branch; both take whole windows."""

    def __init__(self, config: KSNetConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or KSNetConfig()
        c = config.channels
        self.extract = nn.Sequential(
            *(nn.Conv2d(3, c, 3, padding=1), activation()),
            *(ResidualBlock(c, reparameterize=config.reparameterize) for _ in range(config.extract_blocks)),
        )
        self.propagate = RecurrentBranch(config, FlowGuidedAlignment(config))
        refine_by_flow = config.refine_alignment == "flow"
        self.refine = RecurrentBranch(config, FlowAlignment(config) if refine_by_flow else FlowGuidedAlignment(config))
        self.reconstruct = Reconstruction(config)
        initialise(self)
        self.flow = SpyNet(config.flow_channels, config.flow_levels) if config.flow_guidance != "none" else None
        self.base = BicubicUpsample()
        self.warp = warp  # a runtime may put a faster one in its place

    @property
    def dtype(self) -> torch.dtype:
        """Dtype of the weights and features. Frames, flows and offsets are always float32 (``precision.py``)."""
        dtype: torch.dtype = self.reconstruct.join.weight.dtype
        return dtype

    def initial_state(self, lr: Tensor) -> State:
        """State before the first frame lr, or after a scene cut."""
        return self.fresh_state(State, lr)

    def fresh_state(self, kind: type[S], lr: Tensor) -> S:
        """State of a kind before the first frame lr that its step meets."""
        n, _, h, w = lr.shape
        feat = lr.new_zeros(n, self.config.channels, h, w, dtype=self.dtype)
        known = {"prev_lr": lr, "flow_1": lr.new_zeros(n, 2, h, w)}
        return kind(**{name: known.get(name, feat) for name in kind._fields})

    def forward(self, lr: Tensor, state: State) -> tuple[Tensor, State]:
        """One recurrent step of KSNet-uni.

        Args:
            lr: (N, 3, H, W) current frame in [0, 1], H and W at least 16.
            state: the last step's, or :meth:`initial_state`.

        Returns:
            The HR frame (N, 3, 4 H, 4 W), nominally in [0, 1] but not clamped, and the state for the next step.

        Raises:
            ConfigError: the network is bidirectional, or the frame is too small.
        """
        if self.config.direction != "uni":
            raise ConfigError("a bidirectional KSNet has no single step; call forward_window on a window of frames")
        self._check_size(lr)
        feat = self.extract(lr.to(self.dtype))
        motion = self._observe(lr, state.prev_lr, state.flow_1)
        prop = self.propagate(feat, state.feat_1, state.feat_2, state.prop_1, motion)
        refined = self.refine(prop, state.prop_1, state.prop_2, state.refine_1, motion)
        following = State(lr, feat, state.feat_1, motion.to_1, prop, state.prop_1, refined)
        return self._picture(lr, prop, refined), following

    def propagate_step(self, lr: Tensor, state: PropagateState) -> tuple[Tensor, PropagateState]:
        """One step of KSNet-bi's first branch, which meets the frames from the last to the first.

        Args:
            lr: as of :meth:`forward`.
            state: of the step before, which saw the frame that follows lr, or :meth:`fresh_state`.

        Returns:
            The frame's features (N, C, H, W), for :meth:`refine_step`, and the state for the frame before lr.

        Raises:
            ConfigError: the frame is too small.
        """
        self._check_size(lr)
        feat = self.extract(lr.to(self.dtype))
        motion = self._observe(lr, state.prev_lr, state.flow_1)
        prop = self.propagate(feat, state.feat_1, state.feat_2, state.prop_1, motion)
        return prop, PropagateState(lr, feat, state.feat_1, motion.to_1, prop)

    def refine_step(self, lr: Tensor, prop: Tensor, state: RefineState) -> tuple[Tensor, RefineState]:
        """One step of KSNet-bi's second branch, which meets the frames from the first to the last.

        Args:
            lr: as of :meth:`forward`.
            prop: the frame's features of :meth:`propagate_step`.
            state: the last step's, or :meth:`fresh_state`.

        Returns:
            The HR frame and the state for the next step, as of :meth:`forward`.
        """
        motion = self._observe(lr, state.prev_lr, state.flow_1)
        refined = self.refine(prop, state.prop_1, state.prop_2, state.refine_1, motion)
        return self._picture(lr, prop, refined), RefineState(lr, motion.to_1, prop, state.prop_1, refined)

    def forward_window(self, lrs: Tensor) -> Tensor:
        """Super-resolve a window of T frames at once, from a fresh state: (N, T, 3, H, W) -> (N, T, 3, 4 H, 4 W)."""
        frames = lrs.unbind(dim=1)
        hrs = self._forward_uni(frames) if self.config.direction == "uni" else self._forward_bi(frames)
        return torch.stack(hrs, dim=1)

    def _forward_uni(self, frames: tuple[Tensor, ...]) -> list[Tensor]:
        hrs, state = [], self.initial_state(frames[0])
        for lr in frames:
            hr, state = self(lr, state)
            hrs.append(hr)
        return hrs

    def _forward_bi(self, frames: tuple[Tensor, ...]) -> list[Tensor]:
        """The first branch from the last frame to the first, then the second from the first to the last."""
        props: list[Tensor] = []
        backward = self.fresh_state(PropagateState, frames[-1])
        for lr in reversed(frames):
            prop, backward = self.propagate_step(lr, backward)
            props.append(prop)
        hrs: list[Tensor] = []
        forward = self.fresh_state(RefineState, frames[0])
        for lr in frames:
            hr, forward = self.refine_step(lr, props.pop(), forward)
            hrs.append(hr)
        return hrs

    def _observe(self, lr: Tensor, prev_lr: Tensor, flow_1: Tensor) -> Motion:
        """Differences of the frame lr from prev_lr, which the branch met before it, and whose flow was flow_1."""
        if self.flow is None:  # the state's flow stays zero
            to_1 = to_2 = flow_1
        else:
            to_1 = self.flow(lr, prev_lr)
            to_2 = to_1 + self.warp(flow_1, to_1)  # (10)
        o = (lr - prev_lr).abs().mean(dim=1, keepdim=True)  # (2)
        return Motion(to_1, flow_1, to_2, o)

    def _picture(self, lr: Tensor, prop: Tensor, refined: Tensor) -> Tensor:
        hr: Tensor = self.base(lr, self.reconstruct(prop, refined))
        return hr

    @staticmethod
    def _check_size(lr: Tensor) -> None:
        if min(lr.shape[-2:]) < FrameSize.MINIMUM:
            raise ConfigError(
                f"a frame of {lr.shape[-2]}x{lr.shape[-1]} is too small; the network needs at least "
                f"{FrameSize.MINIMUM} pixels in height and width, so pad it"
            )


class State(NamedTuple):
    """Recurrent state, handed from step to step. After a reset all is zero but ``prev_lr``, the current frame."""

    prev_lr: Tensor
    """(N, 3, H, W) last frame."""
    feat_1: Tensor
    """(N, C, H, W) features of the last frame."""
    feat_2: Tensor
    """(N, C, H, W) features of the frame before."""
    flow_1: Tensor
    """(N, 2, H, W) flow from the last frame to the one before."""
    prop_1: Tensor
    """(N, C, H, W) first branch's last output."""
    prop_2: Tensor
    """(N, C, H, W) first branch's output before that."""
    refine_1: Tensor
    """(N, C, H, W) second branch's last output."""


class PropagateState(NamedTuple):
    """Part of :class:`State` that the first branch of bi reads. It meets frames backward, so "last" is the next one."""

    prev_lr: Tensor
    feat_1: Tensor
    feat_2: Tensor
    flow_1: Tensor
    prop_1: Tensor


class RefineState(NamedTuple):
    """Part of :class:`State` that the second branch of bi reads; the outputs of the first are given to it."""

    prev_lr: Tensor
    flow_1: Tensor
    prop_1: Tensor
    prop_2: Tensor
    refine_1: Tensor


class RecurrentBranch(nn.Module):
    """Alignment, fusion and channel selection of one recurrent branch."""

    def __init__(self, config: KSNetConfig, align: FlowAlignment) -> None:
        super().__init__()
        c = config.channels
        self.align = align
        self.concatenate = Concatenate()
        self.fuse = nn.Sequential(nn.Conv2d(3 * c, c, 3, padding=1), activation())
        self.select = channel_selection(config)

    def forward(self, u: Tensor, u_1: Tensor, u_2: Tensor, g_1: Tensor, motion: Motion) -> Tensor:
        """Refined feature g of this frame from u (this frame, one back, two back) and the last g."""
        aligned = self.align(u, u_1, u_2, motion)
        y: Tensor = self.select(self.fuse(self.concatenate(aligned, u, g_1)), motion.o)
        return y


class Reconstruction(nn.Module):
    """Joined branch features to the HR residual. The last convolution starts at zero."""

    def __init__(self, config: KSNetConfig) -> None:
        super().__init__()
        c = config.channels
        self.concatenate = Concatenate()
        self.join = nn.Conv2d(2 * c, c, 1)
        self.blocks = nn.Sequential(
            *(ResidualBlock(c, reparameterize=config.reparameterize) for _ in range(config.reconstruct_blocks))
        )
        if config.upsampler == "direct":
            self.upsample = nn.Sequential(nn.Conv2d(c, c, 3, padding=1), activation())
            self.head = nn.Sequential(zero_conv3x3(c, 3 * SCALE**2), nn.PixelShuffle(SCALE))
            return
        self.upsample = nn.Sequential(
            *(nn.Conv2d(c, 4 * c, 3, padding=1), activation(), nn.PixelShuffle(2)),
            *(nn.Conv2d(c, 4 * c, 3, padding=1), activation(), nn.PixelShuffle(2)),
        )
        self.head = nn.Sequential(nn.Conv2d(c, c, 3, padding=1), activation(), zero_conv3x3(c, 3))

    def forward(self, prop: Tensor, refined: Tensor) -> Tensor:
        feat = self.blocks(self.join(self.concatenate(prop, refined)))
        first: nn.Conv2d = self.upsample[0]  # type: ignore[assignment]
        y: Tensor = self.head(self.upsample(feat.to(first.weight.dtype)))
        return y


def new_network(config: KSNetConfig) -> KSNet:
    """A network with new weights. Raises ConfigError where the memory does not hold them."""
    blocks = config.extract_blocks + config.reconstruct_blocks
    needed = 4 * blocks * 2 * 9 * config.channels**2  # of most of them: two convolutions a block, in float32
    available = available_memory()
    if available is not None and needed > available:
        raise ConfigError(
            f"the weights of a network of {config.channels} channels take more than {needed / 1e9:.1f} GB of memory, "
            f"and {available / 1e9:.1f} GB are free here; choose fewer channels or blocks"
        )
    return KSNet(config)
