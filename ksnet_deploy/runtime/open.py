"""Runtimes behind one interface: :func:`open_runner` gives a :class:`Runner` for any artifact.

``torch`` runs checkpoints and is the reference; ``onnxruntime`` and ``openvino`` run exported files; ``rtx`` and
``tensorrt`` run engines.
"""

from __future__ import annotations

from pathlib import Path

from ksnet_deploy.base.errors import ArtifactError, BackendError
from ksnet_deploy.base.frames import FrameSize, FrameType
from ksnet_deploy.base.words import counted
from ksnet_deploy.network.bundled import CHECKPOINT_SUFFIXES, is_checkpoint
from ksnet_deploy.runtime.base import Runner
from ksnet_deploy.runtime.exported import metadata_of
from ksnet_deploy.runtime.pair import check_pair, files_of, is_pair, pair_name
from ksnet_deploy.runtime.windows import WindowRunner

__all__ = ["ENGINE_SUFFIX", "check_runtime", "open_runner"]
ENGINE_SUFFIX = ".engine"


def open_runner(
    artifact: Path,
    size: FrameSize,
    *,
    device: str = "cpu",
    io: FrameType = "uint8",
    backend: str | None = None,
    lanes: int = 1,
) -> Runner:
    """Open the runtime that the artifact is made for.

    Args:
        artifact: a checkpoint (PyTorch runs it), an ``.onnx`` (ONNX Runtime runs it, or OpenVINO) or an ``.engine``
            (the TensorRT it was built by runs it); or the name of two of these (:mod:`ksnet_deploy.runtime.pair`),
            which a :class:`~ksnet_deploy.runtime.windows.WindowRunner` runs.
        size: of the LR frames.
        device: ``cpu`` or ``cuda``; engines always run on the GPU.
        io: type of the frames for a checkpoint; the others have their own.
        backend: ``onnxruntime`` or ``openvino`` for an ``.onnx`` (default: onnxruntime).
        lanes: scenes that go side by side (:mod:`ksnet_deploy.runtime.lanes`); an exported file was made for so many.

    Raises:
        KSNetError: the artifact cannot be used, or its runtime is missing on this machine.
    """
    if artifact.suffix.lower() == ENGINE_SUFFIX and not is_pair(artifact):
        from ksnet_deploy.runtime.tensorrt.sidecar import Sidecar

        _check_lanes(artifact, Sidecar.read(artifact).spec.batch, lanes)  # before a GPU is asked for
    runner = _opened(artifact, size, device, io, backend, lanes)
    try:
        _check_lanes(artifact, runner.lanes, lanes)
    except ArtifactError:
        runner.close()
        raise
    return runner


def _check_lanes(artifact: Path, found: int, wanted: int) -> None:
    if found != wanted:
        was = "was" if wanted == 1 else "were"
        remedy = "" if found == 1 else f"; or give a film that has cuts --scenes-in-flight {found}"
        raise ArtifactError(
            f"{artifact} takes {counted(found, 'frame')} at once, of as many scenes, and {wanted} {was} asked for; "
            f"make it again with --batch {wanted}{remedy}"
        )


def _opened(artifact: Path, size: FrameSize, device: str, io: FrameType, backend: str | None, lanes: int) -> Runner:
    if is_pair(artifact):
        check_pair(artifact, *map(metadata_of, files_of(artifact)))
        first, second = (open_runner(part, size, device=device, backend=backend) for part in files_of(artifact))
        return WindowRunner(first, second)
    suffix = artifact.suffix.lower()
    # Imported here, so that running an ONNX file does not load PyTorch's network and the reverse.
    if suffix == ".onnx" and backend == "openvino":
        from ksnet_deploy.runtime.openvino import OpenVINORunner, check_openvino

        check_openvino(device)
        return OpenVINORunner(artifact, size)
    if suffix == ".onnx":
        try:
            from ksnet_deploy.runtime.onnx import SHARED, OnnxRunner, share_memory
        except ImportError as error:
            raise BackendError(
                f"ONNX Runtime is not installed ({error}); install ksnet-deploy with the 'cpu' or the 'gpu' extra"
            ) from error

        if pair_name(artifact) != artifact and device == "cpu":  # its two steps run by turns
            share_memory()
            return OnnxRunner(artifact, size, device=device, options=SHARED)
        return OnnxRunner(artifact, size, device=device)
    if is_checkpoint(artifact):
        from ksnet_deploy.network.checkpoints import load_checkpoint
        from ksnet_deploy.runtime.torch import TorchRunner

        model = load_checkpoint(artifact).model
        steps = [TorchRunner(model, size, device=device, io=io, step=step, lanes=lanes) for step in model.config.steps]
        return WindowRunner(*steps) if len(steps) > 1 else steps[0]
    if suffix == ENGINE_SUFFIX:
        from ksnet_deploy.runtime.tensorrt.runner import TensorRTRunner

        return TensorRTRunner(artifact, size)
    raise ArtifactError(
        f"{artifact} is neither a checkpoint ({', '.join(CHECKPOINT_SUFFIXES)}) nor an .onnx or {ENGINE_SUFFIX} file; "
        "make one with 'ksnet-deploy export' or 'ksnet-deploy build-engine'"
    )


def check_runtime(backend: str, device: str) -> None:
    """Raise BackendError where ONNX Runtime or OpenVINO is missing, or does not have the device."""
    if backend == "openvino":
        from ksnet_deploy.runtime.openvino import check_openvino

        check_openvino(device)
        return
    try:
        from ksnet_deploy.runtime.onnx import check_device
    except ImportError as error:
        raise BackendError(
            f"ONNX Runtime is not installed ({error}); install ksnet-deploy with the 'cpu' or the 'gpu' extra"
        ) from error
    check_device(device)
