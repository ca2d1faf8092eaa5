"""The ways that this machine has to run a network: runtime, device, precision."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from ksnet_deploy.base.errors import BackendError, ConfigError, KSNetError
from ksnet_deploy.base.frames import FrameSize
from ksnet_deploy.base.machine import has_bfloat16
from ksnet_deploy.base.version import package_version
from ksnet_deploy.network.config import Precision
from ksnet_deploy.runtime.base import Runner
from ksnet_deploy.runtime.open import check_runtime, open_runner
from ksnet_deploy.runtime.windows import WindowRunner
from ksnet_deploy.upscale.networks import NetworkFile, NetworkKind
from ksnet_deploy.upscale.precision import exported_precision

__all__ = ["KINDS", "Way", "all_ways", "artifact_of", "int8_ways", "open_way", "way_name", "ways_here", "ways_of_file"]


KINDS: dict[Precision, str] = {"fp32": "float32", "fp16": "half", "int8": "int8", "int8-fp16": "int8 and half"}
"""Precisions of files in words."""


@dataclass(frozen=True)
class Way:
    """One way to run a network."""

    name: str
    """Key by which two reports are compared."""
    label: str
    backend: str
    device: Literal["cpu", "cuda"]
    takes: NetworkKind
    export: Precision = "fp32"
    """Precision of what is exported for it."""
    recorded: bool = True
    """Whether, with PyTorch on a GPU, a step is one launch of a CUDA graph."""

    @property
    def is_reference(self) -> bool:
        return self.name == "torch-cpu"


def _openvino() -> Way:
    precision = exported_precision("openvino")
    kind = "bfloat16" if precision == "fp16" else "float32"
    return Way(f"openvino-cpu-{kind}", f"OpenVINO, CPU, {kind}", "openvino", "cpu", "onnx", precision)


def int8_ways() -> tuple[Way, ...]:
    """Ways with convolutions in 8 bits."""
    return tuple(
        Way(f"{backend}-cpu-int8", f"{title}, CPU, int8", backend, "cpu", "onnx", exported_precision(backend, "int8"))
        for backend, title in (("onnxruntime", "ONNX Runtime"), ("openvino", "OpenVINO"))
    )


def all_ways() -> tuple[Way, ...]:
    """Every way there is, on whatever machine."""
    return (
        Way("torch-cpu", "PyTorch eager, CPU, float32", "torch", "cpu", "checkpoint"),
        Way("onnxruntime-cpu", "ONNX Runtime, CPU, float32", "onnxruntime", "cpu", "onnx"),
        _openvino(),
        Way("torch-cuda-eager", "PyTorch eager, GPU, half", "torch", "cuda", "checkpoint", recorded=False),
        Way("torch-cuda", "PyTorch recorded, GPU, half", "torch", "cuda", "checkpoint"),
        Way("onnxruntime-cuda", "ONNX Runtime, GPU, half", "onnxruntime", "cuda", "onnx", "fp16"),
        Way("tensorrt", "TensorRT, half", "tensorrt", "cuda", "engine", "fp16"),
        Way("rtx", "TensorRT-RTX, half", "rtx", "cuda", "engine", "fp16"),
    )


def ways_of_file(kind: NetworkKind, precision: Precision) -> tuple[Way, ...]:
    """Ways to run a given ``.onnx`` or engine, in the precision that it has."""
    ways = [way for way in all_ways() if way.takes == kind]
    if precision.startswith("int8"):
        ways = [way for way in ways if way.device == "cpu"]
    return tuple(_in_precision(way, precision) for way in ways)


def way_name(network: NetworkFile) -> str:
    """Name of the way in which ``upscale`` runs a network."""
    if network.device == "cpu" and network.wanted == "int8":
        return f"{network.backend}-cpu-int8"
    precision = exported_precision(network.backend, network.wanted)
    ways = ways_of_file("onnx", precision) if network.backend == "openvino" else all_ways()
    found = (
        way.name for way in ways if way.recorded and (way.backend, way.device) == (network.backend, network.device)
    )
    return next(found, f"{network.backend}-{network.device}")


def _in_precision(way: Way, precision: Precision) -> Way:
    kind, name = KINDS[precision], way.name
    if way.backend == "openvino":
        name = "openvino-cpu"
        kind = kind.replace("half", "bfloat16") if has_bfloat16() else kind
    label = f"{way.label.rpartition(', ')[0]}, {kind}"
    if label == way.label:
        return way
    return replace(way, name=f"{name}-{kind.replace(' and ', '-')}", label=label, export=precision)


def ways_here(
    kind: NetworkKind, flavour: str | None = None, *, ways: tuple[Way, ...] | None = None
) -> tuple[list[Way], dict[str, str]]:
    """Ways of this machine for a network of a kind; and why it has not the others.

    Args:
        flavour: of an engine, ``tensorrt`` or ``rtx``.
        ways: those to look at (default: :func:`all_ways`).
    """
    found, missing = [], {}
    for way in ways or all_ways():
        suits = kind == "checkpoint" or (way.takes == kind and flavour in (None, way.backend))
        if not suits:
            continue
        try:
            check_way(way)
        except KSNetError as error:
            missing[way.label] = str(error)
        else:
            found.append(way)
    if not found:
        raise BackendError("nothing here runs this network: " + "; ".join(f"{k}: {v}" for k, v in missing.items()))
    return found, missing


def check_way(way: Way) -> None:
    """Raise BackendError, with the reason, where this machine does not have it."""
    if way.backend in ("onnxruntime", "openvino"):
        check_runtime(way.backend, way.device)
    if way.export.startswith("int8"):
        from ksnet_deploy.runtime.int8 import check_int8

        check_int8()
    if way.backend in ("tensorrt", "rtx"):
        from ksnet_deploy.runtime.tensorrt.target import FLAVOURS

        if importlib.util.find_spec(FLAVOURS[way.backend]) is None:  # type: ignore[index]
            raise BackendError(f"not installed; install ksnet-deploy with the '{way.backend}' extra")
    if way.device == "cuda":
        check_cuda(way.backend)


def check_cuda(backend: str) -> None:
    """Raise BackendError where no CUDA device is found."""
    if backend == "torch":
        if (package_version("torch") or "").endswith("+cpu"):  # known without loading it
            raise BackendError("PyTorch is built without CUDA")
        import torch

        if not torch.cuda.is_available():
            raise BackendError("PyTorch finds no CUDA device")
        return
    from ksnet_deploy.runtime.tensorrt.cuda import compute_capability

    compute_capability()


def artifact_of(
    way: Way, network: Path, kind: NetworkKind, size: FrameSize, say: Callable[[str], None] = lambda _line: None
) -> Path:
    """The file that a way runs: the network itself, or what is exported or built of it now, or was before."""
    if way.takes == "checkpoint" or kind != "checkpoint":
        return network
    if way.takes == "onnx":
        from ksnet_deploy.export.cache import cached_onnx

        what = f"exporting {network.stem} at {size}, {KINDS[way.export]}"
        return cached_onnx(network, size, "uint8", way.export, on_export=lambda: say(what))
    from ksnet_deploy.export.engine.make import EngineRequest, make_engine
    from ksnet_deploy.runtime.tensorrt.target import SizeRange

    if way.backend not in ("tensorrt", "rtx"):
        raise ConfigError(f"{way.label} takes no engine")
    say(f"building an engine of {network.stem} at {size}")
    # PSNR is measured beside the speed, so the comparison of the build is left out.
    request = EngineRequest(network, SizeRange.fixed(size), flavour=way.backend, verify_frames=0, model=network.stem)  # type: ignore[arg-type]
    return make_engine(request).path


def open_way(way: Way, artifact: Path, size: FrameSize) -> Runner:
    """A runner for 8-bit frames of a size."""
    if way.backend == "torch" and not way.recorded:
        from ksnet_deploy.network.checkpoints import load_checkpoint
        from ksnet_deploy.runtime.torch import TorchRunner

        model = load_checkpoint(artifact).model
        steps = [TorchRunner(model, size, device=way.device, recorded=False, step=s) for s in model.config.steps]
        return WindowRunner(*steps) if len(steps) > 1 else steps[0]
    return open_runner(artifact, size, device=way.device, backend=way.backend)
