"""ONNX files that were exported on demand, kept in the user's cache folder.

The folder is ``KSNET_CACHE_DIR``, or the platform's place for caches.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import platformdirs

from ksnet_deploy.base.errors import OutputError
from ksnet_deploy.base.files import sha256_of
from ksnet_deploy.base.frames import FrameSize, FrameType
from ksnet_deploy.network.bundled import check_is_file
from ksnet_deploy.network.config import Precision

__all__ = [
    "UNFINISHED_PREFIX",
    "cache_folder",
    "cached_files",
    "cached_onnx",
    "clear_cache",
    "code_sha256",
    "made_cache_folder",
]


UNFINISHED_PREFIX = ".ksnet-engine-"
"""Of the folders that engines are built in."""


def cache_folder() -> Path:
    """Where exported files are kept."""
    return Path(os.environ.get("KSNET_CACHE_DIR") or platformdirs.user_cache_dir("ksnet-deploy"))


def made_cache_folder() -> Path:
    """The folder, made if need be. Raises OutputError when it cannot be."""
    folder = cache_folder()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(
            f"the cache folder {folder} cannot be made ({error.strerror}); set KSNET_CACHE_DIR to another"
        ) from error
    return folder


def cached_files() -> list[Path]:
    """What is in the cache: exported files, engines with their sidecars, proofs, timings, and what was cut off."""
    folder = cache_folder()
    kinds = ("*.onnx", "*.proof.json", "*.engine", "*.engine.json", "*.cache", ".*.part", f"{UNFINISHED_PREFIX}*/*")
    return sorted(path for kind in kinds for path in folder.glob(kind)) if folder.is_dir() else []


def clear_cache() -> tuple[int, int]:
    """Remove all of :func:`cached_files`; their number and bytes."""
    files = cached_files()
    size = sum(path.stat().st_size for path in files)
    for path in files:
        path.unlink(missing_ok=True)
    for folder in cache_folder().glob(f"{UNFINISHED_PREFIX}*"):
        folder.rmdir()
    return len(files), size


def cached_onnx(
    checkpoint: Path,
    size: FrameSize | None,
    io: FrameType = "uint8",
    precision: Precision = "fp32",
    *,
    on_export: Callable[[], None] = lambda: None,
) -> Path:
    """The ONNX step of a checkpoint at a size (None: any), exported now if it is not in the cache.

    Everything that changes the file's bytes is in its name: weights, size, frame type, precision, this package's code
    and the version of PyTorch that exports it.

    Args:
        on_export: called before an export, which takes some ten seconds.

    Raises:
        CheckpointError: the checkpoint cannot be loaded.
        OutputError: the cache folder cannot be written.
    """
    check_is_file(checkpoint)
    identity = f"{sha256_of(checkpoint)} {size} {io} {precision} {code_sha256()} {version('torch')}"
    name = (
        f"{checkpoint.stem}-{size or 'any'}-{io}-{precision}-{hashlib.sha256(identity.encode()).hexdigest()[:16]}.onnx"
    )
    path = cache_folder() / name
    if path.is_file():
        return path
    # Imported here: a cached file is run without loading PyTorch.
    from ksnet_deploy.export.onnx import export_onnx
    from ksnet_deploy.network.checkpoints import load_checkpoint

    on_export()
    made_cache_folder()
    export_onnx(load_checkpoint(checkpoint), path, size=size, io=io, precision=precision)
    return path


def code_sha256() -> str:
    """SHA-256 over all Python files of the package: whichever of them changes, the export may change too."""
    package = Path(__file__).parents[1]
    digest = hashlib.sha256()
    # In a checkout export/ is a symlink, which glob does not follow.
    for path in sorted({*package.glob("**/*.py"), *(package / "export").glob("**/*.py")}):
        digest.update(path.read_bytes())
    return digest.hexdigest()
