"""The largest tensor of a step, and the frames whose tensors GPU libraries can count; no PyTorch is loaded."""

from __future__ import annotations

from ksnet_deploy.base.errors import ConfigError
from ksnet_deploy.base.frames import FrameSize
from ksnet_deploy.network.config import KSNetConfig

__all__ = ["LIMIT", "check_elements", "countable_pixels", "largest_tensor"]

LIMIT = 2**31
"""Elements of a tensor that cuDNN, TensorRT and the native kernels cannot count any more: they do so in 32 bits."""


def largest_tensor(config: KSNetConfig, size: FrameSize) -> int:
    """Elements of the largest tensor of the folded network's step for one LR frame."""
    c, taps = config.channels, 9 * config.deform_groups
    per_pixel = [3 * c, 3 * taps, 2 * config.flow_channels]  # fusion; offsets and masks; SpyNet
    per_pixel += [48] if config.upsampler == "direct" else [16 * c]  # HR colours; HR features
    return max(per_pixel) * size.height * size.width


def countable_pixels(config: KSNetConfig) -> int:
    """Pixels of the largest LR frame that a GPU runtime takes whole."""
    return (LIMIT - 1) // largest_tensor(config, FrameSize(1, 1))


def check_elements(config: KSNetConfig, size: FrameSize, lanes: int = 1) -> None:
    """Raise ConfigError for frames, or for so many at once, that no GPU runtime takes whole."""
    one = largest_tensor(config, size)
    if one < LIMIT <= one * lanes:
        raise ConfigError(
            f"{lanes} frames of {size} at once make a tensor of {one * lanes / 2**31:.2f} x 2^31 elements, more than "
            f"GPU libraries count; give --scenes-in-flight {(LIMIT - 1) // one} or less"
        )
    if (count := one) >= LIMIT:
        raise ConfigError(
            f"frames of {size} make a tensor of {count / 2**31:.2f} x 2^31 elements, more than GPU libraries count, "
            f"which for this network ends at {countable_pixels(config)} pixels; give smaller frames, or a checkpoint "
            "without --tiles off, which TensorRT and ONNX Runtime run in tiles"
        )
