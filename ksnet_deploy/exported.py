"""Reading an exported step: the ONNX file, and what it says of itself."""

from __future__ import annotations

from pathlib import Path

import onnx

from ksnet_deploy.config import FrameSize
from ksnet_deploy.errors import ArtifactError

__all__ = ["exported_metadata", "exported_size", "load_exported"]


def load_exported(path: Path) -> onnx.ModelProto:
    """Raises ArtifactError when the file is missing, broken or not a KSNet step."""
    if not path.is_file():
        raise ArtifactError(f"{path} does not exist or is not a file; make one with 'ksnet-deploy export'")
    try:
        model = onnx.load(path)
    except Exception as error:  # protobuf's DecodeError has no public home
        raise ArtifactError(
            f"{path} cannot be read as ONNX ({error}); export it again with 'ksnet-deploy export'"
        ) from error
    names = {value.name for value in model.graph.input}
    if "lr" not in names or "state.prev_lr" not in names:
        raise ArtifactError(f"{path} is not a KSNet step: it has no input 'lr' with states; export it again")
    return model


def exported_metadata(model: onnx.ModelProto) -> dict[str, str]:
    """Configuration, precision, weights and version; see :func:`ksnet_deploy.export.onnx.export_onnx`."""
    return {entry.key: entry.value for entry in model.metadata_props}


def exported_size(model: onnx.ModelProto) -> FrameSize | None:
    """Of the LR frames; None when it is free."""
    lr = next(value for value in model.graph.input if value.name == "lr")
    _, height, width, _ = lr.type.tensor_type.shape.dim
    if not (height.HasField("dim_value") and width.HasField("dim_value")):
        return None
    return FrameSize(height.dim_value, width.dim_value)
