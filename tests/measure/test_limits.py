"""The roofline: operations as PyTorch counts them, and the floor that follows from peaks."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from command import failure_of, run
from torch.utils.flop_counter import FlopCounterMode

from ksnet_deploy.base.errors import ArtifactError, BackendError, ConfigError
from ksnet_deploy.base.frames import FrameSize
from ksnet_deploy.export.onnx import export_onnx
from ksnet_deploy.measure.limits.cards import CARDS, find_card_figures
from ksnet_deploy.measure.limits.floor import estimate_text, floor_of, layers_of_file
from ksnet_deploy.measure.limits.peaks import Peaks, cpu_peaks, gpu_peaks
from ksnet_deploy.measure.limits.work import Layer
from ksnet_deploy.measure.speed import limits
from ksnet_deploy.measure.speed.limits import Limits, MeasuredPeaks
from ksnet_deploy.measure.speed.ways import all_ways, ways_of_file
from ksnet_deploy.network.bundled import bundled_checkpoint
from ksnet_deploy.network.checkpoints import load_checkpoint
from ksnet_deploy.network.complexity import complexity
from ksnet_deploy.network.folding import fold

NOTHING = Peaks(1.0, 1.0, "told")


@pytest.mark.slow
@pytest.mark.parametrize("model", ["lite", "uni"])
@pytest.mark.parametrize("inline", [False, True], ids=["functions", "inlined"])
def test_operations_are_what_pytorch_counts(model: str, inline: bool, tmp_path: Path) -> None:
    checkpoint, size = load_checkpoint(bundled_checkpoint(model)), FrameSize(72, 128)
    export_onnx(checkpoint, tmp_path / "step.onnx", size=size, inline=inline)
    network = fold(checkpoint.model).to("meta")
    window = torch.empty(1, 1, 3, size.height, size.width, device="meta")  # one frame: each takes the same work
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        network.forward_window(window)
    counted = sum(layer.operations for layer in layers_of_file(tmp_path / "step.onnx"))
    assert counted == pytest.approx(counter.get_total_flops(), rel=0.01)
    assert 2e9 * complexity(checkpoint.config, size).gmacs_deploy == counter.get_total_flops()


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
    data_centre = estimate_text("uni", FrameSize(180, 320), layers, find_card_figures("a100"))
    assert "at least 0.321 ms a step on the A100 40 GB, 3120 frames per second at most" in data_centre
    large = [Layer("a", "Conv", 10**14, 10**8, True)]
    assert "at least 840 to 1681 ms" in estimate_text("uni", FrameSize(4320, 7680), large, card)
    assert "0.595 to 1.19 frames per second" in estimate_text("uni", FrameSize(4320, 7680), large, card)
    with pytest.raises(ConfigError, match="give one of rtx3070, rtx3080"):
        find_card_figures("rtx9999")
    assert all(card.tflops_fp16_sum >= card.tflops_fp32_sum for card in CARDS.values())


@pytest.mark.parametrize("installed", [True, False])
def test_peaks_of_this_machine_are_measured(installed: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not installed:
        monkeypatch.setattr("ksnet_deploy.measure.limits.peaks.find_spec", lambda _name: None)
        monkeypatch.setitem(sys.modules, "onnxruntime", None)
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
    assert Limits({"fp16": small_onnx("32x48")}, MeasuredPeaks()).of(way) is None


def test_a_floor_is_of_the_file_that_runs_and_of_what_it_is_computed_in(
    small_onnx: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "cpu_peaks", lambda *, bfloat16, **_: Peaks(1e9, 1e9, f"bfloat16: {bfloat16}"))
    wide, half = small_onnx("32x48"), small_onnx("32x48", precision="fp16")
    for precision, path, has, native in (
        ("fp32", wide, True, False),
        ("fp16", half, True, True),
        ("fp16", half, False, False),
    ):
        for module in (limits, "ksnet_deploy.measure.speed.ways"):
            where = module if isinstance(module, str) else module.__name__
            monkeypatch.setattr(f"{where}.has_bfloat16", lambda has=has: has)
        on_cpu = [way for way in ways_of_file("onnx", precision) if way.device == "cpu"]
        floors = [Limits({precision: path}, MeasuredPeaks()).of(way) for way in on_cpu]
        assert [floor and floor.peaks.source for floor in floors] == ["bfloat16: False", f"bfloat16: {native}"]
        assert [floor and floor.megabytes for floor in floors] == [
            floor_of(layers_of_file(path), NOTHING).megabytes
        ] * 2


def test_the_greatest_of_all_peaks_bounds_every_network(
    small_onnx: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    found = iter([Peaks(2e9, 5e9, "told"), Peaks(3e9, 4e9, "told"), Peaks(1e9, 1e9, "told")])
    monkeypatch.setattr(limits, "cpu_peaks", lambda **_: next(found))
    way = next(way for way in all_ways() if way.name == "onnxruntime-cpu")
    peaks = MeasuredPeaks()
    bounded = Limits({"fp32": small_onnx("32x48")}, peaks)
    floors = [bounded.of(way)]
    for _ in range(2):
        peaks.measure([way])
        floors.append(bounded.of(way))
    rates = [(floor.peaks.operations_per_s, floor.peaks.bytes_per_s) for floor in floors if floor]
    assert rates == [(2e9, 5e9), (3e9, 5e9), (3e9, 5e9)]


def test_an_estimate_of_a_file_is_at_its_size_and_in_its_precision(small_onnx: Callable[..., Path]) -> None:
    path = small_onnx("32x48")
    text = run("bench", "-m", path, "--estimate", "rtx3080").stdout
    assert f"{path} at 32x48 takes at least" in text
    assert "layers in float32;" in text
    assert "Those rates are of half; in float32 it takes longer." in text
    half = run("bench", "-m", small_onnx("32x48", "float32", precision="fp16"), "--estimate", "rtx3080").stdout
    assert "layers in half;" in half
    assert "it takes longer" not in half
    refused = failure_of(run("bench", "-m", path, "-s", "64x64", "--estimate", "rtx3080"))
    assert "takes frames of 32x48 (height x width), not 64x64" in refused
    assert run("bench", "-m", path, "-m", path, "-s", "32x48", "--estimate", "rtx3080").stdout == text
