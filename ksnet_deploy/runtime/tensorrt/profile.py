"""Time of an engine's layers, by TensorRT's IProfiler. Not yet run on a GPU: tested with a stand-in."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

__all__ = ["UNKNOWN", "kinds_of_layers", "profiled"]

UNKNOWN = "of unknown type"
"""Type of layers that the inspector does not name, as those of an engine that was built without their details."""


@contextmanager
def profiled(trt: Any, engine: Any, context: Any) -> Iterator[dict[str, float]]:
    """Milliseconds that the runs inside spend in the layers of each type, as TensorRT names the types.

    Runs are to be plain ones: those of a graph that was recorded before are not told. While it lasts, TensorRT waits
    for each run, and times each layer by itself.
    """
    kinds = kinds_of_layers(trt, engine, context)
    times: dict[str, float] = defaultdict(float)

    class Collector(trt.IProfiler):  # type: ignore[misc]  # of a module that is known at run time only
        def __init__(self) -> None:
            trt.IProfiler.__init__(self)  # TensorRT wants its own by name

        def report_layer_time(self, name: str, milliseconds: float) -> None:
            times[kinds.get(name, UNKNOWN)] += milliseconds

    context.profiler = Collector()
    try:
        yield times
    finally:
        context.profiler = None


def kinds_of_layers(trt: Any, engine: Any, context: Any) -> dict[str, str]:
    """Type of each layer by its name; without those that the inspector tells nothing of."""
    inspector = engine.create_engine_inspector()
    inspector.execution_context = context
    try:
        layers = json.loads(inspector.get_engine_information(trt.LayerInformationFormat.JSON)).get("Layers", [])
    except ValueError:
        return {}
    return {layer["Name"]: layer["LayerType"] for layer in layers if isinstance(layer, dict) and "LayerType" in layer}
