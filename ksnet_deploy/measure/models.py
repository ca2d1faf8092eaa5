"""The networks that ship with the package: what for, how large, how good, how fast here; and what is cached."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import safe_open

from ksnet_deploy.base.files import sha256_of
from ksnet_deploy.base.frames import FrameSize
from ksnet_deploy.export.cache import cache_folder, cached_files
from ksnet_deploy.measure.speeds import MeasuredSpeed, measured_speeds
from ksnet_deploy.network.bundled import BundledFacts, bundled_checkpoint, bundled_facts, bundled_names
from ksnet_deploy.network.checkpoint_config import config_of
from ksnet_deploy.network.complexity import complexity

__all__ = ["ModelInfo", "ModelList", "list_models", "purposes"]

USUAL_SIZE = FrameSize(180, 320)
"""LR frames that work is told for, as in the paper."""
SIZE_IN_NAME = r"\d+x\d+(?:x\d+)?|any"
"""Size of the frames, at times with their number, which follows a network's name in that of an exported file."""
ENGINE_IN_NAME = r"(?:fp32|fp16)-(?:tensorrt|rtx)"
"""Precision and flavour, which follow it in that of an engine."""


@dataclass(frozen=True)
class ModelInfo:
    """A bundled network."""

    name: str
    path: Path
    facts: BundledFacts
    parameters: int
    """Parameters in deploy form."""
    gmacs: float
    """Multiply-adds for an LR frame of :data:`USUAL_SIZE`, in 1e9."""
    licence: str
    speeds: list[MeasuredSpeed]
    """Measured on this machine."""
    cached: list[str]
    """Names of files in the cache that were exported or built from it."""

    def as_dict(self) -> dict[str, Any]:
        """Plain values."""
        return {
            **{name: value for name, value in vars(self).items() if name not in ("path", "speeds", "facts")},
            **vars(self.facts),
            "path": str(self.path),
            "bytes": self.path.stat().st_size,
            "speeds": [
                {name: getattr(one, name) for name in ("size", "runtime", "what", "fps")} for one in self.speeds
            ],
        }

    def as_text(self) -> str:
        """Some lines for people."""
        quality = [
            "Vid4 not measured" if self.facts.vid4_psnr_db is None else f"{self.facts.vid4_psnr_db:.2f} dB on Vid4",
            *self.facts.gains,
        ]
        speeds = [
            f"{one.fps:.2f} fps at {one.size}, {one.runtime}" + (" (network alone)" if one.what == "step" else "")
            for one in sorted(self.speeds, key=lambda one: (FrameSize.parse(one.size), one.what))
        ]
        sizes = sorted({match[1] for file in self.cached if (match := re.search(rf"-({SIZE_IN_NAME})-", file))})
        return "\n".join(
            [
                f"{self.name}: {self.facts.purpose}",
                f"  size      {self.parameters / 1e6:.2f} M parameters, {self.path.stat().st_size / 1e6:.1f} MB, "
                f"{self.gmacs:.1f} G multiply-adds at {USUAL_SIZE}",
                f"  quality   {', '.join(quality)}",
                f"  speed     {'; '.join(speeds) or f'not measured here; run ksnet-deploy bench --model {self.name}'}",
                f"  cached    {', '.join(sizes) or 'nothing'}",
                f"  licence   {self.licence}",
            ]
        )


@dataclass(frozen=True)
class ModelList:
    """All of them."""

    models: list[ModelInfo]
    others: list[str]
    """Networks and engines in the cache that were made from other checkpoints."""

    def as_dict(self) -> dict[str, Any]:
        """Plain values, as ``--json`` gives them."""
        return {
            "cache": str(cache_folder()),
            "models": [model.as_dict() for model in self.models],
            "other_cached": self.others,
        }

    def as_text(self) -> str:
        """Report for people."""
        blocks = [model.as_text() for model in self.models]
        if self.others:
            blocks.append(f"Made from other checkpoints, in {cache_folder()}:\n  " + "\n  ".join(self.others))
        return "\n\n".join(blocks)


def purposes() -> list[tuple[str, str]]:
    """The bundled networks' names, each with what it is for; the usual ones first."""
    return [(name, facts.purpose) for name, facts in bundled_facts().items()]


def list_models() -> ModelList:
    """Look at what is bundled and cached.

    Raises:
        OutputError: the cache folder cannot be read.
    """
    known = bundled_facts()
    files = [path.name for path in cached_files() if path.suffix in (".onnx", ".engine")]
    kept, models, mine = measured_speeds(), [], set[str]()
    for name in bundled_names():
        path = bundled_checkpoint(name)
        count = complexity(config_of(path), USUAL_SIZE)
        with safe_open(path, "np") as file:
            licence = (file.metadata() or {}).get("licence", "not stated")
        cached = [file for file in files if re.match(rf"{re.escape(name)}-({SIZE_IN_NAME}|{ENGINE_IN_NAME})-", file)]
        mine |= set(cached)
        digest = sha256_of(path)
        models.append(
            ModelInfo(
                name=name,
                path=path,
                parameters=count.params_deploy,
                gmacs=count.gmacs_deploy,
                licence=licence,
                speeds=[one for one in kept if one.weights_sha256 == digest],
                cached=cached,
                facts=known[name],
            )
        )
    return ModelList(models, [file for file in files if file not in mine])
