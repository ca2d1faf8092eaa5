"""Building an engine: the child process, its progress, the sidecar, and nothing left behind when it fails."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import IO, Any

from ksnet_deploy.base import errors
from ksnet_deploy.base.errors import BackendError
from ksnet_deploy.base.files import check_place, sha256_of, writing
from ksnet_deploy.base.leftovers import remove_leftover_folders
from ksnet_deploy.export.cache import (
    UNFINISHED_PREFIX,
    check_cache_place,
    code_sha256,
    fault_of,
    hash_path,
    made_cache_folder,
    name_in_cache,
    note,
    using_cache,
)
from ksnet_deploy.export.engine.request import BuildRequest
from ksnet_deploy.export.polygraphy import check_polygraphy, environment_of
from ksnet_deploy.runtime.step_file import exported_metadata, load_exported
from ksnet_deploy.runtime.tensorrt.sidecar import EngineTensor, Sidecar, sidecar_path
from ksnet_deploy.runtime.tensorrt.spec import EngineSpec
from ksnet_deploy.runtime.tensorrt.target import FLAVOURS, Flavour

__all__ = ["EngineKey", "build_engine", "check_buildable", "installed_version"]

OnProgress = Callable[[str, int, int], None]
"""Function that is told the phase, the steps done in it and their number."""


@dataclass(frozen=True)
class EngineKey:
    """Identity of an engine: everything that changes its bytes."""

    spec: EngineSpec
    onnx_sha256: str
    version: str
    """Version of TensorRT."""
    code_sha256: str
    """SHA-256 of this package, which prepares the network and chooses the builder's settings."""

    @classmethod
    def of(cls, spec: EngineSpec, onnx: Path) -> EngineKey:
        """The key of an engine that would be built here now."""
        return cls(spec, sha256_of(onnx), installed_version(spec.flavour), code_sha256())

    def file_name(self, stem: str) -> str:
        """Name in the cache."""
        digest = hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()[:16]
        return f"{name_in_cache(stem)}-{self.spec.precision}-{self.spec.flavour}-{self.spec.target}-{digest}.engine"

    def fits(self, sidecar: Sidecar) -> bool:
        """Whether a sidecar says that its engine is this one."""
        return (sidecar.spec, sidecar.onnx_sha256, sidecar.version) == (self.spec, self.onnx_sha256, self.version)


def installed_version(flavour: Flavour) -> str:
    """Version of TensorRT by its distribution, without importing it."""
    names = {"rtx": ("tensorrt-rtx-cu13", "tensorrt-rtx"), "tensorrt": ("tensorrt", "tensorrt-cu13", "tensorrt-cu12")}
    for name in names[flavour]:
        try:
            return version(name)
        except ModuleNotFoundError:
            continue
    raise BackendError(f"{FLAVOURS[flavour]} is not installed here; install ksnet-deploy with the extra '{flavour}'")


def build_engine(
    onnx: Path,
    engine: Path,
    spec: EngineSpec,
    *,
    library: Path | None,
    model: str,
    metadata: dict[str, str] | None = None,
    prove: Callable[[Path], dict[str, Any] | None] = lambda _engine: None,
    on_progress: OnProgress = lambda _phase, _done, _total: None,
    on_note: Callable[[str], None] = note,
) -> Sidecar:
    """Build an engine from an exported step and write it with its sidecar.

    Both files appear under their names only when the build, the checks of its layers and the proof have passed.

    Args:
        onnx: of the spec's precision; of its size, or dynamic.
        spec: full TensorRT builds only for the GPU at hand.
        library: the native plugins that the spec names; None builds from the function bodies.
        model: what the user calls the network, for the sidecar.
        metadata: of the exported step, where the file is a piece of one (default: the file's own).
        prove: given the unfinished engine, with its sidecar beside it; raises when it is not good enough, else returns
            what the sidecar is to say of it.
        on_note: told what there is to know: TensorRT's measurements of an earlier build are damaged and are made anew;
            the plugin library is of an earlier version.

    Raises:
        ArtifactError: the file cannot be parsed, or what came out is not what was asked for.
        BackendError: TensorRT cannot build it, or its process died.
        OutputError: the engine cannot be written.
    """
    folder = _unfinished_folder(engine)
    try:
        unfinished = folder / "unfinished"
        report = _in_child(
            BuildRequest.of(spec, unfinished, onnx=onnx, plugins=library, timing_cache=_timing_cache(spec, on_note)),
            _environment(spec, library, folder),
            on_progress,
        )
        if report["note"]:
            on_note(report["note"])
        sidecar = Sidecar(
            spec=spec,
            engine_sha256=sha256_of(unfinished),
            onnx_sha256=sha256_of(onnx),
            version=report["version"],
            model=model,
            inputs=tuple(map(EngineTensor.from_json, report["inputs"])),
            outputs=tuple(map(EngineTensor.from_json, report["outputs"])),
            layers=report["layers"],
            metadata=exported_metadata(load_exported(onnx)) if metadata is None else metadata,
            build_s=report["build_s"],
        )
        sidecar.write(unfinished)
        sidecar = replace(sidecar, verified=prove(unfinished))
        sidecar.write(unfinished)
        # Between the two lines a new engine has an old sidecar, and is refused.
        os.replace(unfinished, engine)
        os.replace(sidecar_path(unfinished), sidecar_path(engine))
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return sidecar


