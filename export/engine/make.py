"""Making an engine: from a checkpoint or an exported file to a proven one."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ksnet_deploy.base.errors import ArtifactError, BackendError, ConfigError
from ksnet_deploy.base.files import check_place, sha256_of
from ksnet_deploy.base.frames import FrameType
from ksnet_deploy.base.words import counted
from ksnet_deploy.export.cache import cache_folder, cached_onnx, check_cache_place, made_cache_folder, note, using_cache
from ksnet_deploy.export.engine.compile import EngineKey, OnProgress, build_engine, check_buildable
from ksnet_deploy.export.engine.proof import proof_of_export, proof_on_gpu
from ksnet_deploy.export.proof.half import PSNR_FLOOR_DB
from ksnet_deploy.export.proof.sequence import check_frames
from ksnet_deploy.network.config import Precision
from ksnet_deploy.ops.library import find_plugin_library
from ksnet_deploy.runtime.pair import PAIR, files_of, part_path
from ksnet_deploy.runtime.step_file import (
    exported_lanes,
    exported_metadata,
    exported_size,
    has_custom_operators,
    load_exported,
)
from ksnet_deploy.runtime.tensorrt.sidecar import Sidecar, sidecar_path
from ksnet_deploy.runtime.tensorrt.spec import EngineSpec, PluginIdentity
from ksnet_deploy.runtime.tensorrt.target import Flavour, GpuTarget, SizeRange, choose_flavour

if TYPE_CHECKING:
    from ksnet_deploy.export.proof.outputs import OutputComparison

__all__ = [
    "EngineRequest",
    "MadeEngine",
    "PluginChoice",
    "exported_of",
    "make_engine",
    "plugins_of",
    "target_of",
    "whole_engine",
]

PluginChoice = Literal["auto", "on", "off"]
"""Choice of plugins; ``auto`` takes the native ones where their library is found, and what is taken must load."""


@dataclass(frozen=True)
class EngineRequest:
    """Engine that a user asks for."""

    source: Path
    """Checkpoint, or an ``.onnx`` of the precision."""
    sizes: SizeRange
    precision: Precision = "fp16"
    flavour: Flavour | Literal["auto"] = "auto"
    gpu: str | None = None
    """Name or compute capability; None for the GPU at hand."""
    plugins: PluginChoice = "auto"
    output: Path | None = None
    """File of the engine; None for the cache, where an engine that is there already is taken as it is."""
    verify_frames: int = 30
    """Frames to compare with float32; 0 for none."""
    least_psnr_db: float = PSNR_FLOOR_DB
    """PSNR required of every frame in half precision. An engine below it gets its name all the same, and its sidecar
    says so, for TensorRT may choose faster sums than the exported network asks for; an export below it is refused."""
    model: str | None = None
    """Name that the user calls the source by, for the sidecar; its path unless given."""
    effort: int | None = None
    """Builder optimization level of full TensorRT, 0 to 5; None for its own."""
    compare: bool = False
    """Whether to compare each output over recorded states too."""
    io: FrameType = "uint8"
    """Type of a checkpoint's frames."""
    batch: int = 1
    """Frames that a step takes at once, of as many scenes."""


@dataclass(frozen=True)
class MadeEngine:
    """An engine, or one for each step of a network, with sidecars; whether it was there; its outputs compared."""

    path: Path
    """The engine, or the name of the two of a bidirectional network."""
    sidecars: tuple[Sidecar, ...]
    reused: bool
    outputs: OutputComparison | None = None

    @property
    def sidecar(self) -> Sidecar:
        """Sidecar of the last engine, with the verdict on all."""
        return self.sidecars[-1]


