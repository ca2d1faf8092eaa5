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

from ksnet_deploy.checkpoints import check_is_file
from ksnet_deploy.config import FrameSize
from ksnet_deploy.errors import OutputError
from ksnet_deploy.files import sha256_of
from ksnet_deploy.runtime.base import FrameType

__all__ = ["cache_folder", "cached_onnx"]


def cache_folder() -> Path:
    """Where exported files are kept."""
    return Path(os.environ.get("KSNET_CACHE_DIR") or platformdirs.user_cache_dir("ksnet-deploy"))


def cached_onnx(
    checkpoint: Path, size: FrameSize, io: FrameType = "uint8", *, on_export: Callable[[], None] = lambda: None
) -> Path:
    """The ONNX step of a checkpoint at a size, exported now if it is not in the cache.

    Everything that changes the file's bytes is in its name: weights, size, frame type, this package's code and the
    version of PyTorch that exports it.

    Args:
        on_export: called before an export, which takes some ten seconds.

    Raises:
        CheckpointError: the checkpoint cannot be loaded.
        OutputError: the cache folder cannot be written.
    """
    check_is_file(checkpoint)
    identity = f"{sha256_of(checkpoint)} {size} {io} fp32 {_code_sha256()} {version('torch')}"
    name = f"{checkpoint.stem}-{size}-{io}-{hashlib.sha256(identity.encode()).hexdigest()[:16]}.onnx"
    path = cache_folder() / name
    if path.is_file():
        return path
    # Imported here: a cached file is run without loading PyTorch.
    from ksnet_deploy.export.onnx import export_onnx
    from ksnet_deploy.weights import load_checkpoint

    on_export()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(
            f"the cache folder {path.parent} cannot be made ({error.strerror}); set KSNET_CACHE_DIR to another"
        ) from error
    export_onnx(load_checkpoint(checkpoint), path, size=size, io=io)
    return path


def _code_sha256() -> str:
    """Of all Python files of the package: whichever of them changes, the export may change too."""
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parent.glob("**/*.py")):
        digest.update(path.read_bytes())
    for path in sorted((Path(__file__).parent / "export").glob("*.py")):  # glob does not follow the symlink
        digest.update(path.read_bytes())
    return digest.hexdigest()
