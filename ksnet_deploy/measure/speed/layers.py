"""Shares of the layer types in a step, from ONNX Runtime's own profile."""

from __future__ import annotations

import json
import tempfile
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from ksnet_deploy.base.frames import FrameSize
from ksnet_deploy.runtime.pair import files_of

__all__ = ["LAYER_TYPES", "in_shares", "layer_shares", "shares_of"]

LAYER_TYPES = {
    "convolutions": {"Conv", "FusedConv", "NhwcFusedConv"},
    "DeformConv": {"DeformConv", "KsAlign"},
    "GridSample": {"GridSample"},
    "layout": {
        *("ReorderInput", "ReorderOutput", "Transpose", "Concat", "Split", "Slice", "Reshape", "Pad", "Expand"),
        *("Tile", "Unsqueeze", "Squeeze", "DepthToSpace", "Identity", "Gather", "GatherND"),
    },
    "ranking": {"TopK", "ReduceMean", "Range", "GreaterOrEqual"},
    "resizing": {"Resize", "Upsample", "AveragePool", "MaxPool"},
}
"""Types by the operators of ONNX Runtime that belong to them; all others are elementwise."""
ELEMENTWISE = "elementwise"


def layer_shares(path: Path, size: FrameSize, frames: Sequence[NDArray[Any]], device: str = "cpu") -> dict[str, float]:
    """Share of each layer type in the time of some steps, the first left out; from most to least.

    Args:
        path: an exported file, or the name of a pair.
        frames: two or more, of the size.
    """
    from ksnet_deploy.runtime.onnx import OnnxRunner

    events: list[dict[str, Any]] = []
    features: list[list[NDArray[Any]]] = [[] for _ in frames]
    with tempfile.TemporaryDirectory() as folder:
        for file in files_of(path):
            with OnnxRunner(file, size, device=device, profile=Path(folder) / file.stem) as runner:
                given = [runner.step(frame, *each) for frame, each in zip(frames, features, strict=True)]
                events += _without_first_run(json.loads(runner.end_profile().read_text()))
            features = [[each] for each in given]
    return shares_of(events)


def _without_first_run(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    ends = [event["ts"] + event["dur"] for event in events if event.get("name") == "model_run"]
    return [event for event in events if event.get("ts", 0) >= min(ends, default=0)]


def shares_of(events: Iterable[dict[str, Any]]) -> dict[str, float]:
    """Share of each layer type in the kernels' times of a profile; they add up to 1."""
    times: dict[str, float] = defaultdict(float)
    kinds = {operator: kind for kind, operators in LAYER_TYPES.items() for operator in operators}
    for event in events:
        if event.get("cat") == "Node" and event["name"].endswith("_kernel_time"):
            times[kinds.get(event["args"]["op_name"], ELEMENTWISE)] += event["dur"]
    return in_shares(times)


def in_shares(times: Mapping[str, float]) -> dict[str, float]:
    """Times as shares of their sum, from most to least; none where that is 0."""
    total = sum(times.values())
    return {kind: spent / total for kind, spent in sorted(times.items(), key=lambda item: -item[1])} if total else {}