def make_engine(
    request: EngineRequest,
    *,
    say: Callable[[str], None] = note,
    on_verify: Callable[[int], None] = lambda _frames: None,
    on_frame: Callable[[], None] = lambda: None,
    on_build: Callable[[str], None] | None = None,
    on_progress: OnProgress = lambda _phase, _done, _total: None,
) -> MadeEngine:
    """Export if need be, compare with float32, build, and compare again where the GPU is at hand.

    Without that GPU the exported file stands for the engine: ONNX Runtime runs it with its half results rounded.

    Args:
        say: told what is done, and what in the cache is damaged and made anew.
        on_verify: told the number of frames before each comparison; then ``on_frame`` after each frame.
        on_build: told what is built, where there was no such engine (default: ``say``).
        on_progress: told the progress of the build.

    Raises:
        KSNetError: with the reason. Nothing is left under the engine's name that was not there before; of two engines
            the first may be, which is refused without the other.
    """
    if request.verify_frames:
        check_frames(request.verify_frames)
    if not (math.isfinite(request.least_psnr_db) and request.least_psnr_db >= 0):
        raise ConfigError(
            f"no comparison can be held to {request.least_psnr_db:g} dB; give --min-psnr a number from 0, such as 45"
        )
    if request.output is not None:
        check_place(request.output)
    flavour = choose_flavour(request.flavour)
    if request.effort is not None and flavour == "rtx":
        raise ConfigError(
            "TensorRT-RTX has no builder optimization levels, since it chooses its kernels where the engine runs; "
            "leave --effort out, or build with --runtime tensorrt"
        )
    target, at_hand = target_of(request.gpu, flavour)
    library = plugins_of(request)
    plugins = PluginIdentity.of(library) if library else None
    spec = EngineSpec(flavour, target, request.precision, request.sizes, plugins, request.effort, request.batch)
    check_buildable(spec, library)
    frames = request.verify_frames
    onnx = exported_of(request, say)
    parts = files_of(onnx)
    if request.compare and (len(parts) > 1 or request.batch > 1):
        raise ConfigError(
            f"--compare is for networks with one step, of one frame; {request.source.name} has {len(parts)}, of "
            f"{request.batch}; leave it out"
        )

    def made(sidecars: Sequence[Sidecar], *, reused: bool) -> MadeEngine:
        if not request.compare:
            return MadeEngine(path, tuple(sidecars), reused)
        from ksnet_deploy.export.engine.compare import compare_made

        compared = compare_made(request.source, onnx, path if at_hand else None, request.sizes.best, say)
        return MadeEngine(path, tuple(sidecars), reused, compared)

    keys = [EngineKey.of(spec, part) for part in parts]
    path = request.output or cache_folder() / keys[0].file_name(request.source.stem)
    engines = [part_path(path, step) for step in PAIR] if len(parts) > 1 else [path]
    known = None
    if request.output is None:
        check_cache_place(*engines, *map(sidecar_path, engines))
        known = _whole_engines(engines, keys, say)
    if known and ((request.source == onnx and not at_hand) or _is_compared(known[-1], request)):
        return made(known, reused=True)
    if request.output is None:
        made_cache_folder()
    if frames and request.source == onnx and not at_hand:
        say(
            f"--verify-frames has no effect: an engine of {onnx.name}, which is no checkpoint, is compared with that "
            "file, and only where its GPU is at hand."
        )
    proof = None if at_hand or request.source == onnx else _proof(request, say, on_verify, on_frame)

    def prove(engine: Path) -> dict[str, Any] | None:
        """The proof of the last engine, with those that were built before it."""
        if not (at_hand and frames):
            return proof
        on_verify(frames)
        best, least = request.sizes.best, request.least_psnr_db
        return proof_on_gpu(request.source, onnx, [*engines[:-1], engine], best, frames, on_frame, least)

    (on_build or say)(f"Building for {spec}, by TensorRT {keys[0].version}.")
    sidecars = [
        build_engine(
            part,
            engine,
            spec,
            library=library,
            model=request.model or str(request.source),
            prove=prove if engine == engines[-1] else lambda _engine: None,
            on_progress=on_progress,
            on_note=say,
        )
        for part, engine in zip(parts, engines, strict=True)
    ]
    if len(engines) > 1:  # until then they name no other, and are refused
        others = [sidecar.engine_sha256 for sidecar in reversed(sidecars)]
        for index, (engine, other) in enumerate(zip(engines, others, strict=True)):
            changes = {"other_engine_sha256": other, "verified": sidecars[-1].verified}
            sidecars[index] = replace(sidecars[index], **changes)  # type: ignore[arg-type]
            sidecars[index].write(engine)
    return made(sidecars, reused=False)


def _is_compared(sidecar: Sidecar, request: EngineRequest) -> bool:
    """Whether an engine was compared over as many frames, with a verdict that holds for what is asked."""
    verified = sidecar.verified or {}
    enough: bool = verified.get("frames", 0) >= request.verify_frames
    asked = verified.get("required_db", request.least_psnr_db)
    same = asked == request.least_psnr_db or (sidecar.fault is None and asked >= request.least_psnr_db)
    return enough and same


