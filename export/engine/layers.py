"""Layers that an engine must consist of, checked on the network definition that TensorRT made of the ONNX file."""

from __future__ import annotations

from ksnet_deploy.base.errors import ArtifactError
from ksnet_deploy.network.config import Precision
from ksnet_deploy.runtime.tensorrt.sidecar import LayerCounts

__all__ = ["ISLANDS", "check_layers", "summary"]

ISLANDS = ("GRID_SAMPLE", "TOPK")
"""Layers that compute in float32 whatever the precision: sampling at coordinates, ranking of scores."""


def check_layers(layers: LayerCounts, precision: Precision, custom_nodes: int, *, with_plugins: bool) -> None:
    """Raise ArtifactError unless the layers have the types that were asked for.

    A parser may take a function body where a plugin was meant, and a runtime may widen what was meant to be half; both
    yield a working, slower engine, which is why they are looked for.

    Args:
        custom_nodes: nodes of the ``ksnet`` domain in the ONNX file.
        with_plugins: each of them must be a plugin layer; else none may be.
    """
    wanted = {"fp16": "HALF", "fp32": "FLOAT"}[precision]
    convolutions = layers.get("CONVOLUTION", {})
    if set(convolutions) != {wanted}:
        raise ArtifactError(
            f"the engine was to compute in {precision}, but its convolutions are {_counts(convolutions)}; export the "
            f"network again with --precision {precision}"
        )
    for kind in ISLANDS:
        found = layers.get(kind, {})
        if set(found) - {"FLOAT"}:
            raise ArtifactError(
                f"the engine's {kind} layers are {_counts(found)}, where float32 is needed (coordinates and scores "
                "lose too much in half); export the network again"
            )
    natives = [counts for kind, counts in layers.items() if kind.startswith("PLUGIN")]
    plugins = sum(sum(counts.values()) for counts in natives)
    expected = custom_nodes if with_plugins else 0
    if plugins != expected:
        raise ArtifactError(
            f"the engine has {plugins} plugin layers, where {expected} were expected; the plugin library and this "
            "version of TensorRT do not fit together, so use --plugins off and report this"
        )
    if any(set(counts) != {wanted} for counts in natives):
        raise ArtifactError(
            f"the engine was to compute in {precision}, but its plugins are {', '.join(map(_counts, natives))}; export "
            f"the network again with --precision {precision}"
        )
    if custom_nodes and not with_plugins and not layers.get("GRID_SAMPLE"):
        raise ArtifactError(
            "the engine samples nothing, though the network has deformable convolutions; export the network again"
        )


def summary(layers: LayerCounts) -> str:
    """The layers that matter, in one line."""
    shown = ("CONVOLUTION", *ISLANDS, *sorted(kind for kind in layers if kind.startswith("PLUGIN")))
    return "; ".join(f"{kind} {_counts(layers[kind])}" for kind in shown if kind in layers)


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{count} {dtype}" for dtype, count in sorted(counts.items())) or "absent"
