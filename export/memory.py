"""Memory that an export and its verification take, known before they begin.

Linux grants memory that it does not have, and then ends the process without a word; so what does not fit is refused,
or verified at a smaller size.
"""

from __future__ import annotations

from ksnet_deploy.base.errors import ConfigError
from ksnet_deploy.base.frames import FrameSize
from ksnet_deploy.base.memory import available_memory
from ksnet_deploy.network.config import KSNetConfig, Precision

__all__ = ["check_memory", "export_bytes", "fits", "in_gigabytes", "verification_bytes"]

BASE_BYTES = 500_000_000
"""Bytes that the process takes with PyTorch, the exporter and the network, before any frame."""
VERIFICATION_BYTES: dict[tuple[str, str, Precision], int] = {
    ("direct", "deformable", "fp32"): 625,
    ("direct", "flow", "fp32"): 370,
    ("progressive", "deformable", "fp32"): 730,
    ("progressive", "flow", "fp32"): 640,
    ("direct", "deformable", "fp16"): 790,
    ("direct", "flow", "fp16"): 430,
    ("progressive", "deformable", "fp16"): 860,
    ("progressive", "flow", "fp16"): 680,
}
"""Bytes for every LR pixel and channel of a network by its upsampler and the alignment of its second branch: one step
of PyTorch's unfolded network beside one of ONNX Runtime. From the peaks of lite, lite-video and uni, and of lite with
uni's upsampler, at 72x128, 180x320 and 360x640."""
RESERVE = 0.9
"""Share of the available memory that may be planned with."""


def export_bytes(config: KSNetConfig, size: FrameSize, batch: int = 1) -> int:
    """Peak of a process that exports a network for frames of a size: the tracer's example of every state, and one."""
    from ksnet_deploy.network.state_names import state_names  # loads PyTorch, which the other figures do without

    features = max(sum(name not in ("prev_lr", "flow_1") for name in state_names(config, s)) for s in config.steps)
    features += len(config.steps) - 1  # those that one step of two takes from the other
    return BASE_BYTES + 4 * (config.channels * (features + 1) + 10) * batch * size.height * size.width


def verification_bytes(config: KSNetConfig, size: FrameSize, precision: Precision, batch: int = 1) -> int:
    """Peak of a process that verifies an exported file at a size; of a batch at most so many times one frame's."""
    kind: Precision = "fp16" if "fp16" in precision else "fp32"
    per_channel = VERIFICATION_BYTES[config.upsampler, config.refine_alignment, kind]
    per_pixel = per_channel * config.channels * batch
    return BASE_BYTES + per_pixel * size.height * size.width


def fits(needed_bytes: int) -> bool:
    """Whether so much memory may be planned with here; True where nothing tells."""
    available = available_memory()
    return available is None or needed_bytes <= RESERVE * available


def check_memory(what: str, needed_bytes: int, remedy: str) -> None:
    """Raise ConfigError, before any work, where the memory that a job takes is not there."""
    if not fits(needed_bytes):
        raise ConfigError(
            f"{what} takes about {in_gigabytes(needed_bytes)} of memory, and {in_gigabytes(available_memory() or 0)} "
            f"are free here; free some, or {remedy}"
        )


def in_gigabytes(count: int) -> str:
    """``1.6 GB``."""
    return f"{count / 1e9:.1f} GB"
