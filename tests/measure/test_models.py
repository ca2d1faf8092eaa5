"""What is said of the bundled networks, against the files it was measured in."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from benches import Bed
from command import run
from safetensors import safe_open

from ksnet_deploy.base.files import sha256_of
from ksnet_deploy.base.frames import FrameSize
from ksnet_deploy.export.cache import cache_folder, cached_files
from ksnet_deploy.measure.models import list_models, purposes
from ksnet_deploy.measure.speed.subjects import Subject
from ksnet_deploy.measure.speed.ways import int8_ways, way_name
from ksnet_deploy.measure.speeds import keep_speed, keep_speeds, measured_speeds
from ksnet_deploy.network.bundled import bundled_checkpoint, bundled_names
from ksnet_deploy.upscale.networks import NetworkFile

RESULTS = Path(__file__).parents[2] / "benchmarks" / "results"


@pytest.fixture(autouse=True)
def _empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KSNET_CACHE_DIR", str(tmp_path / "cache"))


@pytest.mark.slow
@pytest.mark.skipif(not RESULTS.is_dir(), reason="needs a checkout")
def test_quality_is_what_was_measured_with_these_weights() -> None:
    models = {model.name: model for model in list_models().models}
    assert sorted(models) == bundled_names()
    rows = json.loads((RESULTS / "compressed-lite.json").read_text())
    encoded = {row["method"]: round(row["gain_db"], 2) for row in rows if row["quality"] == 23}
    for name, model in models.items():
        vid4 = json.loads((RESULTS / f"vid4-{name}.json").read_text())["mean"]["psnr_db"]
        assert model.facts.vid4_psnr_db == round(vid4, 2)
        validation = json.loads((RESULTS / f"validation-{name}.json").read_text())
        assert validation["weights_sha256"] == sha256_of(model.path)
        assert model.facts.validation_gain_db == round(validation["mean_gain"], 2)
        assert model.facts.h264_crf23_gain_db == encoded.get(name), "or none, where it was not measured"


@pytest.mark.skipif(not RESULTS.is_dir(), reason="needs a checkout")
def test_the_card_has_the_figures_on_compressed_video() -> None:
    rows = json.loads((RESULTS / "compressed-lite.json").read_text())
    qualities = (None, 18, 23, 28, 33)
    gains = {(row["method"], row["quality"]): f"{row['gain_db']:+.2f} dB" for row in rows}
    assert {method for method, _ in gains} == {"bicubic", "lite", "lite-video"}
    card = (bundled_checkpoint("lite").parent / "MODEL_CARD.md").read_text()
    for name in ("lite", "lite-video"):
        assert f"| `{name}` | {' | '.join(gains[name, quality] for quality in qualities)} |" in card
        validation = json.loads((RESULTS / f"validation-{name}.json").read_text())
        told = f"| {validation['mean_gain']:+.2f} dB, least {validation['least_gain']:+.2f} dB; over 100 frames"
        (row,) = (line for line in card.splitlines() if line.startswith(f"| `{name}.safetensors`"))
        assert told in row
    words = " ".join(card.split())
    least = {row["quality"]: -row["least_gain_db"] for row in rows if row["method"] == "lite-video"}
    assert f"{-least[28]:.3f} dB above bicubic at H.264 CRF 28 and {least[33]:.2f} dB below it at 33" in words
    clean = {row["method"]: row["psnr_db"] for row in rows if row["quality"] is None}
    assert f"On clean video it is {clean['lite'] - clean['lite-video']:.2f} dB below lite" in words
    of_vid4 = json.loads((RESULTS / "compressed-vid4.json").read_text())
    flicker = {row["method"]: row["warping_error"] for row in of_vid4 if row["quality"] == 28}
    assert f"flickers by {100 * (flicker['lite-video'] / flicker['bicubic'] - 1):.0f} % more than bicubic" in words


@pytest.mark.skipif(not RESULTS.is_dir(), reason="needs a checkout")
def test_the_results_say_which_networks_were_trained_by_muon() -> None:
    by_muon = []
    for name in bundled_names():
        with safe_open(bundled_checkpoint(name), "np") as file:
            by_muon += [name] if "Muon" in file.metadata()["training"] else []
    assert by_muon == [*bundled_names()]
    words = " ".join((RESULTS.parents[1] / "docs" / "results.md").read_text().split())
    assert "All four bundled networks were trained on with Muon" in words


@pytest.mark.slow
def test_speeds_and_cached_files_are_listed_where_there_are_some() -> None:
    assert "not measured here; run ksnet-deploy bench --model lite" in list_models().as_text()
    keep_speed(bundled_checkpoint("lite"), FrameSize(72, 128), "onnxruntime-cpu", "file", 12.0)
    keep_speed(bundled_checkpoint("lite"), FrameSize(72, 128), "onnxruntime-cpu", "file", 16.1)
    for name in (
        "lite-72x128-uint8-fp32-0123.onnx",
        "lite-video-36x64-uint8-fp32-4.onnx",
        "uni-180x320x4-uint8-fp16-6.onnx",
        "uni-fp16-rtx-sm86-7.engine",
        "uni-fp16-180x320-uint8-fp32-8.onnx",
        "mine-9x9-uint8-fp32-5.onnx",
    ):
        (cache_folder() / name).touch()
    found = list_models()
    lite = next(model for model in found.models if model.name == "lite")
    assert [(one.fps, one.size) for one in lite.speeds] == [(16.1, "72x128")]
    assert lite.cached == ["lite-72x128-uint8-fp32-0123.onnx"]
    uni = next(model for model in found.models if model.name == "uni")
    assert uni.cached == ["uni-180x320x4-uint8-fp16-6.onnx", "uni-fp16-rtx-sm86-7.engine"]
    assert found.others == ["mine-9x9-uint8-fp32-5.onnx", "uni-fp16-180x320-uint8-fp32-8.onnx"]
    text = found.as_text()
    assert "16.10 fps at 72x128, onnxruntime-cpu" in text
    assert "0.54 M parameters" in text
    assert "licence   research / non-commercial" in text


def test_a_damaged_file_of_speeds_is_as_none_and_clearing_removes_it() -> None:
    keep_speed(bundled_checkpoint("lite"), FrameSize(72, 128), "onnxruntime-cpu", "step", 20.0)
    assert [one.fps for one in measured_speeds()] == [20.0]
    (speeds,) = cached_files()
    speeds.write_text(speeds.read_text().replace("20.0", "99.0"))
    assert measured_speeds() == []
    assert run("cache", "clear").returncode == 0
    assert not speeds.exists()


def test_the_command_gives_json_too() -> None:
    answer = json.loads(run("models", "--json").stdout)
    assert [model["name"] for model in answer["models"]] == bundled_names()
    assert all({"purpose", "bytes", "licence", "speeds", "cached"} <= set(model) for model in answer["models"])


def test_the_usual_networks_come_first_and_none_is_left_out() -> None:
    names = [name for name, _ in purposes()]
    assert names[:2] == ["lite", "lite-video"], "what the page in the browser previews"
    assert sorted(names) == bundled_names()


def test_a_speed_of_int8_takes_no_place_of_the_usual_one(monkeypatch: pytest.MonkeyPatch) -> None:
    bed = Bed(monkeypatch)
    report = bed.run({"torch-cpu": 0.1, "onnxruntime-cpu": 0.05})
    (group,) = report.groups
    usual = group.rows[1]
    int8 = replace(usual, way=int8_ways()[0], end_to_end_fps=2 * usual.end_to_end_fps)
    subject = Subject("lite", bundled_checkpoint("lite"), "checkpoint", group.size, [])
    keep_speeds([subject], replace(report, groups=[replace(group, rows=[usual, int8])]))
    kept = {one.runtime: one.fps for one in measured_speeds() if one.what == "file"}
    assert kept == {"onnxruntime-cpu": 5.0, "onnxruntime-cpu-int8": 10.0}
    keep_speed(bundled_checkpoint("lite"), group.size, "onnxruntime on cpu", "file", 99.0)  # as older versions did
    assert {one.runtime for one in measured_speeds()} == {"onnxruntime-cpu", "onnxruntime-cpu-int8"}


@pytest.mark.parametrize("bfloat16", [False, True])
def test_a_network_that_upscale_runs_has_the_name_of_its_way(bfloat16: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("measure.speed.ways", "runtime.openvino"):
        monkeypatch.setattr(f"ksnet_deploy.{module}.has_bfloat16", lambda: bfloat16)

    def name(backend: str, device: str, wanted: Any = "auto") -> str:
        return way_name(NetworkFile("lite", Path("lite"), "checkpoint", backend, device, wanted))

    assert name("onnxruntime", "cpu") == "onnxruntime-cpu"
    assert name("onnxruntime", "cpu", "int8") == "onnxruntime-cpu-int8"
    assert name("openvino", "cpu") == f"openvino-cpu-{'bfloat16' if bfloat16 else 'float32'}"
    assert name("openvino", "cpu", "fp32") == "openvino-cpu-float32"
    assert name("torch", "cuda") == "torch-cuda"
    assert name("tensorrt", "cuda") == "tensorrt"
