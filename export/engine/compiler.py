"""The process that builds an engine: ``python -m ksnet_deploy.export.engine.compiler``, a request as JSON on its input.

TensorRT may abort, exhaust the memory or hang, and its plugins need an environment that is set before the process
starts; so it gets a process of its own, which ends when its input is closed. Answers are lines of JSON on its output:
``{"phase", "done", "total"}`` while it builds, then ``{"report"}`` or ``{"error"}``.
"""

from __future__ import annotations

import ctypes
import hashlib
import json
import os
import sys
import threading
import time
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import onnx
import onnx.inliner

from ksnet_deploy.base.errors import ArtifactError, BackendError, KSNetError
from ksnet_deploy.base.files import replacing
from ksnet_deploy.export.cache import write_hash
from ksnet_deploy.export.engine.layers import check_layers
from ksnet_deploy.ops.functions import DOMAIN, VERSION
from ksnet_deploy.runtime.tensorrt.sidecar import EngineTensor, LayerCounts
from ksnet_deploy.runtime.tensorrt.spec import EngineSpec
from ksnet_deploy.runtime.tensorrt.target import FLAVOURS, import_tensorrt

__all__ = ["BuildRequest", "main"]


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


def main() -> int:
    request = BuildRequest.from_json(sys.stdin.readline())
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        answer: dict[str, Any] = {"report": _build(request)}
    except KSNetError as error:
        answer = {"error": str(error), "kind": type(error).__name__}
    except OSError as error:
        answer = {
            "error": f"{error.filename or request.engine} cannot be used ({error.strerror or error}); make room "
            "or give another path",
            "kind": "OutputError",
        }
    except Exception as error:  # whatever TensorRT's bindings raise
        answer = {
            "error": f"{FLAVOURS[request.spec.flavour]} failed ({type(error).__name__}: "
            f"{' '.join(str(error).split())}); try --plugins off, and report this",
            "kind": "BackendError",
        }
    _send(answer)
    return 0


def _end_with_parent() -> None:
    sys.stdin.read()
    os._exit(1)


def _send(answer: dict[str, Any]) -> None:
    sys.__stdout__.write(json.dumps(answer) + "\n")  # type: ignore[union-attr]
    sys.__stdout__.flush()  # type: ignore[union-attr]


def _build(request: BuildRequest) -> dict[str, Any]:
    trt = import_tensorrt(request.spec.flavour)
    if request.spec.flavour == "rtx":
        _check_capability(trt, request.spec.target.sm)
    logger = _collecting_logger(trt)
    if request.plugins:
        if request.spec.flavour == "rtx":
            _check_unversioned_library()
        from ksnet_deploy.ops.library import load_plugins

        load_plugins(trt, Path(request.plugins))
    if request.onnx is None:
        return {}
    model, custom_nodes = _prepared(request.onnx, native=request.plugins is not None)
    started = time.perf_counter()
    builder = trt.Builder(logger)
    network = builder.create_network(_strongly_typed(trt))
    parser = trt.OnnxParser(network, logger)
    if not parser.parse(model.SerializeToString()):
        reasons = "; ".join(parser.get_error(i).desc() for i in range(parser.num_errors))
        raise ArtifactError(
            f"{FLAVOURS[request.spec.flavour]} {trt.__version__} cannot parse {request.onnx} ({reasons}); "
            "export it again"
        )
    layers = _count_layers(network)
    check_layers(layers, request.spec.precision, custom_nodes, with_plugins=request.plugins is not None)
    config = _config(trt, builder, network, request)
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise BackendError(
            f"{FLAVOURS[request.spec.flavour]} {trt.__version__} could not build an engine for {request.spec.target} "
            f"({'; '.join(logger.errors[-2:]) or 'it gave no reason'}); try another --gpu or size"
        )
    Path(request.engine).write_bytes(plan)
    if request.timing_cache:
        timings = bytes(config.get_timing_cache().serialize())
        with replacing(Path(request.timing_cache)) as temporary:
            temporary.write_bytes(timings)
        write_hash(Path(request.timing_cache), hashlib.sha256(timings).hexdigest())
    return {
        "version": trt.__version__,
        "layers": layers,
        "inputs": [asdict(_tensor(network.get_input(i))) for i in range(network.num_inputs)],
        "outputs": [asdict(_tensor(network.get_output(i))) for i in range(network.num_outputs)],
        "build_s": round(time.perf_counter() - started, 2),
    }


