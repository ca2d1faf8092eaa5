"""The library as people use it: its public names, and what it says to values that cannot be."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from clips import folder_of_frames, noise
from media import make_video
from runners import RepeatRunner

import ksnet_deploy
from ksnet_deploy import KSNetError, Upscaler, upscale_video
from ksnet_deploy.base.frames import FrameSize

FRAME = np.zeros((16, 24, 3), np.uint8)


def test_the_public_names_are_these_and_can_be_fetched() -> None:
    public = [name for name in dir(ksnet_deploy) if not name.startswith("_")]
    modules = {path.stem for path in Path(ksnet_deploy.__file__).parent.iterdir()}
    helpers = {"TYPE_CHECKING", "Any", "annotations", "import_module"}
    assert set(public) - modules - helpers == set(ksnet_deploy.__all__) - {"__version__"}
    for name in ksnet_deploy.__all__:
        assert getattr(ksnet_deploy, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'downscale'"):
        _ = ksnet_deploy.downscale


def test_importing_the_package_loads_neither_numpy_nor_pytorch() -> None:
    code = "import sys, ksnet_deploy; assert not {'numpy', 'torch', 'av', 'onnx'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (
            lambda: Upscaler("lite", backend="trt"),
            "there is no runtime 'trt'; give auto, tensorrt, rtx, torch, onnxruntime or openvino",
        ),
        (lambda: Upscaler("lite", device="tpu"), "there is no device 'tpu'; give auto, cpu or cuda"),
        (lambda: Upscaler("lite", tiles="banana"), "'banana' is no size of tiles"),
        (lambda: Upscaler(Path("none.safetensors")), "the checkpoint none.safetensors does not exist"),
        (lambda: Upscaler("none.onnx"), "none.onnx does not exist or is not a file; make one with"),
        (lambda: Upscaler("none.engine"), "make one with 'ksnet-deploy build-engine'"),
        (lambda: Upscaler(""), "'' is not a checkpoint"),
        (lambda: ksnet_deploy.evaluate("none", ""), "'' is not a checkpoint"),
        (lambda: Upscaler("huge"), "no checkpoint named 'huge' ships with ksnet-deploy; there is bi, lite"),
        (lambda: ksnet_deploy.evaluate("none", protocol="vid5"), "there is no protocol 'vid5'; give vid4"),
        (lambda: ksnet_deploy.evaluate("none", codec="h266"), "there is no codec 'h266'"),  # type: ignore[arg-type]
        (lambda: ksnet_deploy.evaluate("none", method="lanczos"), "method 'lanczos'; give network"),  # type: ignore[arg-type]
        (lambda: ksnet_deploy.evaluate("none", degradation="bd"), "measure 'bd'; give BI, BD or video"),  # type: ignore[arg-type]
        (lambda: ksnet_deploy.evaluate("none", space="yuv"), "there is no space 'yuv'; give y or"),  # type: ignore[arg-type]
        (lambda: ksnet_deploy.export_onnx("lite", "x.txt"), "does not end in .onnx"),
        (lambda: ksnet_deploy.export_onnx("a.onnx", "x.onnx"), "has the name of an exported file, and only"),
        (lambda: ksnet_deploy.export_onnx(Path("a.ENGINE"), "x.onnx"), "has the name of an exported file, and only"),
        (lambda: ksnet_deploy.export_onnx("lite", "x.onnx", "big"), "'big' is not a frame size"),
        (lambda: ksnet_deploy.build_engine("lite", "x.onnx"), "does not end in .engine"),
        (lambda: ksnet_deploy.compare("a.mp4", "b.mp4"), "a.mp4 does not exist"),
    ],
)
def test_what_cannot_be_is_refused_in_one_sentence(make: Callable[[], Any], words: str) -> None:
    with pytest.raises(KSNetError) as caught:
        make()
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("frame", [None, "frame", 3, FRAME[0], FRAME.astype(np.float32), [[1, 2], [3, 4]]])
def test_what_is_no_frame_is_refused_in_one_sentence(frame: Any) -> None:
    with Upscaler(open_runner=RepeatRunner) as upscaler, pytest.raises(KSNetError, match="cannot be upscaled; give"):
        upscaler.push(frame)


@pytest.mark.parametrize("frame", [FRAME, torch.from_numpy(FRAME), FRAME.tolist(), torch.from_numpy(FRAME).numpy()])
def test_frames_of_any_library_are_taken(frame: Any) -> None:
    with Upscaler(open_runner=RepeatRunner) as upscaler:
        if isinstance(frame, list):
            frame = np.array(frame, np.uint8)
        assert upscaler.push(frame).shape == (64, 96, 3)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"height": "high"}, "'high' is not a target height"),
        ({"start_s": "soon"}, "'soon' is not a time"),
        ({"codec": "h265x"}, "there is no encoder 'h265x'"),
        ({"start_s": 2, "end_s": 1}, "ends before it starts"),
        ({"rate": "fast"}, "'fast' is not a frame rate"),
    ],
)
def test_settings_that_cannot_be_are_refused(tmp_path: Path, settings: dict[str, Any], words: str) -> None:
    source = make_video(tmp_path / "v.mp4", FrameSize(32, 48), frames=5)
    with pytest.raises(KSNetError, match=words):
        upscale_video(source, tmp_path / "o.mp4", Upscaler(open_runner=RepeatRunner), **settings)


@pytest.mark.parametrize("kind", [str, Path])
def test_paths_and_settings_are_taken_as_text_too(tmp_path: Path, kind: Callable[[Path], Any]) -> None:
    source = make_video(tmp_path / "v.mp4", FrameSize(32, 64), frames=10)
    result = upscale_video(
        kind(source),
        kind(tmp_path / "o.mkv"),
        Upscaler(open_runner=RepeatRunner),
        codec="h265",
        height="64p",
        end_s="0:00.2",
    )
    assert (result.frames, result.size) == (5, FrameSize(64, 128))
    compared = ksnet_deploy.compare(kind(result.target), kind(result.target))
    assert compared.identical_frames == 5


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ({"degradation": "Video"}, "there is no degradation 'Video'; give BI, BD or video"),
        ({"optimizer": "sgd"}, "there is no optimizer 'sgd'; give adam or muon"),
        ({"precision": "int8"}, "there is no precision of training 'int8'; give fp32, bf16 or fp16"),
        ({"recipe": "long"}, "there is no recipe 'long'; give paper-reds"),
        ({"device": "tpu"}, "there is no device 'tpu'; give cpu or cuda"),
    ],
)
def test_a_training_that_cannot_be_is_refused_and_not_taken_for_another(
    tmp_path: Path, setting: dict[str, str], words: str
) -> None:
    with pytest.raises(KSNetError, match=words):
        ksnet_deploy.train(tmp_path / "none", tmp_path / "run", **setting)
    assert not (tmp_path / "run").exists()


def test_evaluate_and_train_from_python(tmp_path: Path) -> None:
    folder_of_frames(tmp_path / "clips" / "a", noise(4, 64, 96, 3))
    report = ksnet_deploy.evaluate(str(tmp_path / "clips"), method="bicubic")
    assert report.clips[0].frames == 4
    settings = ("channels=8", "extract_blocks=1", "deform_groups=2", "flow_channels=4", "offset_channels=4")
    assert (report.run_by, report.as_dict()["run_by"]) == ({}, {})
    notes: list[str] = []
    for _ in range(2):
        assert notes == []
        path = ksnet_deploy.train(
            tmp_path / "clips",
            str(tmp_path / "run"),
            stages=("2:1x2x16",),
            settings=settings,
            precision="fp32",
            init="lite",
            init_partial=True,
            on_note=notes.append,
        )
        assert path.is_file()
    assert any("goes on from what it has learned, not from --init lite again" in note for note in notes)
