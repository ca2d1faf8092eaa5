"""Exported files where a command takes a network: `info` and `bench`."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import onnx
import pytest
from command import failure_of, run

from ksnet_deploy.base.files import sha256_of
from ksnet_deploy.base.frames import FrameSize
from ksnet_deploy.measure.speed.subjects import find_subjects
from ksnet_deploy.network.checkpoints import Checkpoint
from ksnet_deploy.runtime.tensorrt.sidecar import Sidecar
from ksnet_deploy.runtime.tensorrt.spec import EngineSpec
from ksnet_deploy.runtime.tensorrt.target import GpuTarget, SizeRange

SmallOnnx = Callable[..., Path]


@pytest.fixture
def engine(small: Checkpoint, tmp_path: Path) -> Path:
    """A file named as an engine, and its sidecar; there is no GPU to build a real one for."""
    path = tmp_path / "small.engine"
    path.write_bytes(b"a plan")
    sizes = SizeRange(*map(FrameSize.parse, ("16x16", "24x40", "64x64")))
    metadata = {"ksnet.config": small.config.to_json(), "ksnet.weights_sha256": small.sha256, "ksnet.version": "0.1.0"}
    spec = EngineSpec("rtx", GpuTarget(86), "fp16", sizes)
    Sidecar(spec, sha256_of(path), "", "1.7.1", "small.pth", (), (), {}, metadata, 1.0).write(path)
    return path


@pytest.mark.parametrize(("size", "shown"), [("32x48", "32x48"), pytest.param(None, "180x320", marks=pytest.mark.slow)])
def test_info_tells_what_an_exported_file_was_made_of(
    small: Checkpoint, small_onnx: SmallOnnx, size: str | None, shown: str
) -> None:
    path = small_onnx(size)
    of_file = json.loads(run("info", "--model", path, "--json").stdout)
    of_checkpoint = json.loads(run("info", "--model", small.path, "--size", shown, "--json").stdout)
    facts = of_file.pop("exported")
    assert of_file == of_checkpoint
    assert facts["frames"] == f"{size or 'of any size'} (height x width), uint8"
    assert (facts["precision"], facts["weights (SHA-256)"]) == ("fp32", small.sha256)
    text = run("info", "--model", path, "--size", "64x64").stdout
    assert "custom operators:" in text
    assert "at 64x64" in text


def test_info_tells_what_an_engine_is_without_its_gpu(small: Checkpoint, engine: Path) -> None:
    answer = json.loads(run("info", "--model", engine, "--json").stdout)
    assert answer["config"] == json.loads(small.config.to_json())
    assert answer["size"] == "24x40"
    assert answer["exported"]["made of"] == "small.pth"
    assert answer["exported"]["GPU"] == "sm86"
    assert answer["exported"]["compared with float32"] == "no"


@pytest.mark.parametrize("command", ["info", "bench", "export", "upscale", "build-engine"])
@pytest.mark.parametrize("suffix", [".onnx", ".engine"])
def test_a_missing_exported_file_is_not_called_a_checkpoint(
    command: str, suffix: str, tmp_path: Path, clip: Path
) -> None:
    missing = tmp_path / f"foo{suffix}"
    first = {"export": ["out.onnx"], "upscale": [clip], "build-engine": ["--gpu", "rtx3080"]}.get(command, [])
    sentence = failure_of(run(command, *first, "--model", missing))
    assert "the checkpoint" not in sentence or "that it was made of" in sentence
    known = command in ("info", "bench", "upscale") or (suffix == ".onnx" and command == "build-engine")
    assert (f"{missing} does not exist" in sentence) == known, sentence


def test_what_does_not_say_what_it_was_made_of_is_refused(small_onnx: SmallOnnx, tmp_path: Path) -> None:
    model, path = onnx.load(small_onnx("32x48")), tmp_path / "a.onnx"
    del model.metadata_props[:]
    onnx.save(model, path)
    for command in ("info", "bench"):
        assert "does not say what network it was made of" in failure_of(run(command, "--model", path))


def test_settings_of_an_exported_file_are_fixed(small_onnx: SmallOnnx) -> None:
    result = run("info", "--model", small_onnx("32x48"), "--set", "keep_ratio=0.5")
    assert "whose settings are fixed; give a checkpoint for --set" in failure_of(result)


def test_bench_takes_an_exported_file_at_its_own_size(small_onnx: SmallOnnx) -> None:
    (subject,) = find_subjects([str(small_onnx("32x48"))], None, None)
    assert subject.size == FrameSize(32, 48)
    assert {way.backend for way in subject.ways} <= {"onnxruntime", "openvino"}
    assert next(way.name for way in subject.ways) == "onnxruntime-cpu"
    other = failure_of(run("bench", "--model", small_onnx("32x48"), "--size", "40x48"))
    assert "takes frames of 32x48 (height x width), not 40x48" in other


def test_bench_says_why_an_engine_does_not_run_without_its_gpu(engine: Path) -> None:
    assert "nothing here runs this network: TensorRT-RTX" in failure_of(run("bench", "--model", engine))
