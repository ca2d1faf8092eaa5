"""Export with its proof: a file that appears only when it has passed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from ksnet_deploy.base.files import check_place, replacing
from ksnet_deploy.base.frames import FrameSize, FrameType
from ksnet_deploy.export.onnx import export_onnx
from ksnet_deploy.export.proof.float32 import SequenceReport, verify_onnx
from ksnet_deploy.export.proof.half import HalfReport, verify_half
from ksnet_deploy.export.proof.sequence import check_frames
from ksnet_deploy.network.checkpoints import Checkpoint
from ksnet_deploy.network.config import Precision
from ksnet_deploy.network.model import KSNet

__all__ = ["export_verified", "verify"]


def export_verified(
    checkpoint: Checkpoint,
    path: Path,
    size: FrameSize,
    *,
    dynamic: bool,
    io: FrameType,
    precision: Precision,
    frames: int,
    inline: bool = False,
    on_verify: Callable[[], None] = lambda: None,
    on_frame: Callable[[], None] = lambda: None,
) -> SequenceReport | HalfReport | None:
    """Export a checkpoint and verify the file against PyTorch in float32.

    Args:
        size: of the frames; with ``dynamic``, of those of the verification only.
        frames: to verify over; 0 for none, which gives None.
        inline: as for :func:`ksnet_deploy.export.onnx.exported_model`.
        on_verify: called when the export is done.

    Raises:
        KSNetError: the export or the verification failed. An older file of the name is still there.
    """
    check_place(path)
    if frames:
        check_frames(frames)
    with replacing(path) as temporary:
        export_onnx(checkpoint, temporary, size=None if dynamic else size, io=io, precision=precision, inline=inline)
        on_verify()
        if not frames:
            return None
        return verify(checkpoint.model, temporary, size, precision=precision, frames=frames, on_frame=on_frame)


def verify(
    model: KSNet,
    path: Path,
    size: FrameSize,
    *,
    precision: Precision,
    frames: int,
    on_frame: Callable[[], None] = lambda: None,
) -> SequenceReport | HalfReport:
    """Compare an exported file with the float32 network by the measure of its precision.

    Raises:
        ConfigError: there are too few frames.
        VerificationError: it is not near enough.
    """
    compare = verify_onnx if precision == "fp32" else verify_half
    return compare(model, path, size, frames=frames, on_frame=on_frame)
