"""What is said of the bundled networks, against the files it was measured in."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from command import run

from ksnet_deploy.base.frames import FrameSize
from ksnet_deploy.export.cache import cache_folder, cached_files
from ksnet_deploy.measure.models import list_models, purposes
from ksnet_deploy.measure.speeds import keep_speed, measured_speeds
from ksnet_deploy.network.bundled import bundled_checkpoint, bundled_names

RESULTS = Path(__file__).parents[2] / "benchmarks" / "results"


@pytest.fixture(autouse=True)
def _empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KSNET_CACHE_DIR", str(tmp_path / "cache"))


@pytest.mark.slow
@pytest.mark.skipif(not RESULTS.is_dir(), reason="needs a checkout")
def test_quality_is_what_was_measured_with_these_weights() -> None:
    models = {model.name: model for model in list_models().models}
    assert sorted(models) == bundled_names()
    for name in ("lite", "uni"):
        vid4 = json.loads((RESULTS / f"vid4-{name}.json").read_text())["mean"]["psnr_db"]
        assert models[name].vid4_psnr_db == round(vid4, 2)
        validation = json.loads((RESULTS / f"validation-{name}.json").read_text())["mean_gain"]
        assert models[name].validation_gain_db == round(validation, 2)
    for row in json.loads((RESULTS / "compressed-lite.json").read_text()):
        if row["method"] in models and row["quality"] == 23:
            assert models[row["method"]].h264_crf23_gain_db == round(row["gain_db"], 2)
        if row["method"] == "lite-video" and row["quality"] is None:
            assert models["lite-video"].validation_gain_db == round(row["gain_db"], 2)


def test_speeds_and_cached_files_are_listed_where_there_are_some() -> None:
    assert "not measured here; run ksnet-deploy bench --model lite" in list_models().as_text()
    keep_speed(bundled_checkpoint("lite"), FrameSize(72, 128), "onnxruntime on cpu", "file", 12.0)
    keep_speed(bundled_checkpoint("lite"), FrameSize(72, 128), "onnxruntime on cpu", "file", 16.1)
    for name in (
        "lite-72x128-uint8-fp32-0123.onnx",
        "lite-video-36x64-uint8-fp32-4.onnx",
        "mine-9x9-uint8-fp32-5.onnx",
    ):
        (cache_folder() / name).touch()
    found = list_models()
    lite = next(model for model in found.models if model.name == "lite")
    assert [(one.fps, one.size) for one in lite.speeds] == [(16.1, "72x128")]
    assert lite.cached == ["lite-72x128-uint8-fp32-0123.onnx"]
    assert found.others == ["mine-9x9-uint8-fp32-5.onnx"]
    text = found.as_text()
    assert "16.10 fps at 72x128, onnxruntime on cpu" in text
    assert "0.54 M parameters" in text
    assert "licence   research / non-commercial" in text


def test_a_damaged_file_of_speeds_is_as_none_and_clearing_removes_it() -> None:
    keep_speed(bundled_checkpoint("lite"), FrameSize(72, 128), "onnxruntime on cpu", "step", 20.0)
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
