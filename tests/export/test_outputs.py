"""Each output over recorded states: ONNX Runtime against ONNX Runtime, and files that Polygraphy's own command runs."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from fake_gpu import fake_engine, pretend_gpu
from networks import save_as_exported
from runners import RepeatRunner

from ksnet_deploy.base.errors import BackendError, VerificationError
from ksnet_deploy.base.frames import FrameSize
from ksnet_deploy.export.engine import compare
from ksnet_deploy.export.engine.proof import proof_on_gpu
from ksnet_deploy.export.proof.recording import RECORDED, record_steps, write_steps
from ksnet_deploy.export.verified import export_verified, verify
from ksnet_deploy.network.checkpoints import Checkpoint
from ksnet_deploy.runtime.onnx import OnnxRunner

SmallOnnx = Callable[..., Path]
SIZE = FrameSize(32, 48)
needs_polygraphy = pytest.mark.skipif(
    importlib.util.find_spec("polygraphy") is None, reason="Polygraphy is not installed (extra 'dev')"
)


def as_it_is(path: Path) -> OnnxRunner:
    return OnnxRunner(path, SIZE, rewrite=lambda _model: None)


def with_planted_error(path: Path, output: str, target: Path, shift: float = 0.05) -> Path:
    """The same step, with a constant added to one of its outputs."""
    model = onnx.load(path)
    for node in model.graph.node:
        for index, name in enumerate(node.output):
            if name == output:
                node.output[index] = f"{output}.right"
        for index, name in enumerate(node.input):
            if name == output:
                node.input[index] = f"{output}.right"
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.float32(shift), "planted"))
    model.graph.node.append(onnx.helper.make_node("Add", [f"{output}.right", "planted"], [output]))
    save_as_exported(model, target)
    return target


@needs_polygraphy
def test_a_planted_error_is_found_in_the_output_that_has_it(small_onnx: SmallOnnx, tmp_path: Path) -> None:
    from ksnet_deploy.export.proof.outputs import compare_outputs

    path = small_onnx("32x48")
    names = {value.name for value in onnx.load(path).graph.output}
    with as_it_is(path) as reference, OnnxRunner(path, SIZE) as candidate:
        right = compare_outputs(reference, candidate, "fp32")
    assert {output.name for output in right.outputs} == names
    assert (right.far, right.steps) == ([], len(RECORDED))
    assert "every output is near" in right.in_words()
    planted = with_planted_error(path, "next.prop_1", tmp_path / "planted.onnx")
    with as_it_is(path) as reference, OnnxRunner(planted, SIZE) as candidate:
        wrong = compare_outputs(reference, candidate, "fp32")
    assert [output.name for output in wrong.far] == ["next.prop_1"], "its error is not carried into the next step"
    assert wrong.far[0].largest == pytest.approx(0.05, rel=1e-3)
    assert "differ: next.prop_1 by 0.05" in wrong.in_words()
    assert [line.split()[0] for line in wrong.as_table().splitlines() if line.endswith("differs")] == ["next.prop_1"]


class FaultyRunner(RepeatRunner):
    """Wrong by 50 levels on some of its steps, counted from 0."""

    def __init__(self, *wrong: int) -> None:
        super().__init__(SIZE)
        self._wrong, self._taken = wrong, 0

    def _step(self, lr: np.ndarray) -> np.ndarray:
        self._taken += 1
        return super()._step(lr // 2) + np.uint8(50 * (self._taken - 1 in self._wrong))


@needs_polygraphy
def test_a_step_that_is_excused_is_said() -> None:
    from ksnet_deploy.export.proof.outputs import compare_outputs

    once = compare_outputs(FaultyRunner(), FaultyRunner(1), "fp32")  # its first step only asks for its state
    assert once.far == []
    assert "every output is near but for hr on one step" in once.in_words()
    assert once.as_table().splitlines()[-1].endswith("differs on one step")
    assert once.as_dict()["outputs"][0]["worst"] == 50
    twice = compare_outputs(FaultyRunner(), FaultyRunner(1, 3), "fp32")
    assert [output.name for output in twice.far] == ["hr"]


@needs_polygraphy
def test_what_is_not_finite_or_missing_is_far(small_onnx: SmallOnnx, tmp_path: Path) -> None:
    from ksnet_deploy.export.proof.outputs import compare_outputs

    path = small_onnx("32x48")
    planted = with_planted_error(path, "next.prop_1", tmp_path / "nan.onnx", float("nan"))
    with as_it_is(path) as reference, OnnxRunner(planted, SIZE) as candidate:
        assert compare_outputs(reference, candidate, "fp32").far[0].largest == float("inf")


@pytest.mark.slow
@needs_polygraphy
def test_a_failed_proof_names_the_outputs_that_differ(
    small: Checkpoint, small_onnx: SmallOnnx, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    planted = with_planted_error(small_onnx("32x48"), "next.prop_1", tmp_path / "planted.onnx")
    with pytest.raises(VerificationError, match=r"differs from PyTorch.*recorded steps, differ: next.prop_1 by 0\.05"):
        verify(small.model, planted, SIZE, precision="fp32", frames=2)
    monkeypatch.setitem(sys.modules, "polygraphy", None)
    with pytest.raises(VerificationError, match="with polygraphy installed, the outputs that differ are named"):
        verify(small.model, planted, SIZE, precision="fp32", frames=2)


@pytest.mark.slow
@needs_polygraphy
def test_an_engine_that_is_kept_below_its_bound_names_the_outputs_that_differ(
    small: Checkpoint, small_onnx: SmallOnnx, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    pretend_gpu(monkeypatch)
    planted = with_planted_error(small_onnx("32x48"), "next.prop_1", tmp_path / "planted.onnx", 50)
    engine = fake_engine(planted, tmp_path / "small.engine", ("32x48", "32x48", "32x48"))
    proof = proof_on_gpu(small.path, small_onnx("32x48"), [engine], SIZE, 4, lambda: None)
    assert not proof["passed"]
    assert "dB against float32" in proof["faults"][0]
    assert "recorded steps, differ: next.prop_1 by 50 " in proof["faults"][-1]


def test_a_recorded_step_is_what_the_runner_did(small_onnx: SmallOnnx) -> None:
    with as_it_is(small_onnx("32x48")) as runner:
        steps = record_steps(runner)
        assert len(steps) == len(RECORDED)
        inputs = {value.name for value in runner._session.get_inputs()}
        assert all(step.keys() == inputs for step in steps)
        fresh = runner._session.run(["hr", "next.prop_1"], steps[0])
        runner.reset()
        np.testing.assert_array_equal(runner.step(steps[0]["lr"][0]), fresh[0][0])
        np.testing.assert_array_equal(runner.state["prop_1"], fresh[1])
        assert np.abs(steps[1]["state.prop_1"]).max() > 0


@needs_polygraphy
@pytest.mark.parametrize("precision", ["fp32", pytest.param("fp16", marks=pytest.mark.slow)])
def test_polygraphys_command_runs_an_exported_file_on_its_recorded_steps(
    small: Checkpoint, precision: str, tmp_path: Path
) -> None:
    path, steps = tmp_path / "step.onnx", tmp_path / "states.json"
    settings = {"dynamic": False, "io": "uint8", "precision": precision, "frames": 0, "record": steps}
    assert export_verified(small, path, SIZE, **settings) is None  # type: ignore[arg-type]
    assert sorted(each.name for each in tmp_path.iterdir()) == ["states.json", "step.onnx"]
    outputs = tmp_path / "outputs.json"
    command = [sys.executable, "-c", "from polygraphy.tools import main; main()", "run", str(path), "--onnxrt"]
    options = ["--load-inputs", str(steps), "--save-outputs", str(outputs)]
    result = subprocess.run([*command, *options], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    assert len(json.loads(outputs.read_text())["lst"][0][1]) == len(RECORDED)


def test_without_polygraphy_nothing_is_recorded(
    small_onnx: SmallOnnx, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "polygraphy", None)
    with pytest.raises(BackendError, match=r"Polygraphy.*not installed"):
        write_steps(small_onnx("32x48"), SIZE, tmp_path / "states.json")
    assert list(tmp_path.iterdir()) == []


@needs_polygraphy
@pytest.mark.parametrize("from_checkpoint", [True, False])
def test_what_was_built_is_compared_without_its_gpu(
    small: Checkpoint, small_onnx: SmallOnnx, from_checkpoint: bool
) -> None:
    said: list[str] = []
    source = small.path if from_checkpoint else small_onnx("32x48")
    compared = compare.compare_made(source, small_onnx("32x48"), None, SIZE, said.append)
    assert compared.far == []
    assert ("with float32" in said[-1]) == from_checkpoint
