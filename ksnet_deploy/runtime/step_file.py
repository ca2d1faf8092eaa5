"""Reading an exported step: the ONNX file, and what it says of itself."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from ksnet_deploy.base.errors import ArtifactError
from ksnet_deploy.base.frames import IO_TYPES, FrameSize, FrameType
from ksnet_deploy.network.config import KSNetConfig
from ksnet_deploy.network.elements import check_elements
from ksnet_deploy.ops.functions import DOMAIN
from ksnet_deploy.runtime.base import NEXT_PREFIX, STATE_PREFIX, SavedState

__all__ = [
    "OTHER_SEAL",
    "SEAL",
    "STATIC_SPLIT",
    "check_countable",
    "check_size",
    "exported_lanes",
    "exported_metadata",
    "exported_size",
    "features_taken",
    "frame_type",
    "graph_sha256",
    "has_custom_operators",
    "is_int8",
    "load_exported",
    "load_step",
    "result_name",
    "zero_state",
]


SEAL = "ksnet.graph_sha256"
"""Metadata entry with :func:`graph_sha256`, by which a damaged file is known."""
OTHER_SEAL = "ksnet.other_graph_sha256"
"""Metadata entry with that of the other step's file, where a network has two."""
STATIC_SPLIT = "ksnet.static_split"
"""Metadata entry of a file whose splits are frozen: JSON with ``clip_sha256``, and ``channels`` that each split keeps,
by its name in the network."""


def load_exported(path: Path) -> onnx.ModelProto:
    """Load an exported step. Raises ArtifactError when the file is missing, damaged or not a KSNet step.

    What carries no hash of itself, as files of older versions and of other programs do not, is taken as it is.
    """
    if not path.is_file():
        raise ArtifactError(f"{path} does not exist or is not a file; make one with 'ksnet-deploy export'")
    if not path.stat().st_size:
        raise ArtifactError(f"{path} is empty; export it again with 'ksnet-deploy export'")
    try:
        model = onnx.load(path)
    except Exception as error:  # protobuf's DecodeError has no public home
        raise ArtifactError(
            f"{path} cannot be read as ONNX ({error}); export it again with 'ksnet-deploy export'"
        ) from error
    names = {value.name for value in model.graph.input}
    if "lr" not in names or "state.prev_lr" not in names:
        raise ArtifactError(f"{path} is not a KSNet step: it has no input 'lr' with states; export it again")
    if exported_metadata(model).get(SEAL) not in (None, graph_sha256(model)):
        raise ArtifactError(
            f"{path} is not the file that was exported: it is damaged, or another program changed it; export it again "
            "with 'ksnet-deploy export'"
        )
    return model


def graph_sha256(model: onnx.ModelProto) -> str:
    """SHA-256 of a step's file, without the hashes in it; the same where its weights lie in a file of their own."""
    bare = onnx.ModelProto()
    bare.CopyFrom(model)
    for tensor in bare.graph.initializer:
        if tensor.data_location == onnx.TensorProto.DEFAULT:  # which is written out once they were read from there
            tensor.ClearField("data_location")
    del bare.metadata_props[:]
    bare.metadata_props.extend(entry for entry in model.metadata_props if entry.key not in (SEAL, OTHER_SEAL))
    return hashlib.sha256(bare.SerializeToString(deterministic=True)).hexdigest()


def exported_metadata(model: onnx.ModelProto) -> dict[str, str]:
    """Configuration, precision, weights and version; see :func:`ksnet_deploy.export.onnx.export_onnx`."""
    return {entry.key: entry.value for entry in model.metadata_props}


def check_countable(metadata: Mapping[str, str], size: FrameSize, lanes: int = 1) -> None:
    """Raise ConfigError for frames too large for any GPU runtime, of a network as its export describes it."""
    if config := metadata.get("ksnet.config"):
        check_elements(KSNetConfig.from_json(config), size, lanes)


def has_custom_operators(model: onnx.ModelProto) -> bool:
    """Whether the custom operators are nodes of the graph; those of an inlined file are written out."""
    return any(node.domain == DOMAIN for node in model.graph.node)


def is_int8(model: onnx.ModelProto) -> bool:
    """Whether it has convolutions in whole numbers."""
    return exported_metadata(model).get("ksnet.precision", "").startswith("int8")


def exported_size(model: onnx.ModelProto) -> FrameSize | None:
    """Size of the LR frames; None when it is free."""
    lr = next(value for value in model.graph.input if value.name == "lr")
    _, height, width, _ = lr.type.tensor_type.shape.dim
    if not (height.HasField("dim_value") and width.HasField("dim_value")):
        return None
    return FrameSize(height.dim_value, width.dim_value)


def exported_lanes(model: onnx.ModelProto) -> int:
    """Scenes whose frames a step takes as one batch."""
    lr = next(value for value in model.graph.input if value.name == "lr")
    return int(lr.type.tensor_type.shape.dim[0].dim_value) or 1


def load_step(path: Path, size: FrameSize) -> onnx.ModelProto:
    """An exported file that takes frames of a size. Raises ArtifactError for any other file."""
    model = load_exported(path)
    check_size(path, exported_size(model), size)
    return model


def check_size(path: Path, exported: FrameSize | None, size: FrameSize) -> None:
    """Raise ArtifactError where a file, exported for frames of one size or of any (None), does not take a size."""
    if exported not in (None, size):
        raise ArtifactError(
            f"{path} takes frames of {exported} (height x width), not {size}; export it with --size {size} or --dynamic"
        )


def frame_type(path: Path, model: onnx.ModelProto) -> FrameType:
    """Element type of a step's frames. Raises ArtifactError when it is none of ours."""
    lr = next(value for value in model.graph.input if value.name == "lr")
    name = np.dtype(onnx.helper.tensor_dtype_to_np_dtype(lr.type.tensor_type.elem_type)).name
    if name not in IO_TYPES:
        raise ArtifactError(f"{path} takes frames of type {name}; expected {', '.join(IO_TYPES)}; export it again")
    return name  # type: ignore[return-value]


def features_taken(model: onnx.ModelProto) -> dict[str, np.dtype[Any]]:
    """Inputs of a step that are neither the frame nor states, with their types: ``prop`` in the second step of a
    bidirectional network."""
    return {
        value.name: np.dtype(onnx.helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type))
        for value in model.graph.input
        if value.name != "lr" and not value.name.startswith(STATE_PREFIX)
    }


def result_name(model: onnx.ModelProto) -> str:
    """The output of a step that is no state: ``hr``, or ``prop`` in the first step of a bidirectional one."""
    name: str = next(value.name for value in model.graph.output if not value.name.startswith(NEXT_PREFIX))
    return name


def zero_state(model: onnx.ModelProto, size: FrameSize) -> SavedState:
    """A step's recurrent inputs by name, all zero."""
    return {
        value.name.removeprefix(STATE_PREFIX): np.zeros(
            (exported_lanes(model), value.type.tensor_type.shape.dim[1].dim_value, size.height, size.width),
            onnx.helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type),
        )
        for value in model.graph.input
        if value.name.startswith(STATE_PREFIX)
    }
