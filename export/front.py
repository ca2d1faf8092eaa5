"""The front doors: export a network, or build an engine of it, with settings as users give them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from ksnet_deploy.base.errors import ConfigError
from ksnet_deploy.base.files import check_new_file
from ksnet_deploy.base.frames import FrameSize, FrameType
from ksnet_deploy.export.engine.make import EngineRequest, MadeEngine, make_engine
from ksnet_deploy.export.proof.float32 import SequenceReport
from ksnet_deploy.export.proof.half import PSNR_FLOOR_DB, HalfReport
from ksnet_deploy.export.proof.sequence import PROOF_SIZE
from ksnet_deploy.export.verified import export_verified
from ksnet_deploy.network.bundled import checkpoint_path
from ksnet_deploy.network.checkpoints import load_checkpoint
from ksnet_deploy.network.config import Precision
from ksnet_deploy.runtime.tensorrt.target import SizeRange

__all__ = ["build_engine", "export_onnx"]


def export_onnx(
    model: str | Path,
    output: Path | str,
    size: FrameSize | str = "180x320",
    *,
    dynamic: bool = False,
    io: FrameType = "uint8",
    precision: Precision = "fp32",
    inline: bool = False,
    verify_frames: int = 8,
    overwrite: bool = False,
) -> SequenceReport | HalfReport | None:
    """Export a checkpoint to ONNX and prove that it computes what PyTorch computes.

    Args:
        model: a bundled checkpoint's name, or a checkpoint's path.
        output: the ``.onnx`` to write; it appears only when it has passed.
        size: of the LR frames, height before width.
        dynamic: leave height and width free; the proof is made at a small size then.
        io: element type of the frames.
        precision: of the convolutions.
        inline: write the custom operators as standard ones, for runtimes that know no ONNX functions.
        verify_frames: recurrent frames to compare; 0 for none, which gives None.
        overwrite: replace an existing file.

    Raises:
        KSNetError: the network cannot be loaded or exported, the file cannot be written, or the proof failed.
    """
    path, frames = Path(output), _size(size)
    check_new_file(path, ".onnx", overwrite=overwrite)
    return export_verified(
        load_checkpoint(checkpoint_path(str(model))),
        path,
        PROOF_SIZE if dynamic else frames,
        dynamic=dynamic,
        io=io,
        precision=precision,
        inline=inline,
        frames=verify_frames,
    )


def build_engine(
    model: str | Path,
    output: Path | str | None = None,
    size: FrameSize | str | tuple[FrameSize | str, FrameSize | str, FrameSize | str] = "180x320",
    *,
    precision: Precision = "fp16",
    gpu: str | None = None,
    verify_frames: int = 30,
    least_psnr_db: float = PSNR_FLOOR_DB,
    overwrite: bool = False,
    say: Callable[[str], None] = lambda _line: None,
) -> MadeEngine:
    """Build a TensorRT engine and compare it with float32; with TensorRT-RTX also for a GPU that is not here.

    Args:
        model: a bundled checkpoint's name, a checkpoint's path, or an exported ``.onnx`` of the precision.
        output: the ``.engine`` to write, with its ``.json`` beside it (default: in the cache).
        size: of the LR frames; or the least, the best and the largest of an engine for many.
        precision: of the convolutions.
        gpu: name or architecture, such as ``rtx3080`` or ``sm86`` (default: this machine's).
        verify_frames: recurrent frames to compare; 0 for none.
        least_psnr_db: of every frame; an engine below it is there all the same, and its sidecar's ``fault`` says so.
        overwrite: replace an existing engine.
        say: told what is done.

    Raises:
        KSNetError: it cannot be built here, or the comparison failed.
    """
    path = None if output is None else Path(output)
    if path is not None:
        check_new_file(path, ".engine", overwrite=overwrite)
    sizes = tuple(map(_size, size)) if isinstance(size, tuple) else (_size(size),) * 3
    if len(sizes) != 3:
        raise ConfigError(f"{len(sizes)} sizes were given; give one, or the least, the best and the largest")
    source = Path(model) if str(model).endswith(".onnx") else checkpoint_path(str(model))
    request = EngineRequest(
        source=source,
        sizes=SizeRange(*sizes),
        precision=precision,
        gpu=gpu,
        output=path,
        verify_frames=verify_frames,
        least_psnr_db=least_psnr_db,
        model=str(model),
    )
    return make_engine(request, say=say)


def _size(size: FrameSize | str) -> FrameSize:
    return size if isinstance(size, FrameSize) else FrameSize.parse(size)
