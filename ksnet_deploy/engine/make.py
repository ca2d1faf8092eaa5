"""From a checkpoint or an exported file to a proven engine."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ksnet_deploy.cache import cached_onnx, made_cache_folder
from ksnet_deploy.config import FrameSize, Precision
from ksnet_deploy.engine.build import EngineKey, Progress, build_engine
from ksnet_deploy.engine.sidecar import Sidecar, sidecar_path
from ksnet_deploy.engine.target import Flavour, GpuTarget, SizeRange, choose_flavour
from ksnet_deploy.errors import ArtifactError, BackendError, ConfigError, OutputError
from ksnet_deploy.exported import exported_metadata, exported_size, load_exported
from ksnet_deploy.files import replacing
from ksnet_deploy.plugins import find_plugin_library

__all__ = ["EngineRequest", "MadeEngine", "PluginChoice", "make_engine"]

PluginChoice = Literal["auto", "on", "off"]
"""``auto`` takes the native plugins where their library is found; what is taken must load, or the build fails."""


@dataclass(frozen=True)
class EngineRequest:
    """What a user asks for."""

    source: Path
    """A checkpoint, or an ``.onnx`` of the precision."""
    sizes: SizeRange
    precision: Precision = "fp16"
    flavour: Flavour | Literal["auto"] = "auto"
    gpu: str | None = None
    """Name or compute capability; None for the GPU at hand."""
    plugins: PluginChoice = "auto"
    output: Path | None = None
    """None for the cache, where an engine that is there already is taken as it is."""
    verify_frames: int = 8
    """To compare with float32; 0 for none."""


@dataclass(frozen=True)
class MadeEngine:
    """An engine, its sidecar, and whether it was there already."""

    path: Path
    sidecar: Sidecar
    reused: bool


def make_engine(
    request: EngineRequest,
    *,
    say: Callable[[str], None] = lambda _line: None,
    on_verify: Callable[[int], None] = lambda _frames: None,
    on_frame: Callable[[], None] = lambda: None,
    on_progress: Progress = lambda _phase, _done, _total: None,
) -> MadeEngine:
    """Export if need be, compare with float32, build, and compare again where the GPU is at hand.

    Without that GPU the exported file stands for the engine: ONNX Runtime runs it with its half results rounded.

    Args:
        say: told what is done.
        on_verify: told the number of frames before each comparison; then ``on_frame`` after each frame.
        on_progress: told the progress of the build.

    Raises:
        KSNetError: with the reason. Nothing is left under the engine's name that was not there before.
    """
    flavour = choose_flavour(request.flavour)
    target, at_hand = _target(request.gpu, flavour)
    plugins = _plugins(request.plugins)
    onnx = _exported(request, say)
    proof = _proof(request, onnx, say, on_verify, on_frame)
    key = EngineKey.of(onnx, flavour, target, request.precision, request.sizes, plugins)
    path = request.output or made_cache_folder() / key.file_name(request.source.stem)
    if request.output is None and path.is_file() and sidecar_path(path).is_file():
        return MadeEngine(path, Sidecar.read(path), reused=True)

    def prove(engine: Path) -> dict[str, Any] | None:
        if not (at_hand and request.verify_frames):
            return proof
        on_verify(request.verify_frames)
        return _proof_on_gpu(onnx, engine, request.sizes.best, request.verify_frames, on_frame)

    say(f"Building for {target} with {flavour} {key.version}, {request.precision}, frames of {request.sizes}.")
    sidecar = build_engine(
        onnx,
        path,
        flavour=flavour,
        target=target,
        precision=request.precision,
        sizes=request.sizes,
        plugins=plugins,
        prove=prove,
        on_progress=on_progress,
    )
    return MadeEngine(path, sidecar, reused=False)


def _target(gpu: str | None, flavour: Flavour) -> tuple[GpuTarget, bool]:
    """The GPU to build for, and whether it is the one at hand."""
    from ksnet_deploy.runtime.cuda import compute_capability

    device = compute_capability()
    wanted = GpuTarget.parse(gpu) if gpu else device
    if wanted is None:
        raise ConfigError("no GPU is found here; say which one to build for, for example --gpu rtx3080")
    if flavour == "tensorrt" and wanted != device:
        raise BackendError(
            f"TensorRT builds only for the GPU at hand ({device or 'there is none'}), not for {wanted}; build on that "
            "machine, or with --runtime rtx, which needs the extra 'rtx'"
        )
    return wanted, wanted == device


def _plugins(choice: PluginChoice) -> Path | None:
    library = None if choice == "off" else find_plugin_library()
    if choice == "on" and library is None:
        raise BackendError(
            "the native plugin library is not found; build it with 'ksnet-deploy build-plugins', or use --plugins off"
        )
    return library


def _exported(request: EngineRequest, say: Callable[[str], None]) -> Path:
    """The ONNX file to build from, of the precision and for the sizes."""
    if request.output is not None and request.output.is_dir():
        raise OutputError(f"{request.output} is a folder; give the name of a file in it")
    if request.source.suffix != ".onnx":
        size = request.sizes.best if request.sizes.is_fixed else None
        return cached_onnx(
            request.source,
            size,
            precision=request.precision,
            on_export=lambda: say(f"Exporting {request.source.name} in {request.precision}, once."),
        )
    model = load_exported(request.source)
    precision = exported_metadata(model).get("ksnet.precision", "unknown")
    if precision != request.precision:
        remedy = "leave --fp16 out" if precision == "fp32" else "pass --fp16"
        raise ArtifactError(
            f"{request.source} is {precision}, and an engine in {request.precision} was asked for; export it again "
            f"with 'ksnet-deploy export --precision {request.precision}', or {remedy}"
        )
    size = exported_size(model)
    if size is not None and SizeRange.fixed(size) != request.sizes:
        raise ArtifactError(
            f"{request.source} takes frames of {size} only, and an engine for {request.sizes} was asked for; give "
            f"--size {size}, or export it again with --dynamic"
        )
    return request.source


def _proof(
    request: EngineRequest,
    onnx: Path,
    say: Callable[[str], None],
    on_verify: Callable[[int], None],
    on_frame: Callable[[], None],
) -> dict[str, Any] | None:
    """The comparison of a checkpoint's export with float32, made once per file and length, kept beside it."""
    if not request.verify_frames or request.source == onnx:
        return None
    path = onnx.with_suffix(".proof.json")
    if path.is_file():
        known: dict[str, Any] = json.loads(path.read_text())
        if known["frames"] >= request.verify_frames:
            return known
    from ksnet_deploy.export.verified import verify
    from ksnet_deploy.weights import load_checkpoint

    size = _verification_size(request.sizes)
    say(f"Comparing the exported network with float32 over {request.verify_frames} frames of {size}, once.")
    on_verify(request.verify_frames)
    model = load_checkpoint(request.source).model
    report = verify(model, onnx, size, precision=request.precision, frames=request.verify_frames, on_frame=on_frame)
    proof = {"what": "the exported network in ONNX Runtime", "frames": request.verify_frames, **report.as_dict()}
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(proof))
    return proof


def _verification_size(sizes: SizeRange) -> FrameSize:
    """The smallest that the engine takes: what is verified does not depend on the size, how long it takes does."""
    return sizes.least


def _proof_on_gpu(
    onnx: Path, engine: Path, size: FrameSize, frames: int, on_frame: Callable[[], None]
) -> dict[str, Any]:
    """The engine itself against the exported file, which ONNX Runtime computes in float32 on the CPU."""
    from ksnet_deploy.export.half import compare_runners
    from ksnet_deploy.runtime.onnx import OnnxRunner
    from ksnet_deploy.runtime.tensorrt import TensorRTRunner

    with OnnxRunner(onnx, size) as reference, TensorRTRunner(engine, size) as candidate:
        report = compare_runners(reference, candidate, frames=frames, on_frame=on_frame)
    return {"what": "the engine on the GPU", **report.as_dict()}
