"""The alignment's CPU kernel in ONNX Runtime and OpenVINO: where it is taken, and what is said where it is not."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from needs import needs_bfloat16, needs_openvino

from ksnet_deploy.base.errors import BackendError
from ksnet_deploy.base.frames import FrameSize
from ksnet_deploy.base.metrics import psnr
from ksnet_deploy.cli import checks
from ksnet_deploy.export.cache import cached_onnx
from ksnet_deploy.measure.speed.frames import moving_frames
from ksnet_deploy.network.bundled import bundled_checkpoint
from ksnet_deploy.ops import align_library, library
from ksnet_deploy.ops.align_library import AlignKernel, align_kernel, build_align
from ksnet_deploy.runtime.base import Runner
from ksnet_deploy.runtime.lockstep import LockstepOnnxRunner
from ksnet_deploy.runtime.onnx import OnnxRunner
from ksnet_deploy.runtime.openvino import OpenVINORunner
from ksnet_deploy.runtime.tiles import TiledRunner, TilePlan
from ksnet_deploy.upscale.networks import find_network

SIZE = FrameSize(32, 48)
HEADERS = os.environ.get("ONNXRUNTIME_INCLUDE_DIR")
needs_tools = pytest.mark.skipif(
    shutil.which("cmake") is None or not (Path(__file__).parents[2] / "plugins").is_dir(),
    reason="needs cmake, a checkout",
)
needs_header = pytest.mark.skipif(
    HEADERS is None, reason="needs ONNX Runtime's header in ONNXRUNTIME_INCLUDE_DIR, which its package lacks"
)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of the libraries that can be built here, compiled without a warning."""
    folder = tmp_path_factory.mktemp("libraries")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(library, "plugin_folder", lambda: folder)
        patch.setenv("CXXFLAGS", "-Werror")
        libraries, left_out = build_align()
    assert len(libraries) + len(left_out) == 2
    return folder


