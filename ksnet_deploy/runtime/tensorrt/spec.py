"""Specification of an engine: the one value that names it, asks for it and heads its sidecar."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ksnet_deploy.base.files import sha256_of
from ksnet_deploy.base.frames import FrameSize
from ksnet_deploy.network.config import Precision
from ksnet_deploy.runtime.tensorrt.target import Flavour, GpuTarget, SizeRange

__all__ = ["EngineSpec", "PluginIdentity"]


@dataclass(frozen=True)
class PluginIdentity:
    """The plugin library that an engine is built with, and needs."""

    name: str
    sha256: str

    @classmethod
    def of(cls, library: Path) -> PluginIdentity:
        return cls(library.name, sha256_of(library))


@dataclass(frozen=True)
class EngineSpec:
    """Everything about an engine that a user may choose."""

    flavour: Flavour
    target: GpuTarget
    precision: Precision
    sizes: SizeRange
    plugins: PluginIdentity | None = None
    """Plugin library; None where the function bodies are used."""
    effort: int | None = None
    """Builder optimization level of full TensorRT, 0 to 5; None for its own."""
    batch: int = 1
    """Scenes whose frames it takes at once."""

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "flavour": self.flavour,
            "sm": self.target.sm,
            "precision": self.precision,
            "least": str(self.sizes.least),
            "best": str(self.sizes.best),
            "most": str(self.sizes.most),
            "plugins": self.plugins and asdict(self.plugins),
            "effort": self.effort,
            "batch": self.batch,
        }

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> EngineSpec:
        """Take what :meth:`as_dict` gave out of a dictionary, and leave the rest. Raises KeyError, TypeError or
        ConfigError for anything else."""
        plugins = values.pop("plugins")
        return cls(
            flavour=values.pop("flavour"),
            target=GpuTarget(values.pop("sm")),
            precision=values.pop("precision"),
            sizes=SizeRange(*(FrameSize.parse(values.pop(key)) for key in ("least", "best", "most"))),
            plugins=plugins and PluginIdentity(**plugins),
            effort=values.pop("effort", None),
            batch=values.pop("batch", 1),
        )

    def __str__(self) -> str:
        frames = "frames" if self.batch == 1 else f"{self.batch} frames at once"
        return f"{self.target} with {self.flavour}, {self.precision}, {frames} of {self.sizes}"
