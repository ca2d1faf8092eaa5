"""The memory that ``bench`` and ``evaluate`` take, known before they begin; see :mod:`ksnet_deploy.export.memory`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal, TypeAlias

from ksnet_deploy.base.frames import SCALE, FrameSize
from ksnet_deploy.export.memory import check_memory, export_bytes
from ksnet_deploy.measure.evaluation import frames_at_a_time
from ksnet_deploy.network.checkpoint_config import config_of
from ksnet_deploy.network.config import KSNetConfig
from ksnet_deploy.upscale.memory import PIPELINE_BYTES, choose_tiles, memory_needed
from ksnet_deploy.upscale.networks import Network, NetworkFile
from ksnet_deploy.upscale.values import TileChoice
from ksnet_deploy.upscale.windows import Windows
from ksnet_deploy.video.clips.clip import Clip, VideoClip

__all__ = [
    "Held",
    "benchmark_bytes",
    "config_of_file",
    "evaluation_bytes",
    "plan_evaluation",
    "process_bytes",
    "torch_bytes",
]

Held: TypeAlias = Literal["lr", "hr"] | None
"""Frames of a clip that an encoder sees at once: those of LR, those of HR too, of which it is made, or none."""

PARENT_BYTES = 250_000_000
"""The process that starts the measured ones and waits for them, with PyTorch."""
TORCH_BYTES = 330_000_000
TORCH_BYTES_PER_CHANNEL = {"direct": 170, "progressive": 295}
"""The folded network in PyTorch, for the first pixel, and for every LR pixel and channel: from the peaks of lite at
72x128, 180x320, 360x640 and 540x960, and of uni at 72x128 and 180x320."""
SCORING_BASE_BYTES = 60_000_000
SCORING_BYTES = 100
"""The process without a network, and for every HR pixel what SSIM takes in float64: 3.43 GB at 1080x1920 without one,
for which 3.48 are announced."""
WARPING_BASE_BYTES = 300_000_000
WARPING_BYTES = 780
"""PyTorch, and for every HR pixel the flow network at HR size."""


def torch_bytes(config: KSNetConfig, size: FrameSize) -> int:
    """Peak of a process that runs a checkpoint in PyTorch on LR frames of a size."""
    return TORCH_BYTES + TORCH_BYTES_PER_CHANNEL[config.upsampler] * config.channels * size.height * size.width


def benchmark_bytes(config: KSNetConfig, size: FrameSize, lanes: Sequence[Sequence[str]], *, exports: bool) -> int:
    """Peak of a benchmark: of its exports, or of the measured processes beside the one that waits for them.

    Args:
        lanes: the runtimes whose processes are there at once, of each lane after the other.
        exports: whether the network is exported, which a given ``.onnx`` is not.
    """
    together = [sum(process_bytes(config, size, backend) for backend in lane) for lane in lanes]
    pipeline = PIPELINE_BYTES * size.height * size.width  # of one process, the others wait
    export = export_bytes(config, size) if exports else 0
    return max(export, PARENT_BYTES + max(together) + pipeline)


def process_bytes(config: KSNetConfig, size: FrameSize, backend: str) -> int:
    """Peak of a process that steps a network in a runtime on the CPU."""
    return torch_bytes(config, size) if backend == "torch" else memory_needed(size, config)


def evaluation_bytes(
    clips: Sequence[tuple[Clip, Clip | None]],
    network_bytes: Callable[[FrameSize, int], int],
    *,
    waiting: int = 1,
    held: Held = None,
    warping: bool = False,
) -> int:
    """Peak of a process that evaluates clips.

    Args:
        clips: HR clips, each with its LR clip where there is one.
        network_bytes: what the network takes on LR frames of a size, beside so many bytes; 0 for none.
        waiting: HR frames that wait until the network gives the first; a bidirectional one sees a window before.
        held: frames that are in memory at once, beside those that are always.
        warping: temporal consistency is measured too.
    """
    peak = 0
    for hr, lr in clips:
        size = FrameSize(hr.height // SCALE, hr.width // SCALE)
        pixels = hr.height * hr.width
        read = _bytes_read(hr) + (0 if lr is None else _bytes_read(lr))
        beside = read + SCORING_BYTES * pixels + 3 * (min(waiting, hr.frames) - 1) * pixels
        if held is not None:
            beside += (4 if held == "hr" else 1) * hr.frames * pixels
        if warping:
            beside += WARPING_BASE_BYTES + WARPING_BYTES * pixels
        # The frames of a decoded video are put together, which takes them twice; the network is there from the second.
        decoding = 2 * read if isinstance(hr, VideoClip) else 0
        network = network_bytes(size.padded, beside)
        peak = max(peak, SCORING_BASE_BYTES + network + beside, decoding + (network if len(clips) > 1 else 0))
    return peak


def _bytes_read(clip: Clip) -> int:
    """Bytes that a clip has in memory at once: a video those of all its frames."""
    frames = clip.frames if isinstance(clip, VideoClip) else frames_at_a_time(clip)
    return 3 * frames * clip.height * clip.width


def plan_evaluation(
    clips: Sequence[tuple[Clip, Clip | None]],
    network: Network | None,
    tiles: TileChoice,
    *,
    held: Held,
    warping: bool,
) -> int | None:
    """Bytes that an evaluation takes, checked against what there is; None where the network runs on a GPU, whose own
    memory decides.

    Args:
        network: None for bicubic enlargement.

    Raises:
        ConfigError: so much is not there, or the network is not run in such tiles.
    """
    if network is not None and (network.device == "cuda" or not isinstance(network, NetworkFile)):
        return None  # what a GPU holds is another's to say
    config = None if network is None else config_of_file(network.path)
    windows = Windows() if network is None else Windows.of(network, None, None)

    def network_bytes(size: FrameSize, beside: int) -> int:
        if network is None or config is None:
            return 0
        if network.backend == "torch":
            choose_tiles(size, network, tiles, windows, beside)  # which says where tiles were asked for in vain
            return torch_bytes(config, size) + windows.bytes(size, config)
        return memory_needed(size, config, choose_tiles(size, network, tiles, windows, beside), windows)

    needed = evaluation_bytes(clips, network_bytes, waiting=windows.latency_frames, held=held, warping=warping)
    remedy = "give smaller frames, or fewer frames in a video"
    if network is not None and network.can_be_tiled:
        remedy += ", or smaller tiles with --tiles"
    check_memory("to evaluate these clips", needed, remedy)
    return needed


def config_of_file(path: Path) -> KSNetConfig | None:
    """Configuration of a checkpoint, or of an exported file by its metadata; None where it does not say.

    Raises:
        KSNetError: it cannot be read.
    """
    if path.suffix.lower() != ".onnx":
        return config_of(path)
    from ksnet_deploy.runtime.pair import files_of
    from ksnet_deploy.runtime.step_file import exported_metadata, load_exported

    text = exported_metadata(load_exported(files_of(path)[0])).get("ksnet.config")
    return None if text is None else KSNetConfig.from_json(text)
