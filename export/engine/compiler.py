"""The process that builds an engine: ``python -m ksnet_deploy.export.engine.compiler``, a request as JSON on its input.

TensorRT may abort, exhaust the memory or hang, and its plugins need an environment that is set before the process
starts; so it gets a process of its own, which ends when its input is closed. Answers are lines of JSON on its output:
``{"phase", "done", "total"}`` while it builds, then ``{"report"}`` or ``{"error"}``.
"""

from __future__ import annotations

import ctypes
import json
import os
import sys
import threading
import time
from collections import Counter
from collections.abc import Collection
from dataclasses import asdict
from pathlib import Path
from typing import Any

import onnx
import onnx.inliner

from ksnet_deploy.base.errors import BackendError, KSNetError
from ksnet_deploy.export.engine.layers import check_layers
from ksnet_deploy.export.engine.loaders import parsed_network, write_engine
from ksnet_deploy.export.engine.request import BuildRequest
from ksnet_deploy.export.polygraphy import errors_of_polygraphy
from ksnet_deploy.ops.functions import ALIGN, DOMAIN, VERSION
from ksnet_deploy.runtime.tensorrt.sidecar import EngineTensor, LayerCounts
from ksnet_deploy.runtime.tensorrt.target import FLAVOURS, import_tensorrt

__all__ = ["WITHOUT_ALIGN", "main"]

WITHOUT_ALIGN = (
    "The native plugin library is of an earlier version, which has only the sampling and the product of the alignment; "
    "build it again with 'ksnet-deploy build-plugins' for all of it in one plugin."
)
"""Note of an engine whose alignments are their bodies, around the deformable convolution."""


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
    operators = None
    if request.plugins:
        if request.spec.flavour == "rtx":
            _check_unversioned_library()
        from ksnet_deploy.ops.library import load_plugins

        operators = load_plugins(trt, Path(request.plugins))
    if request.onnx is None:
        return {}
    model, custom_nodes, note = _prepared(request.onnx, operators)
    started = time.perf_counter()
    with errors_of_polygraphy() as errors:
        parsed = parsed_network(trt, model, request, errors)
        network = parsed[1]
        layers = _count_layers(network)
        check_layers(layers, request.spec.precision, custom_nodes, with_plugins=operators is not None)
        write_engine(trt, parsed, request, errors, _progress_monitor(trt))
    return {
        "version": trt.__version__,
        "layers": layers,
        "note": note,
        "inputs": [asdict(_tensor(network.get_input(i))) for i in range(network.num_inputs)],
        "outputs": [asdict(_tensor(network.get_output(i))) for i in range(network.num_outputs)],
        "build_s": round(time.perf_counter() - started, 2),
    }


def _prepared(path: str, operators: Collection[str] | None) -> tuple[onnx.ModelProto, int, str | None]:
    """The model as the parser must see it, the number of custom nodes, and what the user is to be told.

    ``operators`` are those that there are plugins for, where plugins are to be taken. Where it finds both, the parser
    prefers the function body to the plugin, silently; so only one is left.
    """
    model, note = onnx.load(path), None
    nodes = [node for node in model.graph.node if node.domain == DOMAIN]
    if operators is not None:
        if ALIGN not in operators and any(node.op_type == ALIGN for node in nodes):
            note = WITHOUT_ALIGN
            model = onnx.inliner.inline_selected_functions(model, [(DOMAIN, ALIGN)])
            nodes = [node for node in model.graph.node if node.domain == DOMAIN]
        del model.functions[:]
        for node in nodes:
            node.attribute.append(onnx.helper.make_attribute("plugin_namespace", DOMAIN))
            node.attribute.append(onnx.helper.make_attribute("plugin_version", str(VERSION)))
    else:
        # Inlined here, the nodes of the bodies get names of their own.
        model = onnx.inliner.inline_local_functions(model)
    return model, len(nodes), note


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
