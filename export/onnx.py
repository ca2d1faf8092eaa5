"""Writing a KSNet step as an ONNX file whose custom nodes carry their function bodies."""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import onnx
import onnx.inliner
import torch

from ksnet_deploy.base.errors import ArtifactError, ConfigError
from ksnet_deploy.base.files import check_place, replacing, sha256_of, writing
from ksnet_deploy.base.frames import FrameSize, FrameType
from ksnet_deploy.base.version import __version__
from ksnet_deploy.export.calibration import Ranges, activation_ranges
from ksnet_deploy.export.int8 import quantise
from ksnet_deploy.export.memory import check_memory, export_bytes
from ksnet_deploy.export.static_split import StaticSplit
from ksnet_deploy.export.step import StepModule
from ksnet_deploy.network.bundled import CLIP
from ksnet_deploy.network.checkpoints import Checkpoint
from ksnet_deploy.network.config import Precision, StepName
from ksnet_deploy.ops.functions import DOMAIN, OPSET, function_bodies, name_nodes
from ksnet_deploy.runtime.base import NEXT_PREFIX, STATE_PREFIX
from ksnet_deploy.runtime.pair import step_files
from ksnet_deploy.runtime.step_file import OTHER_SEAL, SEAL, STATIC_SPLIT, graph_sha256

__all__ = ["DYNAMIC_TRACE_SIZE", "export_onnx", "exported_model", "exported_models", "save_models"]

DYNAMIC_TRACE_SIZE = FrameSize(96, 128)
"""Size a dynamic graph is traced at; the graph does not depend on it."""
MAX_SIDE = 8192
WRITABLE = "give a path in an existing, writable folder"
IR_VERSION = 9
"""Version of the file format: the first that goes with opset 20, which ONNX Runtime 1.17 reads."""


def export_onnx(
    checkpoint: Checkpoint,
    path: Path,
    *,
    size: FrameSize | None,
    io: FrameType = "uint8",
    precision: Precision = "fp32",
    inline: bool = False,
    batch: int = 1,
    calibrate: Path = CLIP,
) -> dict[StepName, onnx.ModelProto]:
    """Write :func:`exported_models` to a file, or to the two files of a bidirectional network
    (:mod:`ksnet_deploy.runtime.pair`), each whole or not at all.

    Raises:
        KSNetError: as :func:`exported_model`.
        OutputError: a file cannot be written.
    """
    files = step_files(path, checkpoint.config)
    for file in files.values():
        check_place(file)
    models = exported_models(
        checkpoint, size=size, io=io, precision=precision, inline=inline, batch=batch, calibrate=calibrate
    )
    save_models(models, files)
    return models


def save_models(models: Mapping[StepName, onnx.ModelProto], files: Mapping[StepName, Path]) -> None:
    """Write each step to its file, whole or not at all. Raises OutputError where one cannot be written."""
    for step, model in models.items():
        with writing(files[step], WRITABLE), replacing(files[step]) as temporary:
            onnx.save(model, temporary)


def exported_models(
    checkpoint: Checkpoint,
    *,
    size: FrameSize | None,
    io: FrameType = "uint8",
    precision: Precision = "fp32",
    inline: bool = False,
    batch: int = 1,
    calibrate: Path = CLIP,
    split: StaticSplit | None = None,
) -> dict[StepName, onnx.ModelProto]:
    """:func:`exported_model` of each of a network's steps, with a hash of itself. Of two, each has the other's too.

    ``calibrate`` is the clip that ``int8`` is calibrated on, ``split`` the channels that every frame keeps. Raises
    InputError where the clip cannot be read.
    """
    if split is not None:
        checkpoint = replace(checkpoint, model=split.model)
    ranges = activation_ranges(checkpoint.model, calibrate, precision) if precision.startswith("int8") else {}
    settings: dict[str, Any] = {"size": size, "io": io, "precision": precision, "inline": inline, "batch": batch}
    if ranges:
        settings["ranges"] = ranges
    models = {step: exported_model(checkpoint, step=step, **settings) for step in checkpoint.config.steps}
    if ranges:
        for model in models.values():
            model.metadata_props.add(key="ksnet.calibration_sha256", value=sha256_of(calibrate))
    if split is not None:
        for model in models.values():
            model.metadata_props.add(key=STATIC_SPLIT, value=split.as_metadata())
    digests = {step: graph_sha256(model) for step, model in models.items()}
    for step, model in models.items():
        model.metadata_props.add(key=SEAL, value=digests[step])
        for other in models.keys() - {step}:
            model.metadata_props.add(key=OTHER_SEAL, value=digests[other])
    return models


