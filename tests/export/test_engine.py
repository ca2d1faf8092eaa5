"""Engines: what they are built for, what they must consist of, and real builds where TensorRT-RTX is installed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import onnx
import pytest
from command import run
from networks import new_checkpoint, save_as_exported

from ksnet_deploy.base.errors import ArtifactError, BackendError, ConfigError, OutputError, VerificationError
from ksnet_deploy.base.frames import FrameSize
from ksnet_deploy.export.engine import compile as build
from ksnet_deploy.export.engine import make
from ksnet_deploy.export.engine.compile import build_engine
from ksnet_deploy.export.engine.make import EngineRequest, make_engine
from ksnet_deploy.export.engine.proof import proof_on_gpu
from ksnet_deploy.export.engine.request import BuildRequest
from ksnet_deploy.export.polygraphy import environment_of
from ksnet_deploy.network.bundled import bundled_checkpoint
from ksnet_deploy.network.checkpoints import Checkpoint
from ksnet_deploy.ops.library import build_plugins
from ksnet_deploy.runtime.onnx import OnnxRunner
from ksnet_deploy.runtime.tensorrt import runner as tensorrt
from ksnet_deploy.runtime.tensorrt.sidecar import Sidecar, sidecar_path
from ksnet_deploy.runtime.tensorrt.spec import EngineSpec
from ksnet_deploy.runtime.tensorrt.target import GpuTarget, SizeRange

PlainOnnx = Callable[..., Path]
SIZE = SizeRange.fixed(FrameSize(32, 48))
MANY = SizeRange(FrameSize(90, 160), FrameSize(180, 320), FrameSize(540, 960))
SM86 = GpuTarget(86)
SPEC = EngineSpec("rtx", SM86, "fp16", SIZE)


rtx = pytest.mark.skipif(
    subprocess.run([sys.executable, "-c", "import tensorrt_rtx"], capture_output=True, check=False).returncode != 0,
    reason="TensorRT-RTX is not installed (extra 'rtx')",
)


@pytest.fixture(scope="module")
def half_onnx(plain_onnx: PlainOnnx) -> Path:
    """Of the plain network: TensorRT builds an engine of it in a second."""
    return plain_onnx("32x48", precision="fp16")


def build_small(onnx: Path, path: Path, **changes: object) -> Sidecar:
    spec = {name: changes.pop(name) for name in ("target", "precision", "sizes") if name in changes}
    settings = {"library": None, "model": "small"} | changes
    return build_engine(onnx, path, replace(SPEC, **spec), **settings)  # type: ignore[arg-type]


@pytest.mark.slow
@rtx
def test_the_trained_network_becomes_an_fp16_engine_for_an_rtx_3080(tmp_path: Path) -> None:
    request = EngineRequest(
        bundled_checkpoint("uni"),
        SizeRange.fixed(FrameSize(180, 320)),
        flavour="rtx",
        gpu="rtx3080",
        plugins="off",
        output=tmp_path / "uni.engine",
        verify_frames=0,  # test_half.py compares it with float32
    )
    started = time.perf_counter()
    made = make_engine(request)
    print(f"{time.perf_counter() - started:.1f} s, of which TensorRT {made.sidecar.build_s:.1f} s")
    sidecar = Sidecar.read(made.path)
    assert sidecar == made.sidecar
    assert sidecar.spec == EngineSpec("rtx", SM86, "fp16", SizeRange.fixed(FrameSize(180, 320)))
    # 83 convolutions of the graph, 2 of the deformable convolutions; 8 warps and these two.
    assert sidecar.layers["CONVOLUTION"] == {"HALF": 85}
    assert sidecar.layers["GRID_SAMPLE"] == {"FLOAT": 10}
    assert sidecar.layers["TOPK"] == {"FLOAT": 12}
    assert not [kind for kind in sidecar.layers if kind.startswith("PLUGIN")]
    tensors = {tensor.name: (tensor.dtype, tensor.shape) for tensor in (*sidecar.inputs, *sidecar.outputs)}
    assert tensors["lr"] == ("UINT8", (1, 180, 320, 3))
    assert tensors["hr"] == ("UINT8", (1, 720, 1280, 3))
    assert tensors["state.prev_lr"] == ("FLOAT", (1, 3, 180, 320))
    assert "state.feat_2" not in tensors, "uni looks one frame back, so what lies two frames back is not kept"
    assert tensors["next.prop_1"] == ("HALF", (1, 64, 180, 320))
    assert made.path.stat().st_size > 5e6
    sidecar.check(made.path, FrameSize(180, 320), flavour_version=sidecar.version, device=SM86, plugin_library=None)


PRINT_FLAGS = """
import sys
from ksnet_deploy.export.engine.compiler import _progress_monitor
from ksnet_deploy.export.engine.loaders import _config, parsed_network
from ksnet_deploy.export.engine.request import BuildRequest
from ksnet_deploy.export.polygraphy import errors_of_polygraphy
import onnx, onnx.inliner, tensorrt_rtx as trt

