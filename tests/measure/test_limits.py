"""The roofline: operations as PyTorch counts them, and the floor that follows from peaks."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from ksnet_deploy.base.errors import ArtifactError, BackendError, ConfigError
from ksnet_deploy.base.frames import FrameSize
from ksnet_deploy.export.onnx import export_onnx
from ksnet_deploy.measure.limits.cards import CARDS, find_card_figures
from ksnet_deploy.measure.limits.floor import estimate_text, floor_of, layers_of_file
from ksnet_deploy.measure.limits.peaks import Peaks, cpu_peaks, gpu_peaks
from ksnet_deploy.measure.limits.work import Layer
from ksnet_deploy.measure.speed.limits import Limits
from ksnet_deploy.measure.speed.ways import all_ways
from ksnet_deploy.network.bundled import bundled_checkpoint
from ksnet_deploy.network.checkpoints import load_checkpoint
from ksnet_deploy.network.complexity import complexity


@pytest.mark.slow
@pytest.mark.parametrize("model", ["lite", "uni"])
@pytest.mark.parametrize("inline", [False, True], ids=["functions", "inlined"])
def test_operations_are_what_pytorch_counts(model: str, inline: bool, tmp_path: Path) -> None:
    checkpoint, size = load_checkpoint(bundled_checkpoint(model)), FrameSize(72, 128)
    export_onnx(checkpoint, tmp_path / "step.onnx", size=size, inline=inline)
    counted = sum(layer.operations for layer in layers_of_file(tmp_path / "step.onnx"))
    assert counted == pytest.approx(2e9 * complexity(checkpoint.config, size).gmacs_deploy, rel=0.01)


def test_a_layer_takes_the_longer_of_its_two_times() -> None:
    layers = [Layer("a", "Conv", 4_000_000, 1_000, False), Layer("b", "Conv", 1_000, 4_000_000, False)]
    floor = floor_of(layers, Peaks(1e9, 2e9, "told"))
    assert floor.ms == pytest.approx(4 + 2)
    assert (floor.compute_ms, floor.memory_ms) == (pytest.approx(4.001), pytest.approx(2.0005))
    assert floor.reached(12) == pytest.approx(0.5)


@pytest.mark.slow
def test_layers_have_bytes_and_a_file_for_any_size_has_none(small_onnx: Callable[..., Path]) -> None:
    path = small_onnx("32x48")
    convolutions = [layer for layer in layers_of_file(path) if layer.kind == "Conv"]
    assert not any(layer.half for layer in convolutions)
    assert all(layer.bytes > 0 for layer in convolutions)
    with pytest.raises(ArtifactError, match="are not known"):
        layers_of_file(small_onnx(None))


def test_an_estimate_calls_itself_one_and_names_its_source() -> None:
    layers = [Layer("a", "Conv", 10**11, 10**8, True)]
    card = find_card_figures("RTX 3080")
    text = estimate_text("uni", FrameSize(180, 320), layers, card)
    assert text.startswith("ESTIMATE, not a measurement")
    assert card.source in text
    assert "at least 0.84 to 1.68 ms" in text  # 1e11 operations at 119 and 59.5 T/s
    small = [Layer("a", "Conv", 10**9, 10**6, True)]
    assert "at least 0.0084 to 0.0168 ms" in estimate_text("lite", FrameSize(16, 16), small, card)
    with pytest.raises(ConfigError, match="give one of rtx3070, rtx3080"):
        find_card_figures("rtx9999")
    assert all(card.tflops_fp16_sum >= card.tflops_fp32_sum for card in CARDS.values())


def test_peaks_of_this_machine_are_measured() -> None:
    peaks = cpu_peaks(seconds=0.1)
    assert peaks.operations_per_s > 1e8
    assert peaks.bytes_per_s > 1e8
    assert "measured here" in peaks.source


def test_a_gpu_that_pytorch_does_not_see_has_no_limit_and_costs_no_result(
    small_onnx: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(BackendError, match="PyTorch finds no CUDA device"):
        gpu_peaks()
    way = next(way for way in all_ways() if way.name == "onnxruntime-cuda")
    assert Limits({"fp16": small_onnx("32x48")}).of(way) is None