def check_buildable(spec: EngineSpec, library: Path | None) -> None:
    """Find out in a second what would else come out after the export: whether Polygraphy is there, and TensorRT loads,
    knows the GPU and takes the plugins. Raises BackendError."""
    check_polygraphy()
    with tempfile.TemporaryDirectory(prefix="ksnet-") as folder:
        request = BuildRequest.of(spec, Path(folder) / "none", onnx=None, plugins=library, timing_cache=None)
        _in_child(request, _environment(spec, library, Path(folder)), lambda _phase, _done, _total: None)


def _unfinished_folder(engine: Path) -> Path:
    """Hidden folder beside the engine, so that renaming moves nothing between file systems; those of builds that were
    killed go."""
    check_place(engine)
    remove_leftover_folders(engine.parent, UNFINISHED_PREFIX)
    with writing(engine, "give a path in a writable folder with room"):
        return Path(tempfile.mkdtemp(prefix=f"{UNFINISHED_PREFIX}{os.getpid()}-", dir=engine.parent))


def _environment(spec: EngineSpec, library: Path | None, folder: Path) -> dict[str, str]:
    """Environment of the child process."""
    environment = dict(os.environ) | environment_of(spec.flavour)
    if library is None or spec.flavour != "rtx":
        return environment
    from ksnet_deploy.ops.library import rtx_preflight_environment

    return environment | rtx_preflight_environment(folder)


def _in_child(request: BuildRequest, environment: dict[str, str], on_progress: OnProgress) -> dict[str, Any]:
    with tempfile.TemporaryFile("w+", errors="replace") as stderr:
        process = subprocess.Popen(
            [sys.executable, "-m", "ksnet_deploy.export.engine.compiler"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
            env=environment,
            start_new_session=True,  # Ctrl-C is ours to handle
        )
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            process.stdin.write(request.to_json() + "\n")
            process.stdin.flush()
            for line in process.stdout:
                if not line.startswith("{"):  # something that a library prints
                    continue
                answer = json.loads(line)
                if "phase" in answer:
                    on_progress(answer["phase"], answer["done"], answer["total"])
                elif "error" in answer:
                    raise getattr(errors, answer["kind"])(answer["error"] + _words_of_plugins(stderr))
                else:
                    report: dict[str, Any] = answer["report"]
                    return report
        finally:
            process.kill()
            process.wait()
            process.stdout.close()
            with contextlib.suppress(BrokenPipeError):
                process.stdin.close()
        stderr.seek(0)
        last = " ".join(stderr.read().split()[-40:])
    how = f"signal {signal.Signals(-process.returncode).name}" if process.returncode < 0 else "no answer"
    raise BackendError(
        f"the process that builds the engine ended with {how} ({last or 'and said nothing'}); free some memory, or try "
        "--plugins off"
    )


def _words_of_plugins(stderr: IO[str]) -> str:
    """Words of the native plugins, which say more than TensorRT's own."""
    stderr.seek(0)
    lines = [line.strip() for line in stderr if line.startswith("[ksnet]")]
    return f" ({'; '.join(lines)})" if lines else ""


def _timing_cache(spec: EngineSpec, on_note: Callable[[str], None]) -> Path | None:
    """TensorRT's measurements of its kernels, of one version and one GPU; None where it makes none."""
    if spec.flavour != "tensorrt":
        return None
    path = made_cache_folder() / f"timing-{installed_version('tensorrt')}-{spec.target}.cache"
    check_cache_place(path, hash_path(path))
    with using_cache():
        if path.is_file() and (fault := fault_of(path)) is not None:
            on_note(f"the cached file {path} {fault}; TensorRT measures its kernels anew")
            path.unlink()
    return path
