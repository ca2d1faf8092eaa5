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
from ksnet_deploy.base.errors import BackendError, OutputError
from ksnet_deploy.base.files import check_place, sha256_of
from ksnet_deploy.base.frames import FrameSize
from ksnet_deploy.export.cache import UNFINISHED_PREFIX, code_sha256, made_cache_folder
from ksnet_deploy.export.engine.compiler import BuildRequest
from ksnet_deploy.network.config import Precision
from ksnet_deploy.runtime.step_file import exported_metadata, load_exported
from ksnet_deploy.runtime.tensorrt.sidecar import PluginIdentity, Sidecar, Tensor, sidecar_path
from ksnet_deploy.runtime.tensorrt.target import FLAVOURS, Flavour, GpuTarget, SizeRange

__all__ = ["EngineKey", "build_engine", "check_target", "installed_version"]

Progress = Callable[[str, int, int], None]
"""Told the phase, the steps done in it and their number."""


@dataclass(frozen=True)
class EngineKey:
    """Identity of an engine: everything that changes its bytes."""

    onnx_sha256: str
    flavour: Flavour
    version: str
    sm: int
    precision: Precision
    sizes: SizeRange
    plugins_sha256: str | None
    code_sha256: str
    """Of this package, which prepares the network and chooses the builder's settings."""

    def file_name(self, stem: str) -> str:
        """Name in the cache."""
        digest = hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()[:16]
        return f"{stem}-{self.precision}-{self.flavour}-sm{self.sm}-{digest}.engine"

    @classmethod
    def of(
        cls,
        onnx: Path,
        flavour: Flavour,
        target: GpuTarget,
        precision: Precision,
        sizes: SizeRange,
        plugins: Path | None,
    ) -> EngineKey:
        return cls(
            sha256_of(onnx),
            flavour,
            installed_version(flavour),
            target.sm,
            precision,
            sizes,
            sha256_of(plugins) if plugins else None,
            code_sha256(),
        )


def installed_version(flavour: Flavour) -> str:
    """Of TensorRT, as its distribution says, without importing it."""
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
    *,
    flavour: Flavour,
    target: GpuTarget,
    precision: Precision,
    sizes: SizeRange,
    plugins: Path | None,
    model: str,
    prove: Callable[[Path], dict[str, Any] | None] = lambda _engine: None,
    on_progress: Progress = lambda _phase, _done, _total: None,
) -> Sidecar:
    """Build an engine from an exported step and write it with its sidecar.

    Both files appear under their names only when the build, the checks of its layers and the proof have passed.

    Args:
        onnx: of the precision; of the size, or dynamic.
        target: the GPU; full TensorRT builds only for the one at hand.
        plugins: the native plugin library; None builds from the function bodies.
        model: what the user calls the network, for the sidecar.
        prove: given the unfinished engine, with its sidecar beside it; raises when it is not good enough, else returns
            what the sidecar is to say of it.

    Raises:
        ArtifactError: the file cannot be parsed, or what came out is not what was asked for.
        BackendError: TensorRT cannot build it, or its process died.
        OutputError: the engine cannot be written.
    """
    folder = _unfinished_folder(engine)
    try:
        unfinished = folder / "unfinished"
        report = _in_child(
            _request(flavour, target, precision, sizes, plugins, onnx=onnx, engine=unfinished),
            _environment(flavour, plugins, folder),
            on_progress,
        )
        sidecar = Sidecar(
            engine_sha256=sha256_of(unfinished),
            onnx_sha256=sha256_of(onnx),
            flavour=flavour,
            version=report["version"],
            model=model,
            sm=target.sm,
            precision=precision,
            least=str(sizes.least),
            best=str(sizes.best),
            most=str(sizes.most),
            inputs=tuple(map(Tensor.from_json, report["inputs"])),
            outputs=tuple(map(Tensor.from_json, report["outputs"])),
            layers=report["layers"],
            plugins=PluginIdentity(plugins.name, sha256_of(plugins)) if plugins else None,
            metadata=exported_metadata(load_exported(onnx)),
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


def check_target(flavour: Flavour, target: GpuTarget, plugins: Path | None) -> None:
    """Find out in a second what would else come out after the export: whether TensorRT loads, knows the GPU and takes
    the plugins. Raises BackendError."""
    with tempfile.TemporaryDirectory(prefix="ksnet-") as folder:
        nothing = SizeRange.fixed(FrameSize(FrameSize.MINIMUM, FrameSize.MINIMUM))
        request = _request(flavour, target, "fp32", nothing, plugins, onnx=None, engine=Path(folder) / "none")
        _in_child(request, _environment(flavour, plugins, Path(folder)), lambda _phase, _done, _total: None)


def _unfinished_folder(engine: Path) -> Path:
    """A hidden folder beside the engine, so that renaming moves nothing between file systems."""
    check_place(engine)
    try:
        return Path(tempfile.mkdtemp(prefix=UNFINISHED_PREFIX, dir=engine.parent))
    except OSError as error:
        raise OutputError(
            f"{engine} cannot be written ({error.strerror}); give a path in a writable folder with room"
        ) from error


def _request(
    flavour: Flavour,
    target: GpuTarget,
    precision: Precision,
    sizes: SizeRange,
    plugins: Path | None,
    *,
    onnx: Path | None,
    engine: Path,
) -> BuildRequest:
    least, best, most = ((size.height, size.width) for size in (sizes.least, sizes.best, sizes.most))
    return BuildRequest(
        str(onnx) if onnx else None,
        str(engine),
        flavour,
        target.sm,
        precision,
        (least, best, most),
        str(plugins) if plugins else None,
        str(_timing_cache(target)) if flavour == "tensorrt" else None,
    )


def _environment(flavour: Flavour, plugins: Path | None, folder: Path) -> dict[str, str]:
    """Of the child process."""
    if plugins is None or flavour != "rtx":
        return dict(os.environ)
    from ksnet_deploy.ops.library import rtx_preflight_environment

    return dict(os.environ) | rtx_preflight_environment(folder)


def _in_child(request: BuildRequest, environment: dict[str, str], on_progress: Progress) -> dict[str, Any]:
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
    """What the native plugins said, in front of which TensorRT's own words say little."""
    stderr.seek(0)
    lines = [line.strip() for line in stderr if line.startswith("[ksnet]")]
    return f" ({'; '.join(lines)})" if lines else ""


def _timing_cache(target: GpuTarget) -> Path:
    """TensorRT's measurements of its kernels; of one version and one GPU."""
    return made_cache_folder() / f"timing-{installed_version('tensorrt')}-{target}.cache"