@pytest.fixture
def with_kernel(built: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KSNET_ALIGN_LIBRARY", str(built))


def frames_of(size: FrameSize, count: int) -> list[np.ndarray]:
    """Frames in [0, 1]."""
    return [lr.astype(np.float32) / np.float32(255) for lr in moving_frames(size, count)]


def opened(kind: type[Runner], path: Path, size: FrameSize, patch: pytest.MonkeyPatch, where: str) -> Runner:
    patch.setenv("KSNET_ALIGN_LIBRARY", where)
    return kind(path, size)  # type: ignore[arg-type]


def worst_psnr(
    kind: type[Runner], path: Path, size: FrameSize, frames: int, built: Path, patch: pytest.MonkeyPatch
) -> float:
    """Of frames with the kernel to those without, which must not be the same."""
    with opened(kind, path, size, patch, "off") as without, opened(kind, path, size, patch, str(built)) as native:
        assert not [note for note in native.notes if "kernel" in note]
        assert (without.kernel, (native.kernel or "")[:13]) == ("standard operators", "native kernel")
        found = []
        for index, lr in enumerate(frames_of(size, frames)):
            if index == frames // 2:
                without.reset()
                native.reset()
            found.append(psnr(255 * native.step(lr), 255 * without.step(lr)))
        assert any(not np.array_equal(native.state[name], array) for name, array in without.state.items())
    return min(found)


@pytest.mark.parametrize("kind", [OnnxRunner, pytest.param(OpenVINORunner, marks=needs_openvino)])
def test_a_runner_says_that_it_does_without_the_kernel(
    kind: type[Runner], small_onnx: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    with opened(kind, small_onnx("32x48"), SIZE, monkeypatch, "off") as runner:
        assert runner.kernel == "standard operators"


@pytest.mark.slow
@needs_tools
@pytest.mark.parametrize(
    "kind", [pytest.param(OnnxRunner, marks=needs_header), pytest.param(OpenVINORunner, marks=needs_openvino)]
)
def test_thirty_frames_of_lite_are_90_db_near(kind: type[Runner], built: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    size = FrameSize(72, 128)
    path = cached_onnx(bundled_checkpoint("lite"), size, "float32")
    assert worst_psnr(kind, path, size, 30, built, monkeypatch) >= 90


@pytest.mark.slow
@needs_tools
@needs_openvino
@needs_bfloat16
def test_in_bfloat16_the_kernel_is_as_near_to_float32_as_the_body(
    built: Path, small_onnx: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    half, wide = small_onnx("32x48", "float32", precision="fp16"), small_onnx("32x48", "float32")
    runners = [opened(OpenVINORunner, half, SIZE, monkeypatch, where) for where in ("off", str(built))]
    with OnnxRunner(wide, SIZE) as exact, runners[0] as without, runners[1] as native:
        for lr in frames_of(SIZE, 4):
            right = 255 * exact.step(lr)
            near, body = psnr(255 * native.step(lr), right), psnr(255 * without.step(lr), right)
            assert near >= min(body - 1, 45)


@pytest.mark.slow
@needs_tools
@needs_header
@pytest.mark.parametrize("path", ["portable", "avx2", "avx512"])
def test_every_path_runs_in_onnx_runtime_and_is_the_node_that_runs(
    path: str, built: Path, small_onnx: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("KSNET_ALIGN_LIBRARY", str(built))
    monkeypatch.setenv("KSNET_ALIGN_PATH", path)
    if (note := align_kernel("onnxruntime").note) is not None:
        assert "no path here" in note
        pytest.skip(f"this processor has no {path}")
    with OnnxRunner(small_onnx("32x48", "float32"), SIZE, profile=tmp_path / "profile") as runner:
        runner.step(frames_of(SIZE, 1)[0])
        events = json.loads(runner.end_profile().read_text())
    ran = [event["args"]["op_name"] for event in events if event["name"].endswith("_kernel_time")]
    assert ran.count("KsAlign") == 2
    assert "DeformConv" not in ran
    monkeypatch.setenv("KSNET_ALIGN_LIBRARY", str(built))
    assert find_network("lite", "onnxruntime").identity()["alignment"] == f"native kernel, {path}"


@pytest.mark.slow
@needs_tools
@needs_header
def test_tiles_in_lockstep_take_the_kernel_too(
    built: Path, plain_onnx: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = plain_onnx("32x48", "float32")
    assert worst_psnr(LockstepOnnxRunner, path, SIZE, 4, built, monkeypatch) >= 90


@pytest.mark.slow
@needs_tools
@needs_header
def test_a_file_for_any_size_takes_the_kernel_too(
    built: Path, small_onnx: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = small_onnx(None, "float32")
    assert worst_psnr(OnnxRunner, path, FrameSize(33, 17), 4, built, monkeypatch) >= 90


def test_what_does_not_load_is_told_and_the_body_is_taken(
    small_onnx: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "libksnet_align_onnxruntime.so").write_bytes(b"no library")
    (lr,) = moving_frames(SIZE, 1)
    with opened(OnnxRunner, small_onnx("32x48"), SIZE, monkeypatch, "off") as without:
        assert without.notes == ()
        expected = without.step(lr)
    with opened(OnnxRunner, small_onnx("32x48"), SIZE, monkeypatch, str(tmp_path)) as runner:
        (note,) = runner.notes
        np.testing.assert_array_equal(runner.step(lr), expected)
    with opened(LockstepOnnxRunner, small_onnx("32x48"), SIZE, monkeypatch, str(tmp_path)) as pausing:
        assert TiledRunner(pausing, TilePlan.make(SIZE, SIZE, 16)).notes == (note,)
    assert note.startswith("The alignment's native kernel is left out:")
    assert "does not load" in note
    assert "build-plugins --cpu" in note
    assert find_network("lite", "onnxruntime").identity()["alignment"] == "standard operators"


def test_a_library_for_another_openvino_is_not_tried(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "libksnet_align_openvino-2024.0.0.so").write_bytes(b"not looked at")
    monkeypatch.setenv("KSNET_ALIGN_LIBRARY", str(tmp_path))
    monkeypatch.setattr(align_library, "package_version", lambda _name: "2026.4.1")
    kernel = align_kernel("openvino")
    assert kernel.library is None
    assert kernel.note is not None
    assert "libksnet_align_openvino-2024.0.0.so is for another OpenVINO than 2026.4.1" in kernel.note


def test_without_openvino_nothing_is_said_of_its_library(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "libksnet_align_openvino-2024.0.0.so").write_bytes(b"not looked at")
    monkeypatch.setenv("KSNET_ALIGN_LIBRARY", str(tmp_path))
    for module in (align_library, checks):
        monkeypatch.setattr(module, "package_version", lambda _name: None)
    assert align_kernel("openvino") == AlignKernel(None, None, None)
    (check,) = checks._align_kernel("openvino")
    assert (check.state, check.found) == ("missing", "is for OpenVINO, which is not installed")


@pytest.mark.parametrize("off", ["", "0", "off", "OFF"])
def test_it_can_be_switched_off(off: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KSNET_ALIGN_LIBRARY", off)
    assert align_kernel("onnxruntime") == align_kernel("openvino") == (None, None, None)


def test_a_folder_that_is_none_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("KSNET_ALIGN_LIBRARY", str(tmp_path / "none"))
    with pytest.raises(BackendError, match="which is not a folder; name the folder of the libraries, or 'off'"):
        align_kernel("onnxruntime")


@needs_tools
def test_without_a_runtime_to_build_for_the_remedies_are_those_of_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    for variable in ("ONNXRUNTIME_INCLUDE_DIR", "OPENVINO_ROOT"):
        monkeypatch.delenv(variable, raising=False)
    if any(Path(f"/usr/include/{place}onnxruntime_c_api.h").exists() for place in ("", "onnxruntime/")):
        pytest.skip("this machine has the header")
    with pytest.raises(BackendError, match="has no runtime to be built for") as raised:
        build_align()
    assert "pass --fetch-headers to download it" in str(raised.value)


@needs_tools
def test_a_header_of_an_older_version_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "onnxruntime_c_api.h").write_text("#define ORT_API_VERSION 16\n")
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    monkeypatch.delenv("OPENVINO_ROOT", raising=False)
    monkeypatch.setenv("ONNXRUNTIME_INCLUDE_DIR", str(tmp_path))
    with pytest.raises(BackendError, match=r"of a version before 1\.17"):
        build_align()
