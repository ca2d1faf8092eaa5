"""Files and engines for several scenes side by side: what is in them, their proof, and what is refused."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from command import failure_of, run
from networks import save_as_exported

from ksnet_deploy.base.errors import ArtifactError, ConfigError, VerificationError
from ksnet_deploy.base.frames import FrameSize
from ksnet_deploy.export.cache import cached_path
from ksnet_deploy.export.engine.make import EngineRequest, make_engine
from ksnet_deploy.export.memory import verification_bytes
from ksnet_deploy.export.onnx import export_onnx
from ksnet_deploy.export.verified import verify
from ksnet_deploy.network.checkpoints import Checkpoint
from ksnet_deploy.runtime.step_file import exported_lanes, load_exported
from ksnet_deploy.runtime.tensorrt.sidecar import Sidecar
from ksnet_deploy.runtime.tensorrt.spec import EngineSpec
from ksnet_deploy.runtime.tensorrt.target import GpuTarget, SizeRange

SIZE = FrameSize(16, 20)

rtx = pytest.mark.skipif(
    subprocess.run([sys.executable, "-c", "import tensorrt_rtx"], capture_output=True, check=False).returncode != 0,
    reason="TensorRT-RTX is not installed (extra 'rtx')",
)


@pytest.mark.slow
def test_the_command_exports_a_batch_with_its_proof(smallest: Checkpoint, tmp_path: Path) -> None:
    path = tmp_path / "two.onnx"
    done = run("export", path, "-m", smallest.path, "--size", SIZE, "--batch", "2", "--verify-frames", "3")
    assert done.returncode == 0, done.stderr
    assert "Verified: 3 recurrent frames" in done.stdout
    shapes = {
        value.name: tuple(dim.dim_value for dim in value.type.tensor_type.shape.dim)
        for value in (*load_exported(path).graph.input, *load_exported(path).graph.output)
    }
    assert (shapes["lr"], shapes["hr"]) == ((2, 16, 20, 3), (2, 64, 80, 3))
    assert {shape[0] for shape in shapes.values()} == {2}
    assert "frames at once" in run("info", "--model", path).stdout


@pytest.mark.slow
def test_the_proof_refuses_a_file_whose_scenes_get_mixed(smallest: Checkpoint, tmp_path: Path) -> None:
    path = tmp_path / "mixed.onnx"
    export_onnx(smallest, path, size=SIZE, batch=2)
    model = onnx.load(path)
    for node in model.graph.node:
        node.input[:] = ["mixed" if name == "state.prop_1" else name for name in node.input]
    order = onnx.numpy_helper.from_array(np.array([1, 0], np.int64), "order")
    model.graph.initializer.append(order)
    model.graph.node.insert(0, onnx.helper.make_node("Gather", ["state.prop_1", "order"], ["mixed"], axis=0))
    save_as_exported(model, path)
    assert exported_lanes(model) == 2
    with pytest.raises(VerificationError, match="differs from PyTorch on frame 1"):
        verify(smallest.model, path, SIZE, precision="fp32", frames=3)


def test_what_is_not_made_for_a_batch_is_refused(small_bi: Checkpoint, smallest: Checkpoint, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="takes windows of one scene at a time; leave --batch out"):
        export_onnx(small_bi, tmp_path / "bi.onnx", size=SIZE, batch=2)
    with pytest.raises(ConfigError, match="a step of 0 frames computes nothing"):
        export_onnx(smallest, tmp_path / "none.onnx", size=SIZE, batch=0)
    options = ("--size", SIZE, "--batch", "2", "--record", tmp_path / "states.json")
    words = failure_of(run("export", tmp_path / "two.onnx", "-m", smallest.path, *options))
    assert "steps are recorded of one frame; leave --record out or --batch" in words
    assert list(tmp_path.iterdir()) == []


def test_a_batch_has_names_and_memory_of_its_own(smallest: Checkpoint) -> None:
    one, two = (cached_path(smallest.path, SIZE, "uint8", "fp32", batch) for batch in (1, 2))
    assert one != two
    assert "16x20x2-" in two.name
    sizes = [verification_bytes(smallest.config, SIZE, "fp32", batch) for batch in (1, 2, 3)]
    assert sizes[1] - sizes[0] == sizes[2] - sizes[1] > 0


def test_a_sidecar_says_the_batch_and_the_command_that_builds_it_again() -> None:
    spec = EngineSpec("rtx", GpuTarget(86), "fp16", SizeRange.fixed(SIZE), batch=4)
    assert EngineSpec.from_dict(spec.as_dict()) == spec
    assert spec.as_dict()["batch"] == 4
    assert "4 frames at once of 16x20" in str(spec)
    older = {name: value for name, value in spec.as_dict().items() if name != "batch"}
    assert EngineSpec.from_dict(older).batch == 1
    sidecar = Sidecar(spec, "", "", "1.7", "lite", (), (), {}, {}, 1.0)
    assert "--batch 4'" in sidecar.rebuild_command(Path("x.engine"), spec.target, SIZE)


@rtx
@pytest.mark.slow
def test_an_engine_of_a_batch_is_built_and_kept_apart(
    smallest: Checkpoint, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("KSNET_CACHE_DIR", str(tmp_path))
    settings = {"flavour": "rtx", "gpu": "sm86", "plugins": "off", "verify_frames": 2}
    fixed = EngineRequest(smallest.path, SizeRange.fixed(SIZE), batch=2, **settings)  # type: ignore[arg-type]
    made = make_engine(fixed)
    assert {tensor.shape[0] for tensor in (*made.sidecar.inputs, *made.sidecar.outputs)} == {2}
    assert (made.sidecar.spec.batch, made.sidecar.verified is not None) == (2, True)
    assert make_engine(fixed).reused
    many = SizeRange(FrameSize(16, 16), FrameSize(32, 48), FrameSize(48, 64))
    made = make_engine(EngineRequest(smallest.path, many, batch=2, **settings))  # type: ignore[arg-type]
    assert {tensor.name: tensor.shape for tensor in made.sidecar.inputs}["lr"] == (2, -1, -1, 3)
    file = tmp_path / "one.onnx"
    export_onnx(smallest, file, size=SIZE, precision="fp16")
    with pytest.raises(ArtifactError, match="1 frame at once, and an engine for 2 was asked for; give --batch 1"):
        make_engine(EngineRequest(file, SizeRange.fixed(SIZE), batch=2, **settings))  # type: ignore[arg-type]