def _whole_engines(
    engines: Sequence[Path], keys: Sequence[EngineKey], say: Callable[[str], None]
) -> list[Sidecar] | None:
    """The sidecars of all engines of a network in the cache; None where one must be built again."""
    found = [whole_engine(engine, key, say) for engine, key in zip(engines, keys, strict=True)]
    sidecars = [sidecar for sidecar in found if sidecar is not None]
    others = [sidecar.engine_sha256 for sidecar in reversed(sidecars)] if len(engines) > 1 else [None]
    whole = len(sidecars) == len(engines) and others == [sidecar.other_engine_sha256 for sidecar in sidecars]
    return sidecars if whole else None


def whole_engine(path: Path, key: EngineKey, say: Callable[[str], None]) -> Sidecar | None:
    """The sidecar of an engine in the cache, None where it is missing or damaged and must be built again."""
    if not path.exists() and not sidecar_path(path).exists():
        return None
    try:
        sidecar = Sidecar.read(path)
        with using_cache():
            fault = None if sha256_of(path) == sidecar.engine_sha256 else "is not the file that its sidecar describes"
        if not key.fits(sidecar):
            fault = "has the sidecar of another engine"
    except ArtifactError as error:
        fault = f"cannot be trusted ({error})"
    if fault is None:
        return sidecar
    say(f"The cached engine {path} {fault}; it is built anew.")
    return None


def target_of(gpu: str | None, flavour: Flavour) -> tuple[GpuTarget, bool]:
    """The GPU to build for, and whether it is the one at hand."""
    from ksnet_deploy.runtime.tensorrt.cuda import compute_capability

    device: GpuTarget | None = None
    try:
        device = compute_capability()
    except BackendError as error:
        if gpu is None:
            raise ConfigError(f"{error}; or say which GPU to build for, for example --gpu rtx3080") from error
    wanted = GpuTarget.parse(gpu) if gpu else device
    assert wanted is not None
    if flavour == "tensorrt" and wanted != device:
        raise BackendError(
            f"TensorRT builds only for the GPU at hand ({device or 'there is none'}), not for {wanted}; build on that "
            "machine, or with --runtime rtx, which needs the extra 'rtx'"
        )
    return wanted, wanted == device


def plugins_of(request: EngineRequest) -> Path | None:
    """The library of native plugins that an engine is built with, if any."""
    if request.plugins == "off":
        return None
    if request.source.suffix == ".onnx" and not has_custom_operators(load_exported(files_of(request.source)[0])):
        if request.plugins == "on":
            raise ArtifactError(
                f"{request.source} was exported with --inline, which leaves no operator for the native plugins; export "
                "it again without, or use --plugins off"
            )
        return None
    library = find_plugin_library()
    if request.plugins == "on" and library is None:
        raise BackendError(
            "the native plugin library is not found; build it with 'ksnet-deploy build-plugins', or use --plugins off"
        )
    return library


def exported_of(request: EngineRequest, say: Callable[[str], None]) -> Path:
    """The ONNX file to build from, of the precision and for the sizes."""
    if request.source.suffix != ".onnx":
        size = request.sizes.best if request.sizes.is_fixed else None
        return cached_onnx(
            request.source,
            size,
            request.io,
            request.precision,
            batch=request.batch,
            on_export=lambda: say(f"Exporting {request.source.name} in {request.precision}, once."),
            on_note=say,
        )
    model = load_exported(files_of(request.source)[0])
    precision = exported_metadata(model).get("ksnet.precision", "unknown")
    if precision != request.precision:
        if precision.startswith("int8"):
            raise ArtifactError(
                f"{request.source} is {precision}, which is for CPUs; give the checkpoint it was made of"
            )
        remedy = "leave --fp16 out" if precision == "fp32" else "pass --fp16"
        raise ArtifactError(
            f"{request.source} is {precision}, and an engine in {request.precision} was asked for; export it again "
            f"with 'ksnet-deploy export --precision {request.precision}', or {remedy}"
        )
    if (batch := exported_lanes(model)) != request.batch:
        raise ArtifactError(
            f"{request.source} takes {counted(batch, 'frame')} at once, and an engine for {request.batch} was asked "
            f"for; give --batch {batch}, or export it again"
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
    say: Callable[[str], None],
    on_verify: Callable[[int], None],
    on_frame: Callable[[], None],
) -> dict[str, Any] | None:
    """The comparison of a checkpoint's export with float32; None where no frames are to be compared."""
    asked = request.source, request.sizes.best, request.precision, request.batch
    frames, least_psnr_db = request.verify_frames, request.least_psnr_db
    return proof_of_export(*asked, frames, say, on_verify, on_frame, least_psnr_db) if frames else None
