"""Channel selection of a recurrent branch: the multi-channel selection unit (MSU), Eqs. (1)-(4).

The paper leaves open which kernel meets which channel once the selection changes from frame to frame
(``KSNetConfig.slots``): :class:`MultiChannelSelection` packs the selected channels into the slots of small kernels,
:class:`MaskedChannelSelection` keeps full kernel banks and masks what is not selected.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn

from ksnet_deploy.network.blocks import ESA, Concatenate, activation, conv3x3
from ksnet_deploy.network.config import KSNetConfig
from ksnet_deploy.ops.reference import Split, topk_mask, topk_split

__all__ = ["MaskedChannelSelection", "MultiChannelSelection", "SplitLevel", "channel_selection"]


def channel_selection(config: KSNetConfig) -> nn.Module:
    """The selection unit of a configuration: (f, o) -> g, with f and g (N, C, H, W) and o (N, 1, H, W)."""
    return (MaskedChannelSelection if config.slots == "masked" else MultiChannelSelection)(config)


class SplitLevel(nn.Module):
    """One hierarchy of the selection: split, buffer the low-value channels, convolve the high-value ones."""

    def __init__(self, config: KSNetConfig, c_in: int, c_keep: int) -> None:
        super().__init__()
        self.ranked = config.slots == "rank"
        self.c_keep = c_keep
        self.selects = c_keep < c_in
        self.topk_split = topk_split  # a runtime may put a faster one in its place
        if self.selects:
            self.lam = nn.Parameter(torch.full((1,), 0.5))
            self.buffer = nn.Sequential(nn.Conv2d(c_in - c_keep, c_in - c_keep, 1), activation())
        self.explore = nn.Sequential(conv3x3(c_keep, c_keep, reparameterize=config.reparameterize), activation())

    def forward(self, f: Tensor, o: Tensor) -> Split:
        if not self.selects:  # keep ratio 1
            return Split(self.explore(f), f[:, :0])
        con, dis = self.topk_split(f, o, self.lam, self.c_keep, ranked=self.ranked)
        return Split(self.explore(con), self.buffer(dis))


class MultiChannelSelection(nn.Module):
    """Multi-channel selection unit (MSU), Eqs. (1)-(4)."""

    def __init__(self, config: KSNetConfig) -> None:
        super().__init__()
        widths = config.level_channels
        self.levels = nn.ModuleList(SplitLevel(config, c_in, c_keep) for c_in, c_keep in pairwise(widths))
        # The parts of Eq. (4) after f: every level's dis, then the last con. They add up to C again.
        self.concatenate = Concatenate()
        self.merge = nn.Conv2d(2 * config.channels, config.channels, 1)
        self.attention = ESA(config.channels)

    def forward(self, f: Tensor, o: Tensor) -> Tensor:
        parts, con = [f], f
        for level in self.levels:
            con, dis = level(con, o)
            if dis.shape[1]:
                parts.append(dis)
        parts.append(con)
        y: Tensor = self.attention(self.merge(self.concatenate(*parts)))
        return y


class MaskedLevel(nn.Module):
    """One hierarchy with activated kernels: both convolutions span all channels and see zeros where not selected."""

    def __init__(self, config: KSNetConfig, c_in: int, c_keep: int) -> None:
        super().__init__()
        c = config.channels
        self.c_in, self.c_keep = c_in, c_keep
        self.lam = nn.Parameter(torch.full((1,), 0.5))
        self.buffer = nn.Sequential(nn.Conv2d(c, c, 1), activation())
        self.explore = nn.Sequential(conv3x3(c, c, reparameterize=config.reparameterize), activation())

    def forward(self, con: Tensor, o: Tensor, active: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Returns con, dis (N, C, H, W), zero outside of their channels, and the mask (N, C, 1, 1) of con."""
        keep, rest = topk_mask(con, o, self.lam, self.c_keep, active, self.c_in)
        kept, left = keep.detach(), rest.detach()
        return self.explore(con * keep) * kept, self.buffer(con * rest) * left, kept


class MaskedChannelSelection(nn.Module):
    """The selection unit with activated kernels; every channel keeps its own kernel row and column."""

    def __init__(self, config: KSNetConfig) -> None:
        super().__init__()
        self.levels = nn.ModuleList(
            MaskedLevel(config, c_in, c_keep) for c_in, c_keep in pairwise(config.level_channels)
        )
        self.concatenate = Concatenate()
        self.merge = nn.Conv2d(2 * config.channels, config.channels, 1)
        self.attention = ESA(config.channels)

    def forward(self, f: Tensor, o: Tensor) -> Tensor:
        con, active = f, torch.ones_like(f[:, :, :1, :1])
        refined = torch.zeros_like(f)
        for level in self.levels:
            con, dis, active = level(con, o, active)
            refined = refined + dis
        y: Tensor = self.attention(self.merge(self.concatenate(f, refined + con)))
        return y
