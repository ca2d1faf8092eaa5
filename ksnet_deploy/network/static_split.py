"""The channel selection frozen: every frame keeps the channels that a calibration clip kept most often.

Beyond the paper. Three steps: :func:`count_selections` runs the network over frames, :func:`force_selection` lets each
split gather the channels that were chosen, and :func:`freeze_split` folds these gathers into the weights of the folded
network: the convolution that produces a split's features gives them in the order in which the split wants them, so that
the split is a slice, and what else reads them has its weights' columns in that order too. No scores, no ranking and no
temporal offset map are left.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from typing import TypeVar

import torch
from torch import Tensor, nn

from ksnet_deploy.base.errors import ConfigError
from ksnet_deploy.network.channel_selection import MultiChannelSelection, SplitLevel
from ksnet_deploy.network.config import KSNetConfig
from ksnet_deploy.network.folding import fold
from ksnet_deploy.network.model import KSNet, RecurrentBranch
from ksnet_deploy.ops.reference import Split, channel_scores

__all__ = [
    "Channels",
    "ForcedLevel",
    "SlicedLevel",
    "check_freezable",
    "chosen_channels",
    "count_selections",
    "force_selection",
    "forced_channels",
    "freeze_split",
]

L = TypeVar("L", SplitLevel, "ForcedLevel")
Channels = dict[str, list[int]]
"""Channels that each split keeps, ascending, by the names that the splits have in the network."""


class ForcedLevel(nn.Module):
    """A split level whose channels are given: what :class:`SplitLevel` computes once it has chosen these."""

    def __init__(self, level: SplitLevel, kept: Sequence[int]) -> None:
        super().__init__()
        channels = _channels_in(level)
        self.kept = sorted(kept)
        self.rest = sorted(set(range(channels)) - set(kept))
        if len(set(kept)) != level.c_keep or len(self.rest) != channels - level.c_keep:
            raise ValueError(f"a split keeps {level.c_keep} of channels 0 to {channels - 1}, not {list(kept)}")
        self.buffer, self.explore = level.buffer, level.explore

    def forward(self, f: Tensor, _o: Tensor) -> Split:
        return Split(self.explore(f[:, self.kept]), self.buffer(f[:, self.rest]))


class SlicedLevel(nn.Module):
    """A split level that keeps the first channels: its features come in that order."""

    def __init__(self, level: ForcedLevel) -> None:
        super().__init__()
        self.c_keep = len(level.kept)
        self.buffer, self.explore = level.buffer, level.explore

    def forward(self, f: Tensor, _o: Tensor) -> Split:
        return Split(self.explore(f[:, : self.c_keep]), self.buffer(f[:, self.c_keep :]))


def check_freezable(config: KSNetConfig) -> None:
    """Raise ConfigError unless the splits of such a network can be frozen."""
    if config.direction == "bi":
        raise ConfigError(
            "a static split is for networks that run in one direction, and this one is bidirectional; leave it out"
        )
    if config.slots != "order":
        raise ConfigError(
            f"a static split is for networks with slots 'order', and this one has '{config.slots}'; leave it out"
        )
    if config.level_channels[0] == config.level_channels[-1]:
        raise ConfigError(
            "a static split freezes the selection of channels, and this network keeps all of them; leave it out"
        )


@torch.inference_mode()
def count_selections(
    model: KSNet, frames: Iterable[tuple[Tensor, bool]], on_hr: Callable[[Tensor], None] = lambda _hr: None
) -> dict[str, Tensor]:
    """Frames in which each split keeps each of its channels, with the network's state from one to the next.

    Args:
        model: of one direction; it runs folded, in float32.
        frames: each (1, 3, H, W) in [0, 1], and whether it begins a scene, before which the state is reset. The first
            does in any case.
        on_hr: given each frame's result (1, 3, 4 H, 4 W).

    Returns:
        int64 (C_in,) for each split, by its name in the network.

    Raises:
        ConfigError: the network has no splits that can be frozen.
    """
    check_freezable(model.config)
    network = fold(model)
    levels = dict(_levels(network, SplitLevel))
    counts = {name: torch.zeros(_channels_in(level), dtype=torch.int64) for name, level in levels.items()}

    def counter(level: SplitLevel, count: Tensor) -> Callable[[nn.Module, tuple[Tensor, Tensor]], None]:
        def add(_module: nn.Module, given: tuple[Tensor, Tensor]) -> None:
            scores = channel_scores(*given, level.lam)
            count[torch.sort(scores[0], stable=True).indices[: level.c_keep]] += 1

        return add

    with ExitStack() as hooks:
        for name, level in levels.items():
            hooks.callback(level.register_forward_pre_hook(counter(level, counts[name])).remove)
        state = None
        for lr, starts_scene in frames:
            before = network.initial_state(lr) if state is None or starts_scene else state
            hr, state = network(lr, before)
            on_hr(hr)
    return counts


def chosen_channels(model: KSNet, counts: dict[str, Tensor]) -> Channels:
    """The channels that each split kept most often, as many as it keeps; ties go to the lower index."""
    chosen = {}
    for name, level in _levels(model, SplitLevel):
        order = torch.sort(counts[name], descending=True, stable=True).indices
        chosen[name] = sorted(order[: level.c_keep].tolist())
    return chosen


def force_selection(model: KSNet, chosen: Channels) -> KSNet:
    """A copy of a network, folded or not, whose splits keep these channels of every frame.

    Raises:
        ConfigError: the network has no splits that can be frozen.
        ValueError: the names or numbers of the channels are not those of its splits.
    """
    check_freezable(model.config)
    forced = copy.deepcopy(model)
    levels = dict(_levels(forced, SplitLevel))
    if levels.keys() != chosen.keys():
        raise ValueError(f"the network's splits are {sorted(levels)}, and channels were given for {sorted(chosen)}")
    for name, level in levels.items():
        forced.set_submodule(name, ForcedLevel(level, chosen[name]))
    return forced


def forced_channels(model: KSNet) -> Channels:
    """The channels that :func:`force_selection` was given; none for any other network."""
    return {name: level.kept for name, level in _levels(model, ForcedLevel)}


def freeze_split(model: KSNet) -> KSNet:
    """A copy of a folded network in which the splits of :func:`force_selection` are slices; without such, a copy.

    Raises:
        ValueError: the network is not folded.
    """
    frozen = copy.deepcopy(model)
    for branch in frozen.modules():
        if isinstance(branch, RecurrentBranch) and isinstance(branch.select, MultiChannelSelection):
            _freeze_branch(branch.fuse[0], branch.select)
    return frozen


@torch.no_grad()
def _freeze_branch(fuse: nn.Module, select: MultiChannelSelection) -> None:
    producer = fuse  # of the features that the next level splits
    for index, level in enumerate(select.levels):
        if isinstance(level, ForcedLevel):
            order = level.kept + level.rest
            _permute_outputs(producer, order)
            if producer is fuse:  # whose features the merge reads too, before the levels' own results
                columns = [*order, *range(len(order), select.merge.in_channels)]
                select.merge.weight.copy_(select.merge.weight[:, columns])
            select.levels[index] = SlicedLevel(level)
        producer = level.get_submodule("explore.0")


def _permute_outputs(convolution: nn.Module, order: list[int]) -> None:
    """Let a convolution give its channels in that order; the activation behind it is the same for all of them."""
    if not isinstance(convolution, nn.Conv2d) or convolution.bias is None:
        raise ValueError(f"only a folded network's splits can be frozen; {type(convolution).__name__} is not folded")
    convolution.weight.copy_(convolution.weight[order])
    convolution.bias.copy_(convolution.bias[order])


def _levels(model: KSNet, kind: type[L]) -> Iterator[tuple[str, L]]:
    """The levels of a kind that split anything, by their names."""
    for name, module in model.named_modules():
        if isinstance(module, kind) and getattr(module, "selects", True):
            yield name, module


def _channels_in(level: SplitLevel) -> int:
    convolution = level.buffer[0]
    assert isinstance(convolution, nn.Conv2d)
    return level.c_keep + convolution.out_channels
