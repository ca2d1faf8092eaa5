"""Write a KSNet step as an ONNX file whose custom nodes carry their function bodies."""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Iterator
from pathlib import Path

import onnx
import torch

from ksnet_deploy.base.errors import ArtifactError, ConfigError, OutputError
from ksnet_deploy.base.files import check_place, replacing
from ksnet_deploy.base.frames import FrameSize, FrameType
from ksnet_deploy.base.version import __version__
from ksnet_deploy.export.step import StepModule
from ksnet_deploy.network.checkpoints import Checkpoint
from ksnet_deploy.network.config import Precision
from ksnet_deploy.network.model import State
from ksnet_deploy.ops.functions import OPSET, function_bodies

__all__ = ["DYNAMIC_TRACE_SIZE", "export_onnx"]

DYNAMIC_TRACE_SIZE = FrameSize(96, 128)
"""Size a dynamic graph is traced at; the graph does not depend on it."""
MAX_SIDE = 8192


def export_onnx(
    checkpoint: Checkpoint,
    path: Path,
    *,
    size: FrameSize | None,
    io: FrameType = "uint8",
    precision: Precision = "fp32",
) -> onnx.ModelProto:
    """Fold the checkpoint and write it as an ONNX step, checked by ``onnx.checker`` in full mode.

    Inputs are ``lr`` (1, H, W, 3) and ``state.<name>`` (1, C, H, W); outputs ``hr`` (1, 4 H, 4 W, 3) and
    ``next.<name>``. The caller keeps the state and starts a scene with zeros and ``prev_lr`` the frame itself.

    Args:
        size: of the LR frames; None for a graph with free height and width, 16 to 8192 each.
        io: element type of the frames.
        precision: of the convolutions; ``fp16`` leaves the islands of :mod:`ksnet_deploy.network.precision` in float32.

    Raises:
        ConfigError: the network is bidirectional or its slots are not in channel order, or the size is below the
            network's minimum.
        ArtifactError: the exported graph does not pass the checker.
        OutputError: the file cannot be written.
    """
    if checkpoint.config.direction != "uni":
        raise ConfigError(f"{checkpoint.path} is bidirectional; only 'uni' networks can be exported so far")
    if checkpoint.config.slots != "order":
        raise ConfigError(
            f"{checkpoint.path} has slots '{checkpoint.config.slots}', which cannot be exported; only networks with "
            "slots 'order' can"
        )
    check_place(path)
    if size is not None and size != size.padded:
        raise ConfigError(
            f"a size of {size} is below the network's minimum; export {size.padded} and pad the frames, "
            "as 'ksnet-deploy upscale' does"
        )
    step = StepModule(checkpoint.model, io, precision)
    with _quiet_exporter():
        program = torch.onnx.export(
            step,
            step.example_inputs(size or DYNAMIC_TRACE_SIZE),
            dynamo=True,
            opset_version=OPSET,
            input_names=["lr", *(f"state.{name}" for name in State._fields)],
            output_names=["hr", *(f"next.{name}" for name in State._fields)],
            dynamic_shapes=None if size else _free_height_and_width(),
            verbose=False,
        )
    if program is None:  # torch types the result as optional; with dynamo=True it never is
        raise ArtifactError("torch.onnx.export returned no program")
    model = program.model_proto
    model.functions.extend(function_bodies(native_deform_conv=False))
    metadata = {
        "ksnet.config": checkpoint.config.to_json(),
        "ksnet.precision": precision,
        "ksnet.weights_sha256": checkpoint.sha256,
        "ksnet.version": __version__,
    }
    onnx.helper.set_model_props(model, metadata)
    try:
        onnx.checker.check_model(model, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise ArtifactError(f"the exported graph of {checkpoint.path} is not valid ONNX: {error}") from error
    try:
        with replacing(path) as temporary:
            onnx.save(model, temporary)
    except OSError as error:
        raise OutputError(
            f"{path} cannot be written ({error.strerror}); give a path in an existing, writable folder"
        ) from error
    return model


def _free_height_and_width() -> tuple[object, ...]:
    height = torch.export.Dim("height", min=FrameSize.MINIMUM, max=MAX_SIDE)
    width = torch.export.Dim("width", min=FrameSize.MINIMUM, max=MAX_SIDE)
    state = tuple({2: height, 3: width} for _ in State._fields)
    return ({1: height, 2: width}, state)  # *state of StepModule.forward is one tuple to the tracer


@contextlib.contextmanager
def _quiet_exporter() -> Iterator[None]:
    """Silence what the exporter says about packages that this network does not use and about its own internals."""
    logger = logging.getLogger("torch.onnx._internal.exporter._registration")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*LeafSpec.*", category=FutureWarning)
            warnings.filterwarnings("ignore", message="# The axis name: .* will not be used", category=UserWarning)
            yield
    finally:
        logger.setLevel(level)