def exported_model(
    checkpoint: Checkpoint,
    *,
    size: FrameSize | None,
    io: FrameType = "uint8",
    precision: Precision = "fp32",
    inline: bool = False,
    step: StepName = "step",
    batch: int = 1,
    ranges: Ranges | None = None,
) -> onnx.ModelProto:
    """Fold the checkpoint and trace it as an ONNX step, checked by ``onnx.checker`` in full mode.

    Inputs are ``lr`` (N, H, W, 3) and ``state.<name>`` (N, C, H, W); outputs ``hr`` (N, 4 H, 4 W, 3) and
    ``next.<name>``, for the names of :func:`ksnet_deploy.network.state_names.state_names`; N is the batch. The caller
    keeps the state and starts a scene with zeros and ``prev_lr`` the frame itself. The step ``propagate`` of a
    bidirectional network gives ``prop`` (1, C, H, W) instead of ``hr``, and ``refine`` takes it after ``lr``.

    Args:
        size: of the LR frames; None for a graph with free height and width, 16 to 8192 each.
        io: element type of the frames.
        precision: of the convolutions; see :mod:`ksnet_deploy.network.precision`.
        inline: write the custom operators out as standard operators, for runtimes that know no ONNX functions.
        batch: frames that it takes at once, of as many scenes, each with a state of its own.
        ranges: of the convolutions that ``int8`` computes in whole numbers.

    Raises:
        ConfigError: the network has no such step or its slots are not in channel order, the size is below the
            network's minimum, the batch is none or of a bidirectional network, or the memory is too small.
        ArtifactError: the exported graph does not pass the checker.
    """
    _check_exportable(checkpoint, size, batch)
    check_memory(
        f"to export for frames of {size or 'any size'}",
        export_bytes(checkpoint.config, size or DYNAMIC_TRACE_SIZE, batch),
        "export with --dynamic, which takes no more for larger frames, or for smaller ones",
    )
    module = StepModule(checkpoint.model, io, precision, step)
    names, features = module.step.names, module.step.takes
    with _quiet_exporter():
        program = torch.onnx.export(
            module,
            module.example_inputs(size or DYNAMIC_TRACE_SIZE, batch),
            dynamo=True,
            opset_version=OPSET,
            input_names=["lr", *features, *(STATE_PREFIX + name for name in names)],
            output_names=[module.step.gives, *(NEXT_PREFIX + name for name in names)],
            dynamic_shapes=None if size else _free_height_and_width(len(features) + len(names)),
            verbose=False,
        )
    if program is None:  # torch types the result as optional; with dynamo=True it never is
        raise ArtifactError("torch.onnx.export returned no program")
    model = program.model_proto
    model.ir_version = IR_VERSION
    model.functions.extend(function_bodies(model.graph.node, native_deform_conv=False))
    if inline:
        model = onnx.inliner.inline_local_functions(model)
        name_nodes(model.graph.node)
        standard = [opset for opset in model.opset_import if opset.domain != DOMAIN]
        del model.opset_import[:]
        model.opset_import.extend(standard)
    if ranges:
        quantise(model, ranges)
    metadata = {
        "ksnet.config": checkpoint.config.to_json(),
        "ksnet.precision": precision,
        "ksnet.weights_sha256": checkpoint.sha256,
        "ksnet.version": __version__,
        "ksnet.least_size": str(FrameSize(FrameSize.MINIMUM, FrameSize.MINIMUM)),
        "ksnet.step": step,
    }
    onnx.helper.set_model_props(model, metadata)
    try:
        onnx.checker.check_model(model, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise ArtifactError(f"the exported graph of {checkpoint.path} is not valid ONNX: {error}") from error
    return model


def _check_exportable(checkpoint: Checkpoint, size: FrameSize | None, batch: int) -> None:
    if batch < 1:
        raise ConfigError(f"a step of {batch} frames computes nothing; give --batch 1 or more")
    if batch > 1 and checkpoint.config.direction == "bi":
        raise ConfigError(
            f"{checkpoint.path.name} is bidirectional and takes windows of one scene at a time; leave --batch out, or "
            "export a 'uni' network"
        )
    if checkpoint.config.slots != "order":
        raise ConfigError(
            f"{checkpoint.path} has slots '{checkpoint.config.slots}', which cannot be exported; only networks with "
            "slots 'order' can"
        )
    if size is not None and size != size.padded:
        raise ConfigError(
            f"a size of {size} is below the network's minimum; export {size.padded} and pad the frames, "
            "as 'ksnet-deploy upscale' does"
        )


def _free_height_and_width(tensors: int) -> tuple[object, ...]:
    height = torch.export.Dim("height", min=FrameSize.MINIMUM, max=MAX_SIDE)
    width = torch.export.Dim("width", min=FrameSize.MINIMUM, max=MAX_SIDE)
    others = tuple({2: height, 3: width} for _ in range(tensors))
    return ({1: height, 2: width}, others)  # *tensors of StepModule.forward is one tuple to the tracer


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