def _prepared(path: str, *, native: bool) -> tuple[onnx.ModelProto, int]:
    """The model as the parser must see it, and the number of custom nodes.

    Where it finds both, the parser prefers the function body to the plugin, silently; so only one is left.
    """
    model = onnx.load(path)
    nodes = [node for node in model.graph.node if node.domain == DOMAIN]
    if native:
        del model.functions[:]
        for node in nodes:
            node.attribute.append(onnx.helper.make_attribute("plugin_namespace", DOMAIN))
            node.attribute.append(onnx.helper.make_attribute("plugin_version", str(VERSION)))
    else:
        # Inlined here, the nodes of the bodies get names of their own.
        model = onnx.inliner.inline_local_functions(model)
    return model, len(nodes)


def _check_capability(trt: Any, sm: int) -> None:
    if not hasattr(trt.ComputeCapability, f"SM{sm}"):
        known = ", ".join(name.lower() for name in trt.ComputeCapability.__members__ if name.startswith("SM"))
        raise BackendError(
            f"TensorRT-RTX {trt.__version__} does not build for sm{sm}, only for {known}; give another --gpu, or build "
            "with full TensorRT on that GPU"
        )


def _check_unversioned_library() -> None:
    """Open the library by the name at which TensorRT-RTX's parser, meeting a plugin, would else end the process."""
    try:
        ctypes.CDLL("libtensorrt_rtx.so")
    except OSError as error:
        raise BackendError(
            f"libtensorrt_rtx.so cannot be opened ({error}), without which TensorRT-RTX cannot use plugins; use "
            "--plugins off, and report this"
        ) from error


def _strongly_typed(trt: Any) -> int:
    flag = getattr(trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED", None)
    return 0 if flag is None else 1 << int(flag)


def _count_layers(network: Any) -> LayerCounts:
    counts: dict[str, Counter[str]] = {}
    for index in range(network.num_layers):
        layer = network.get_layer(index)
        dtype = _name(layer.get_output(0).dtype) if layer.num_outputs else "NONE"
        counts.setdefault(_name(layer.type), Counter())[dtype] += 1
    return {kind: dict(sorted(counter.items())) for kind, counter in sorted(counts.items())}


def _name(member: Any) -> str:
    return str(member).rpartition(".")[2]


def _tensor(tensor: Any) -> EngineTensor:
    return EngineTensor(tensor.name, _name(tensor.dtype), tuple(tensor.shape))


def _config(trt: Any, builder: Any, network: Any, request: BuildRequest) -> Any:
    config = builder.create_builder_config()
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    config.progress_monitor = _progress_monitor(trt)
    config.clear_flag(trt.BuilderFlag.TF32)  # or float32 convolutions would drop 13 of their 23 bits
    if request.spec.flavour == "rtx":
        config.num_compute_capabilities = 1
        config.set_compute_capability(getattr(trt.ComputeCapability, f"SM{request.spec.target.sm}"), 0)
    if request.timing_cache:
        path = Path(request.timing_cache)
        cache = config.create_timing_cache(path.read_bytes() if path.is_file() else b"")
        if not config.set_timing_cache(cache, ignore_mismatch=False):  # of another card of the same capability
            config.set_timing_cache(config.create_timing_cache(b""), ignore_mismatch=False)
    inputs = [network.get_input(i) for i in range(network.num_inputs)]
    if any(-1 in tuple(tensor.shape) for tensor in inputs):
        profile = builder.create_optimization_profile()
        for tensor in inputs:
            sizes = request.spec.sizes
            profile.set_shape(tensor.name, *(_tensor(tensor).at(s) for s in (sizes.least, sizes.best, sizes.most)))
        config.add_optimization_profile(profile)
    return config


def _collecting_logger(trt: Any) -> Any:
    """Logger that keeps the errors for the message, and is silent."""

    class CollectingLogger(trt.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.errors: list[str] = []

        def log(self, severity: Any, message: str) -> None:
            if severity in (trt.ILogger.Severity.ERROR, trt.ILogger.Severity.INTERNAL_ERROR):
                self.errors.append(message.strip())

    return CollectingLogger()


def _progress_monitor(trt: Any) -> Any:
    """Monitor of the outermost phase's steps, with the name of the innermost; inner phases have thousands."""

    class ProgressMonitor(trt.IProgressMonitor):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)
            self.outermost, self.done, self.total = "", 0, 0

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            if parent_phase is None:
                self.outermost, self.done, self.total = phase_name, 0, num_steps
            _send({"phase": phase_name, "done": self.done, "total": self.total})

        def step_complete(self, phase_name: str, step: int) -> bool:
            if phase_name == self.outermost:
                self.done = step + 1
                _send({"phase": phase_name, "done": self.done, "total": self.total})
            return True

        def phase_finish(self, phase_name: str) -> None:
            pass

    return ProgressMonitor()


if __name__ == "__main__":
    sys.exit(main())
