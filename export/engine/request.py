"""Request to the process that builds an engine, as one line of JSON."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from ksnet_deploy.runtime.tensorrt.spec import EngineSpec

__all__ = ["BuildRequest"]


@dataclass(frozen=True)
class BuildRequest:
    """Request to the process: what to build, and with which files."""

    spec: EngineSpec
    onnx: str | None
    """Exported step; None to find out only whether the target and the plugins are there."""
    engine: str
    plugins: str | None
    timing_cache: str | None

    @classmethod
    def of(
        cls, spec: EngineSpec, engine: Path, *, onnx: Path | None, plugins: Path | None, timing_cache: Path | None
    ) -> BuildRequest:
        return cls(spec, *(path and str(path) for path in (onnx, engine, plugins, timing_cache)))  # type: ignore[arg-type]

    def to_json(self) -> str:
        return json.dumps({**asdict(self), "spec": self.spec.as_dict()})

    @classmethod
    def from_json(cls, text: str) -> BuildRequest:
        values = json.loads(text)
        return cls(EngineSpec.from_dict(values.pop("spec")), **values)
