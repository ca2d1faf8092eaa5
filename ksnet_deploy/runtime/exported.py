"""Facts about an exported file or an engine: what it was made of, and what it takes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ksnet_deploy.base.errors import ArtifactError, ConfigError
from ksnet_deploy.base.frames import FrameSize
from ksnet_deploy.network.config import KSNetConfig
from ksnet_deploy.runtime.pair import check_pair, files_of

__all__ = ["Exported", "describe", "metadata_of"]

UNSAID = "not said"


@dataclass(frozen=True)
class Exported:
    """Facts about an exported network, known without running it."""

    config: KSNetConfig
    """Configuration of the network that it was made of."""
    size: FrameSize | None
    """Size of the LR frames; of an engine for many sizes the one that it was optimised for; None where any is taken."""
    facts: dict[str, str]
    """Everything else in words, by names that a user understands."""


def describe(path: Path) -> Exported:
    """Facts about an ``.onnx`` or an ``.engine``, or about two by the name that they go by.

    Raises:
        ArtifactError: it is missing, damaged, or does not say what it was made of.
    """
    files = files_of(path)
    size, metadata, facts = _of_onnx(files[0]) if path.suffix.lower() == ".onnx" else _of_engine(files[0])
    if len(files) > 1:
        check_pair(path, *map(metadata_of, files))
        facts["steps"] = " and ".join(file.name for file in files)
    try:
        config = KSNetConfig.from_json(metadata["ksnet.config"])
    except (KeyError, ConfigError) as error:
        raise ArtifactError(
            f"{path} does not say what network it was made of ({error}); make it again with this version"
        ) from error
    return Exported(
        config,
        size,
        {
            **facts,
            **_static_split(path, metadata),
            "weights (SHA-256)": metadata.get("ksnet.weights_sha256", UNSAID),
            "made by ksnet-deploy": metadata.get("ksnet.version", UNSAID),
        },
    )


def _static_split(path: Path, metadata: Mapping[str, str]) -> dict[str, str]:
    """The clip and the channels of a file whose splits are frozen; nothing of any other."""
    if (text := metadata.get("ksnet.static_split")) is None:
        return {}
    try:
        split = json.loads(text)
        channels = "; ".join(f"{name} {' '.join(map(str, kept))}" for name, kept in split["channels"].items())
        return {"static split, clip": f"SHA-256 {split['clip_sha256']}", "static split, channels": channels}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ArtifactError(
            f"{path} does not say which channels its static split keeps ({error}); make it again with this version"
        ) from error


def metadata_of(path: Path) -> dict[str, str]:
    """Metadata of an ``.onnx``, or those that an ``.engine`` has of the file that it was built from, with its own hash
    and that of the other engine of a pair in the place of the files'.

    Raises ArtifactError: it is missing or damaged.
    """
    if path.suffix.lower() == ".onnx":
        return _of_onnx(path)[1]
    from ksnet_deploy.runtime.tensorrt.sidecar import Sidecar

    sidecar = Sidecar.read(path)
    names = {"ksnet.graph_sha256": sidecar.engine_sha256, "ksnet.other_graph_sha256": sidecar.other_engine_sha256 or ""}
    return sidecar.metadata | names


def _of_onnx(path: Path) -> tuple[FrameSize | None, dict[str, str], dict[str, str]]:
    from ksnet_deploy.runtime.step_file import (
        exported_lanes,
        exported_metadata,
        exported_size,
        frame_type,
        has_custom_operators,
        load_exported,
    )

    model = load_exported(path)
    size, metadata, lanes = exported_size(model), exported_metadata(model), exported_lanes(model)
    return (
        size,
        metadata,
        {
            "frames": f"{size or 'of any size'} (height x width), {frame_type(path, model)}",
            "precision": metadata.get("ksnet.precision", UNSAID),
            "custom operators": "as ONNX functions" if has_custom_operators(model) else "written out (--inline)",
            **({"frames at once": str(lanes)} if lanes > 1 else {}),
        },
    )


def _of_engine(path: Path) -> tuple[FrameSize | None, dict[str, str], dict[str, str]]:
    from ksnet_deploy.runtime.tensorrt.sidecar import Sidecar
    from ksnet_deploy.runtime.tensorrt.target import FLAVOURS

    sidecar = Sidecar.read(path)
    spec, proof = sidecar.spec, sidecar.verified
    return (
        spec.sizes.best,
        sidecar.metadata,
        {
            "frames": f"{spec.sizes} (height x width)",
            "precision": spec.precision,
            **({"frames at once": str(spec.batch)} if spec.batch > 1 else {}),
            "GPU": str(spec.target),
            "runtime": f"{FLAVOURS[spec.flavour]} {sidecar.version}",
            "native plugins": spec.plugins.name if spec.plugins else "none",
            "made of": sidecar.model,
            "compared with float32": f"{proof['what']} with {proof['against']}" if proof else "no",
        },
    )