request = BuildRequest.from_json(sys.argv[1])
model = onnx.inliner.inline_local_functions(onnx.load(request.onnx))
with errors_of_polygraphy() as errors:
    builder, network, parser = parsed_network(trt, model, request, errors)
    config = _config(trt, network, request, _progress_monitor(trt))(builder, network)
print(config.get_flag(trt.BuilderFlag.TF32), network.get_flag(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
"""
"""Prints two settings of the builder that Polygraphy's own defaults have the other way round."""


@rtx
def test_networks_are_strongly_typed_and_float32_is_not_tf32(half_onnx: Path, tmp_path: Path) -> None:
    request = BuildRequest.of(SPEC, tmp_path / "s.engine", onnx=half_onnx, plugins=None, timing_cache=None)
    command = [sys.executable, "-c", PRINT_FLAGS, request.to_json()]
    environment = os.environ | environment_of("rtx")
    result = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert result.stdout == "False True\n", result.stderr


@rtx
def test_rtx_has_no_effort(half_onnx: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no builder optimization levels"):
        make_engine(EngineRequest(half_onnx, SIZE, flavour="rtx", gpu="sm86", effort=5, output=tmp_path / "s.engine"))


def test_a_file_that_cannot_be_parsed_is_refused_with_the_parsers_reason(half_onnx: Path, tmp_path: Path) -> None:
    pytest.importorskip("tensorrt_rtx")
    model = onnx.load(half_onnx)
    model.graph.node[0].op_type = "Voodoo"
    save_as_exported(model, path := tmp_path / "voodoo.onnx")
    with pytest.raises(ArtifactError, match=r"cannot parse .*voodoo\.onnx \(.*Voodoo"):
        build_small(path, tmp_path / "s.engine")


def test_without_polygraphy_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "polygraphy", None)
    with pytest.raises(BackendError, match=r"Polygraphy.*extra 'rtx',"):
        build.check_buildable(SPEC, None)


@rtx
@pytest.mark.slow
def test_an_engine_for_many_sizes(plain_onnx: PlainOnnx, tmp_path: Path) -> None:
    sidecar = build_small(plain_onnx(None, "float32"), tmp_path / "any.engine", precision="fp32", sizes=MANY)
    assert {tensor.name: tensor.shape for tensor in sidecar.inputs}["lr"] == (1, -1, -1, 3)
    assert sidecar.spec.sizes == MANY


@rtx
@pytest.mark.slow
def test_the_trained_network_becomes_an_fp16_engine_for_many_sizes(tmp_path: Path) -> None:
    made = make_engine(
        EngineRequest(
            bundled_checkpoint("uni"),
            MANY,
            flavour="rtx",
            gpu="rtx3080",
            plugins="off",
            output=tmp_path / "uni.engine",
            verify_frames=4,
        )
    )
    assert made.sidecar.layers["CONVOLUTION"] == {"HALF": 85}
    assert made.sidecar.layers["GRID_SAMPLE"] == {"FLOAT": 10}
    assert made.sidecar.verified is not None
    assert made.sidecar.verified["least_psnr_db"] >= 45


@rtx
def test_progress_is_reported_and_fp32_builds_too(plain_onnx: PlainOnnx, tmp_path: Path) -> None:
    steps: list[tuple[str, int, int]] = []
    sidecar = build_small(
        plain_onnx("32x48"), tmp_path / "s.engine", precision="fp32", on_progress=lambda *step: steps.append(step)
    )
    assert set(sidecar.layers["CONVOLUTION"]) == {"FLOAT"}
    assert len({phase for phase, _, _ in steps}) > 3
    assert all(0 <= done <= total for _, done, total in steps)
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith(".")] == []


@rtx
def test_a_float32_file_does_not_become_a_half_engine_or_the_reverse(
    plain_onnx: PlainOnnx, half_onnx: Path, tmp_path: Path
) -> None:
    for source, precision in ((plain_onnx("32x48"), "fp16"), (half_onnx, "fp32")):
        request = EngineRequest(source, SIZE, precision, flavour="rtx", gpu="sm86", output=tmp_path / "s.engine")  # type: ignore[arg-type]
        with pytest.raises(ArtifactError, match=f"an engine in {precision} was asked for"):
            make_engine(request)
        with pytest.raises(ArtifactError, match=f"was to compute in {precision}"):
            build_small(source, tmp_path / "s.engine", precision=precision)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
@rtx
def test_an_engine_in_the_cache_is_built_once(half_onnx: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("KSNET_CACHE_DIR", str(tmp_path))
    request = EngineRequest(half_onnx, SIZE, flavour="rtx", gpu="sm86", plugins="off")
    first, second = make_engine(request), make_engine(request)
    assert (first.reused, second.reused, first.path) == (False, True, second.path)
    other = make_engine(EngineRequest(half_onnx, SIZE, flavour="rtx", gpu="sm89", plugins="off"))
    assert other.path != first.path


@rtx
@pytest.mark.parametrize(("gpu", "words"), [("h100", "does not build for sm90"), (None, "rtx3080")])
def test_a_gpu_that_cannot_be_built_for_is_named(half_onnx: Path, gpu: str | None, words: str, tmp_path: Path) -> None:
    with pytest.raises((BackendError, ConfigError), match=words):
        make_engine(EngineRequest(half_onnx, SIZE, flavour="rtx", gpu=gpu, output=tmp_path / "s.engine"))
    assert list(tmp_path.iterdir()) == []


@rtx
def test_plugins_that_are_asked_for_and_cannot_load_are_an_error(
    half_onnx: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(make, "find_plugin_library", lambda: None)
    request = EngineRequest(half_onnx, SIZE, flavour="rtx", gpu="sm86", plugins="on", output=tmp_path / "s.engine")
    with pytest.raises(BackendError, match="build-plugins"):
        make_engine(request)
    library = tmp_path / "libksnet_plugins.so"
    library.write_bytes(b"no library")
    for plugins in ("on", "auto"):
        monkeypatch.setattr(make, "find_plugin_library", lambda: library)
        with pytest.raises(BackendError, match=r"libksnet_plugins\.so"):
            make_engine(
                EngineRequest(
                    half_onnx,
                    SIZE,
                    flavour="rtx",
                    gpu="sm86",
                    plugins=plugins,
                    output=tmp_path / "s.engine",  # type: ignore[arg-type]
                )
            )
    assert [p.name for p in tmp_path.iterdir()] == [library.name]


def test_a_dying_build_process_is_one_sentence_and_leaves_nothing(
    half_onnx: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """TensorRT aborts the process when a library of its own is missing."""
    dying = tmp_path / "python"
    dying.write_text("#!/bin/sh\nhead -n 1 > /dev/null\necho terminate called >&2\nkill -ABRT $$\n")
    dying.chmod(0o755)
    monkeypatch.setattr(build.sys, "executable", str(dying))
    older = tmp_path / "s.engine"
    older.write_text("an older engine")
    with pytest.raises(BackendError, match=r"SIGABRT.*terminate called"):
        build_small(half_onnx, older)
    assert older.read_text() == "an older engine"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["python", "s.engine"]


def test_a_folder_that_does_not_exist_is_named(half_onnx: Path, tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="does not exist"):
        build_small(half_onnx, tmp_path / "none" / "s.engine")


INTERRUPTED = """
import signal, sys, time
from pathlib import Path
from ksnet_deploy.cli import app as cli
from ksnet_deploy.base.frames import FrameSize
from ksnet_deploy.export.engine.compile import build_engine
from ksnet_deploy.runtime.tensorrt.spec import EngineSpec
from ksnet_deploy.runtime.tensorrt.target import GpuTarget, SizeRange

for signum in (signal.SIGINT, signal.SIGTERM):
    signal.signal(signum, cli._stop)

def wait(phase, done, total):
    if sys.argv[3] == "building":
        print("now", flush=True)
        time.sleep(60)

def prove(engine):
    assert engine.is_file()
    print("now", flush=True)
    time.sleep(60)

spec = EngineSpec("rtx", GpuTarget(86), "fp16", SizeRange.fixed(FrameSize(32, 48)))
build_engine(Path(sys.argv[1]), Path(sys.argv[2]), spec, library=None, model="small", prove=prove, on_progress=wait)
"""
"""Builds an engine and stops where TensorRT is at work, or where the engine is there and is to be proven."""


@rtx
@pytest.mark.parametrize(
    ("signum", "when"),
    [
        (signal.SIGINT, "building"),
        (signal.SIGKILL, "proving"),
        *(
            pytest.param(*pair, marks=pytest.mark.slow)
            for pair in ((signal.SIGTERM, "building"), (signal.SIGKILL, "building"), (signal.SIGTERM, "proving"))
        ),
    ],
)
def test_an_interrupted_build_leaves_no_engine(
    half_onnx: Path, signum: signal.Signals, when: str, tmp_path: Path
) -> None:
    path = tmp_path / "s.engine"
    command = [sys.executable, "-c", INTERRUPTED, str(half_onnx), str(path), when]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "now\n"
    process.send_signal(signum)
    process.communicate(timeout=60)
    assert process.returncode == (-signum if signum == signal.SIGKILL else 128 + signum)
    left = [entry.name for entry in tmp_path.iterdir()]
    if signum == signal.SIGKILL:  # nothing can be tidied then, but nothing has the name of an engine
        assert all(name.startswith(".ksnet-engine-") for name in left)
        build_small(half_onnx, path)
        assert sorted(entry.name for entry in tmp_path.iterdir()) == ["s.engine", "s.engine.json"]
    else:
        assert left == []


@pytest.mark.slow
@rtx
def test_an_engine_of_a_checkpoint_is_compared_with_float32_once(
    plain: Checkpoint, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("KSNET_CACHE_DIR", str(tmp_path))
    request = EngineRequest(plain.path, SIZE, flavour="rtx", gpu="sm86", plugins="off", verify_frames=2, model="mine")
    compared: list[int] = []
    made = make_engine(request, on_verify=compared.append)
    assert made.sidecar.model == "mine"
    assert made.sidecar.verified is not None
    assert made.sidecar.verified["against"] == "float32"
    assert made.sidecar.verified["least_psnr_db"] >= 45
    assert make_engine(request, on_verify=compared.append).reused
    other = make_engine(replace(request, gpu="sm89"), on_verify=compared.append)
    assert not other.reused
    assert compared == [2], "the same file is compared once, whatever it is built for"
    longer = make_engine(replace(request, verify_frames=3), on_verify=compared.append)
    assert (longer.reused, compared) == (False, [2, 3])
    longer.path.write_bytes(longer.path.read_bytes()[:1000])
    mended = make_engine(replace(request, verify_frames=3), on_verify=compared.append)
    assert (mended.reused, mended.path.stat().st_size > 1000) == (False, True)


@pytest.mark.slow
@rtx
def test_an_engine_that_fails_its_proof_does_not_get_its_name(half_onnx: Path, tmp_path: Path) -> None:
    path = tmp_path / "s.engine"
    assert build_small(half_onnx, path, prove=lambda _engine: {"frames": 3}).verified == {"frames": 3}
    older = path.read_bytes(), sidecar_path(path).read_bytes()

    def prove(engine: Path) -> None:
        assert Sidecar.read(engine).spec.target == GpuTarget(89)
        raise VerificationError("not good enough")

    with pytest.raises(VerificationError, match="not good enough"):
        build_small(half_onnx, path, target=GpuTarget(89), prove=prove)
    assert (path.read_bytes(), sidecar_path(path).read_bytes()) == older
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["s.engine", "s.engine.json"]


@pytest.mark.slow
@pytest.mark.parametrize("from_checkpoint", [True, False])
def test_on_its_own_gpu_the_engine_itself_is_compared(
    plain: Checkpoint, half_onnx: Path, from_checkpoint: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The engine's runner is ONNX Runtime here, once on the right network and once on another."""
    monkeypatch.setattr(tensorrt, "TensorRTRunner", OnnxRunner)
    source = plain.path if from_checkpoint else half_onnx
    proof = proof_on_gpu(source, half_onnx, [half_onnx], FrameSize(32, 48), 3, lambda: None)
    assert proof["what"] == "the engine on the GPU"
    assert (proof["against"] == "float32") == from_checkpoint
    assert proof["frames"] == 3
    assert (proof["passed"], proof["required_db"], proof["faults"]) == (True, 45, [])
    if from_checkpoint:  # else both sides are one file, and equal
        least = proof["least_psnr_db"] + 1
        proof = proof_on_gpu(source, half_onnx, [half_onnx], FrameSize(32, 48), 3, lambda: None, least)
        assert (proof["passed"], proof["required_db"]) == (False, least)
    other = new_checkpoint(half_onnx.parent, plain.config, seed=5)
    proof = proof_on_gpu(other.path, half_onnx, [half_onnx], FrameSize(32, 48), 3, lambda: None)
    assert not proof["passed"]  # which the sidecar says; the engine is there, for the user to judge
    assert "dB against float32, where at least 45 dB is accepted" in proof["faults"][0]


@pytest.mark.slow
@rtx
def test_the_command_answers_in_json_and_lists_its_cache(
    half_onnx: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("KSNET_CACHE_DIR", str(tmp_path))
    build_it = ("build-engine", "-m", half_onnx, "--fp16", "--gpu", "rtx3080", "--size", "32x48", "--plugins", "off")
    result = run(*build_it, "--json")
    assert result.returncode == 0, result.stderr
    answer = json.loads(result.stdout)
    assert (answer["sm"], answer["reused"], answer["layers"]["TOPK"]) == (86, False, {"FLOAT": 12})
    assert "was in the cache" in run(*build_it).stdout
    assert Path(answer["output"]).name in run("cache", "list").stdout
    assert "2 files removed" in run("cache", "clear").stdout
    assert list(tmp_path.iterdir()) == []
    for arguments, words in (
        (("x.bin",), "does not end in .engine"),
        (("x.engine", "--gpu", "voodoo2"), "voodoo2"),
        (("x.engine", "--min", "90x160"), "--opt"),
        (("x.engine", "--gpu", "sm86", "-m", half_onnx, "--fp16", "--size", "64x64"), "takes frames of 32x48 only"),
        (("x.engine", "--gpu", "sm86", "-m", tmp_path / "no.onnx", "--fp16"), "does not exist"),
    ):
        failed = run("build-engine", *arguments)
        assert failed.returncode == 1
        assert words in failed.stderr
        assert "Traceback" not in failed.stderr


@rtx
@pytest.mark.skipif(
    "TENSORRT_INCLUDE_DIR" not in os.environ, reason="TensorRT's headers are not in TENSORRT_INCLUDE_DIR"
)
def test_native_plugins_take_the_place_of_the_bodies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    library = build_plugins(
        tensorrt=Path(os.environ["TENSORRT_INCLUDE_DIR"].split(os.pathsep)[0]), architectures=["86"]
    )
    assert make.find_plugin_library() == library
    made = {
        plugins: make_engine(
            EngineRequest(
                bundled_checkpoint("uni"),
                SizeRange.fixed(FrameSize(180, 320)),
                flavour="rtx",
                gpu="rtx3080",
                plugins=plugins,  # type: ignore[arg-type]
                output=tmp_path / f"{plugins}.engine",
                verify_frames=0,
            )
        )
        for plugins in ("on", "off", "auto")
    }
    layers = {plugins: engine.sidecar.layers for plugins, engine in made.items()}
    assert sum(layers["on"]["PLUGIN_V3"].values()) == 2 + 6
    assert layers["auto"] == layers["on"]
    assert "PLUGIN_V3" not in layers["off"]
    assert made["on"].path.stat().st_size < made["off"].path.stat().st_size
    sidecar = made["on"].sidecar
    check = {"flavour_version": sidecar.version, "device": SM86}
    sidecar.check(made["on"].path, FrameSize(180, 320), plugin_library=library, **check)  # type: ignore[arg-type]
    with pytest.raises(ArtifactError, match="build-plugins"):
        sidecar.check(made["on"].path, FrameSize(180, 320), plugin_library=None, **check)  # type: ignore[arg-type]
    library.write_bytes(library.read_bytes() + b" ")
    with pytest.raises(ArtifactError, match="another version of the plugin library"):
        sidecar.check(made["on"].path, FrameSize(180, 320), plugin_library=library, **check)  # type: ignore[arg-type]
