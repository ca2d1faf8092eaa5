"""Multiply-adds of one frame, counted from the configuration alone: no PyTorch is loaded."""

from __future__ import annotations

from ksnet_deploy.base.frames import FrameSize
from ksnet_deploy.network.config import KSNetConfig

__all__ = ["macs_per_frame"]


def macs_per_frame(config: KSNetConfig, size: FrameSize) -> int:
    """Multiply-adds of the folded network's convolutions for one LR frame, within 3 % of a count of its operators.

    Left out are the attention's coarse convolutions and all that is no convolution.
    """
    c, groups = config.channels, config.deform_groups
    extract = _conv(3, 3, c) + 2 * config.extract_blocks * _conv(3, c, c)
    offsets = _conv(3, 2 * c, config.offset_channels) + _conv(3, config.offset_channels, 27 * groups)
    deformable = round(offsets / config.offset_stride**2) + _conv(3, c, c)
    branch = _conv(3, 3 * c, c) + _selection(config)
    reconstruct = _conv(1, 2 * c, c) + 2 * config.reconstruct_blocks * _conv(3, c, c)
    if config.upsampler == "direct":
        upsample = _conv(3, c, c) + _conv(3, c, 48)
    else:
        upsample = _conv(3, c, 4 * c) + 4 * _conv(3, c, 4 * c) + 16 * (_conv(3, c, c) + _conv(3, c, 3))
    base = 3 * 16 * 25
    flows = _flow(config) * len(config.steps)  # each branch of bi has a neighbour of its own
    alignments = deformable * (1 if config.refine_alignment == "flow" else 2)
    return (extract + flows + alignments + 2 * branch + reconstruct + upsample + base) * size.height * size.width


def _conv(side: int, inputs: int, outputs: int) -> int:
    return side * side * inputs * outputs


def _flow(config: KSNetConfig) -> int:
    """SpyNet: up to six levels, each of a quarter of the pixels of the finer one."""
    if config.flow_guidance == "none":
        return 0
    f = config.flow_channels
    level = sum(_conv(7, a, b) for a, b in ((8, f), (f, 2 * f), (2 * f, f), (f, f // 2), (f // 2, 2)))
    return round(level * sum(4.0**-level_index for level_index in range(6 - config.flow_levels, 6)))


def _selection(config: KSNetConfig) -> int:
    """Multi-channel selection: per level a 3x3 on the kept and a 1x1 on the other channels, then the join."""
    c, work = config.channels, 0
    for before, kept in zip(config.level_channels, config.level_channels[1:], strict=False):
        wide, buffered = (c, c) if config.slots == "masked" else (kept, before - kept)
        work += _conv(3, wide, wide) + _conv(1, buffered, buffered)
    narrow = max(c // 4, 1)
    return work + _conv(1, 2 * c, c) + 2 * _conv(1, c, narrow) + _conv(1, narrow, narrow)
