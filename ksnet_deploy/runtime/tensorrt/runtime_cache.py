"""TensorRT-RTX's compiled kernels, kept beside the engine: without them it compiles anew at every start.

``x.engine.rtxcache`` is believed only where it is whole and of this engine. Whether it is of this GPU, driver and
version, TensorRT-RTX finds out by itself, and compiles anew where it is not. Not yet run on a GPU.
"""

from __future__ import annotations

import contextlib
import hashlib
from pathlib import Path
from typing import Any

from ksnet_deploy.base.files import replacing

__all__ = ["RuntimeCache", "runtime_cache_path"]


class RuntimeCache:
    """Compiled kernels of one engine."""

    def __init__(self, engine: Path, engine_sha256: str, config: Any) -> None:
        """Load what is kept, if it fits, and let a runtime configuration use it."""
        self._path, self._engine = runtime_cache_path(engine), engine_sha256
        self._cache = config.create_runtime_cache()
        self._kept = self._read()
        if self._kept is not None and not self._cache.deserialize(self._kept):
            self._kept = None
        config.set_runtime_cache(self._cache)

    def keep(self) -> None:
        """Write what was compiled since, whole or not at all; where it cannot be written, the next start is slow."""
        compiled = bytes(self._cache.serialize())
        if compiled != self._kept:
            with contextlib.suppress(OSError), replacing(self._path) as temporary:
                temporary.write_bytes(self._digest(compiled) + compiled)

    def _read(self) -> bytes | None:
        try:
            content = self._path.read_bytes()
        except OSError:
            return None
        digest, compiled = content[: hashlib.sha256().digest_size], content[hashlib.sha256().digest_size :]
        return compiled if digest == self._digest(compiled) else None

    def _digest(self, compiled: bytes) -> bytes:
        return hashlib.sha256(self._engine.encode() + compiled).digest()


def runtime_cache_path(engine: Path) -> Path:
    """``x.engine`` -> ``x.engine.rtxcache``."""
    return engine.with_name(f"{engine.name}.rtxcache")
