"""Networks by the name that a user gives: a bundled checkpoint, a checkpoint's path, or an exported file's.

Imported with the command line; what is heavy stands inside the functions.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from ksnet_deploy.base.errors import ConfigError
from ksnet_deploy.network.bundled import checkpoint_path

if TYPE_CHECKING:
    from ksnet_deploy.base.frames import FrameSize, FrameType
    from ksnet_deploy.runtime.base import Runner
    from ksnet_deploy.runtime.tiles import TilePlan

__all__ = ["can_be_tiled", "default_model", "model_identity", "open_model"]

EXPORTED_SUFFIXES = (".onnx", ".engine")


def default_model(device: str | None) -> str:
    """The bundled network that suits a device: ``lite`` on a CPU, which is the default, ``uni`` on a GPU."""
    return "uni" if device == "cuda" else "lite"


def model_identity(model: str, backend: str | None = None, device: str | None = None) -> dict[str, str]:
    """Everything about a network that changes its pictures, by names a user understands.

    Raises:
        KSNetError: there is no such network.
    """
    from ksnet_deploy.base.files import sha256_of
    from ksnet_deploy.network.bundled import check_is_file

    exported = model.endswith(EXPORTED_SUFFIXES)
    path = Path(model) if exported else checkpoint_path(model)
    check_is_file(path)
    runtime = "tensorrt" if model.endswith(".engine") else backend or "onnxruntime"
    libraries = {"onnxruntime": ("onnxruntime", "onnxruntime-gpu"), "torch": ("torch",)}.get(runtime, ())
    found = [f"{name} {_version(name)}" for name in libraries if _version(name)]
    return {
        "network": f"{path.name} {sha256_of(path)[:12]}",
        "runtime": f"{' and '.join(found) or runtime} on {device or 'its default device'}",
        # Which exports a checkpoint for ONNX Runtime.
        **({} if exported or runtime == "torch" else {"torch": _version("torch") or "none"}),
    }


def _version(library: str) -> str | None:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(library)
    except PackageNotFoundError:
        return None


def can_be_tiled(model: str, backend: str | None = None) -> bool:
    """Whether a network can be run in tiles: ONNX Runtime runs checkpoints so."""
    return not model.endswith(EXPORTED_SUFFIXES) and backend in (None, "onnxruntime")


def open_model(
    model: str,
    size: FrameSize,
    backend: str | None = None,
    device: str | None = None,
    *,
    io: FrameType = "uint8",
    plan: TilePlan | None = None,
    on_export: Callable[[str], None] = lambda _line: None,
) -> Runner:
    """A runner for LR frames of a size.

    Args:
        io: type of the frames, where a checkpoint is given; an exported file or an engine has its own.
        backend: "onnxruntime" or "torch", for a checkpoint; None for ONNX Runtime.
        device: "cpu" or "cuda"; None for the CPU, or the GPU for an engine.
        plan: the tiles that the frames are run in, where :func:`can_be_tiled` says so; None for whole frames.
        on_export: told that a checkpoint is being exported, which happens once per size.

    Raises:
        KSNetError: the network cannot be loaded or run here.
    """
    from ksnet_deploy.runtime.open import ENGINE_SUFFIX, open_runner

    if model.endswith(ENGINE_SUFFIX):
        if backend is not None or device == "cpu":
            raise ConfigError(
                f"{model} is run by TensorRT on the GPU; leave --backend and --device out, or give a checkpoint"
            )
        return open_runner(Path(model), size)
    device = device or "cpu"
    if model.endswith(".onnx"):
        if backend not in (None, "onnxruntime"):
            raise ConfigError(f"{model} is run by ONNX Runtime; give a checkpoint with --model for --backend {backend}")
        return open_runner(Path(model), size, device=device)
    path = checkpoint_path(model)
    if backend in (None, "onnxruntime"):
        from ksnet_deploy.export.cache import cached_onnx

        exported = plan.tile if plan else size
        path = cached_onnx(
            path, exported, io, on_export=lambda: on_export(f"Exporting {model} for frames of {exported}, once.")
        )
        if plan:
            from ksnet_deploy.runtime.lockstep import LockstepOnnxRunner
            from ksnet_deploy.runtime.tiles import TiledRunner

            return TiledRunner(LockstepOnnxRunner(path, plan.tile, device=device), plan)
    return open_runner(path, size, device=device, io=io)
