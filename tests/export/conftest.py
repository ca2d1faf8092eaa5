"""Fixtures of the tests of exports."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest
from caches import FLOAT, SIZE

from ksnet_deploy.export import cache
from ksnet_deploy.export import onnx as export
from ksnet_deploy.export.engine import compile as compiling
from ksnet_deploy.export.engine import make
from ksnet_deploy.export.proof.half import HalfReport
from ksnet_deploy.network.checkpoints import Checkpoint
from ksnet_deploy.runtime.tensorrt.target import GpuTarget


@pytest.fixture
def folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A cache of its own."""
    monkeypatch.setenv("KSNET_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def quick_export(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Exports that cost nothing: a graph of one node, marked with what was asked for. The list has one entry each."""
    made: list[str] = []
    values = [onnx.helper.make_tensor_value_info(name, FLOAT, [1, 32, 48, 3]) for name in ("lr", "state.prev_lr", "hr")]
    node = onnx.helper.make_node("Identity", ["lr"], ["hr"])
    graph = onnx.helper.make_graph([node], "g", values[:2], values[2:])

    def exported_model(_checkpoint: Checkpoint, **settings: object) -> onnx.ModelProto:
        asked = str({name: settings[name] for name in ("size", "io", "precision")})
        model = onnx.helper.make_model(graph)
        onnx.helper.set_model_props(model, {"ksnet.precision": str(settings["precision"]), "asked": asked})
        made.append(asked)
        return model

    monkeypatch.setattr(export, "exported_model", exported_model)
    monkeypatch.setattr(cache, "code_sha256", lambda: "code")
    return made


# Engines and proofs: TensorRT is stood for by a child process that answers, the comparison by its result.


@pytest.fixture
def builds(monkeypatch: pytest.MonkeyPatch, quick_export: list[str]) -> dict[str, int]:
    """Builds and comparisons that cost nothing, and their numbers."""
    counts = {"built": 0, "compared": 0}

    def in_child(request: compiling.BuildRequest, *_: object) -> dict[str, object]:
        if request.onnx is None:
            return {}
        counts["built"] += 1
        Path(request.engine).write_bytes(f"engine of {request.spec} from {request.onnx}".encode() * 20)
        return {
            "version": "1.7",
            "inputs": [],
            "outputs": [],
            "layers": {"CONVOLUTION": {"HALF": 85}},
            "note": None,
            "build_s": 1.0,
        }

    def verify(*_: object, frames: int, **__: object) -> HalfReport:
        counts["compared"] += 1
        return HalfReport(SIZE, frames // 2, psnr_db=[60.0] * frames)

    monkeypatch.setattr(compiling, "_in_child", in_child)
    monkeypatch.setattr(compiling, "installed_version", lambda _flavour: "1.7")
    monkeypatch.setattr(make, "choose_flavour", lambda _wanted: "rtx")
    monkeypatch.setattr(make, "target_of", lambda *_: (GpuTarget(86), False))
    monkeypatch.setattr("ksnet_deploy.export.verified.verify", verify)
    monkeypatch.setattr(compiling, "code_sha256", lambda: "code")
    assert quick_export == []
    return counts
