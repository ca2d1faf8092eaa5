"""Polygraphy's loaders, from an ONNX model to an engine, in the process that builds."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path
from typing import Any

import onnx

from ksnet_deploy.base.errors import ArtifactError, BackendError
from ksnet_deploy.base.files import replacing
from ksnet_deploy.export.cache import write_hash
from ksnet_deploy.export.engine.request import BuildRequest
from ksnet_deploy.runtime.tensorrt.sidecar import EngineTensor
from ksnet_deploy.runtime.tensorrt.target import FLAVOURS

__all__ = ["parsed_network", "write_engine"]

Parsed = tuple[Any, Any, Any]
"""TensorRT's builder, network and parser, the last of which owns the weights."""


def parsed_network(trt: Any, model: onnx.ModelProto, request: BuildRequest, errors: list[str]) -> Parsed:
    """Raises ArtifactError, with the parser's reasons, where TensorRT cannot parse the model."""
    from polygraphy.backend.trt import NetworkFromOnnxBytes
    from polygraphy.exception import PolygraphyException

    # Types are the file's own, never the builder's choice; where the flag is gone, networks are typed strongly anyway.
    strongly_typed = hasattr(trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED")
    try:
        parsed: Parsed = NetworkFromOnnxBytes(model.SerializeToString(), strongly_typed=strongly_typed)()
    except PolygraphyException as error:
        raise ArtifactError(
            f"{_name(trt, request)} cannot parse {request.onnx} ({'; '.join(errors) or error}); export it again"
        ) from error
    return parsed


def write_engine(trt: Any, parsed: Parsed, request: BuildRequest, errors: list[str], progress_monitor: Any) -> None:
    """Build the network and write the engine, and TensorRT's measurements where they are kept.

    Raises BackendError where it cannot be built.
    """
    from polygraphy.backend.trt import EngineBytesFromNetwork
    from polygraphy.exception import PolygraphyException

    timings = io.BytesIO() if request.timing_cache else None
    config = _config(trt, parsed[1], request, progress_monitor)
    try:
        plan = EngineBytesFromNetwork(parsed, config=config, save_timing_cache=timings)()
    except PolygraphyException as error:
        raise BackendError(
            f"{_name(trt, request)} could not build an engine for {request.spec.target} "
            f"({'; '.join(errors[-2:]) or error}); try another --gpu or size"
        ) from error
    Path(request.engine).write_bytes(plan)
    if timings is not None and timings.getvalue():
        path = Path(str(request.timing_cache))
        with replacing(path) as temporary:
            temporary.write_bytes(timings.getvalue())
        write_hash(path, hashlib.sha256(timings.getvalue()).hexdigest())


def _config(trt: Any, network: Any, request: BuildRequest, progress_monitor: Any) -> Any:
    from polygraphy.backend.trt import CreateConfig, PostprocessConfig

    common: dict[str, Any] = {
        "profiling_verbosity": trt.ProfilingVerbosity.DETAILED,
        "progress_monitor": progress_monitor,
        "profiles": [_profile(network, request)],
    }
    if request.timing_cache:
        path = Path(request.timing_cache)
        common["load_timing_cache"] = io.BytesIO(path.read_bytes() if path.is_file() else b"")
    if request.spec.flavour == "rtx":
        from polygraphy.backend.tensorrt_rtx import CreateConfigRTX

        config = CreateConfigRTX(compute_capabilities=[divmod(request.spec.target.sm, 10)], **common)
    else:
        config = CreateConfig(builder_optimization_level=request.spec.effort, **common)

    def finish(_builder: Any, _network: Any, made: Any) -> None:
        made.clear_flag(trt.BuilderFlag.TF32)  # or float32 convolutions would drop 13 of their 23 bits
        if request.timing_cache and made.get_timing_cache() is None:  # it is of another card of the same capability
            made.set_timing_cache(made.create_timing_cache(b""), ignore_mismatch=False)

    return PostprocessConfig(config, finish)


def _profile(network: Any, request: BuildRequest) -> Any:
    """The sizes of the inputs, where they are free."""
    from polygraphy.backend.trt import Profile

    profile, sizes = Profile(), request.spec.sizes
    for index in range(network.num_inputs):
        value = network.get_input(index)
        if -1 in (shape := tuple(value.shape)):
            tensor = EngineTensor(value.name, str(value.dtype), shape)
            profile.add(value.name, *(tensor.at(size) for size in (sizes.least, sizes.best, sizes.most)))
    return profile


def _name(trt: Any, request: BuildRequest) -> str:
    return f"{FLAVOURS[request.spec.flavour]} {trt.__version__}"
