"""A bidirectional network as two files: exported, proven, cached, built into engines."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from command import failure_of, run
from networks import SMALL, new_checkpoint, save_as_exported
from test_engine import rtx

from ksnet_deploy.base.errors import ArtifactError, VerificationError
from ksnet_deploy.base.files import sha256_of
from ksnet_deploy.base.frames import FrameSize
from ksnet_deploy.export import cache, verified
from ksnet_deploy.export.cache import cached_onnx
from ksnet_deploy.export.engine.make import EngineRequest, make_engine
from ksnet_deploy.export.proof.float32 import SequenceReport
from ksnet_deploy.export.proof.half import HalfReport
from ksnet_deploy.export.verified import export_verified, verify
from ksnet_deploy.network.bundled import bundled_checkpoint
from ksnet_deploy.network.checkpoints import Checkpoint, load_checkpoint
from ksnet_deploy.network.config import Precision
from ksnet_deploy.runtime.open import open_runner
from ksnet_deploy.runtime.pair import PAIR, files_of, part_path
from ksnet_deploy.runtime.step_file import exported_metadata, load_exported
from ksnet_deploy.runtime.tensorrt.sidecar import Sidecar
from ksnet_deploy.runtime.tensorrt.target import SizeRange

pytestmark = pytest.mark.slow

SIZE = FrameSize(20, 24)


def names(values: object) -> list[str]:
    return [value.name for value in values]  # type: ignore[attr-defined]


def test_each_graph_has_the_states_that_its_step_reads_and_names_the_other(small_bi_onnx: Path) -> None:
    first, second = map(load_exported, files_of(small_bi_onnx))
    read = [f"state.{name}" for name in ("prev_lr", "feat_1", "feat_2", "flow_1", "prop_1")]
    assert names(first.graph.input) == ["lr", *read]
    assert names(first.graph.output) == ["prop", *(name.replace("state", "next") for name in read)]
    read = [f"state.{name}" for name in ("prev_lr", "flow_1", "prop_1", "prop_2", "refine_1")]
    assert names(second.graph.input) == ["lr", "prop", *read]
    assert names(second.graph.output) == ["hr", *(name.replace("state", "next") for name in read)]
    metadata = [exported_metadata(model) for model in (first, second)]
    assert [each["ksnet.step"] for each in metadata] == [*PAIR]
    assert metadata[0]["ksnet.graph_sha256"] == metadata[1]["ksnet.other_graph_sha256"]
    assert metadata[1]["ksnet.graph_sha256"] == metadata[0]["ksnet.other_graph_sha256"]
    assert {node.domain for model in (first, second) for node in model.graph.node} >= {"ksnet"}
    assert all({f.name for f in model.functions} for model in (first, second))


def test_both_steps_agree_with_pytorch_over_a_sequence_with_a_reset(small_bi: Checkpoint, small_bi_onnx: Path) -> None:
    seen: list[int] = []
    report = verify(small_bi.model, small_bi_onnx, SIZE, precision="fp32", frames=6, on_frame=lambda: seen.append(1))
    assert isinstance(report, SequenceReport)
    assert (len(report.frames), report.reset_at, len(seen)) == (6, 3, 6)
    assert 0 < report.max_error <= 1e-4


@pytest.mark.slow
@pytest.mark.parametrize(
    ("precision", "inline", "dynamic"),
    [("fp32", False, True), ("fp16", True, False)],
    ids=["free size", "half, inline"],
)
def test_a_pair_appears_when_both_steps_have_passed(
    small_bi: Checkpoint, tmp_path: Path, precision: Precision, inline: bool, dynamic: bool
) -> None:
    path = tmp_path / "bi.onnx"
    report = export_verified(
        small_bi, path, SIZE, dynamic=dynamic, io="float32", precision=precision, frames=6, inline=inline
    )
    assert {file.name for file in tmp_path.iterdir()} == {"bi.propagate.onnx", "bi.refine.onnx"}
    if precision == "fp32":
        assert isinstance(report, SequenceReport)
        assert 0 < report.max_error <= 1e-4
    else:
        assert isinstance(report, HalfReport)
        assert report.least_db >= 45
    if dynamic:
        with open_runner(path, FrameSize(17, 33)) as runner:
            frame = np.zeros((17, 33, 3), np.float32)
            assert [hr.shape for hr in runner.window([frame, frame])] == [(68, 132, 3)] * 2


@pytest.mark.parametrize("step", PAIR)
def test_a_mistake_in_either_step_is_found_and_named(
    small_bi: Checkpoint, small_bi_onnx: Path, tmp_path: Path, step: str
) -> None:
    for file in files_of(small_bi_onnx):
        (tmp_path / file.name).write_bytes(file.read_bytes())
    planted = part_path(tmp_path / "bi.onnx", step)
    model = onnx.load(planted)
    weight = next(w for w in model.graph.initializer if len(w.dims) == 4 and w.name.startswith(f"network.{step}"))
    weight.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(weight) * np.float32(1.01), weight.name))
    save_as_exported(model, planted)
    with pytest.raises(VerificationError, match=r"differs from PyTorch on frame.*; propagate: .*refine: .*") as caught:
        verify(small_bi.model, tmp_path / "bi.onnx", SIZE, precision="fp32", frames=2)
    parts = str(caught.value).split("refine: ")
    assert ("differ: " in parts[0].split("propagate: ")[1]) == (step == "propagate")
    assert ("differ: " in parts[1]) == (step == "refine")


@pytest.mark.slow
def test_what_is_not_finite_in_half_is_refused(tmp_path: Path) -> None:
    bi = new_checkpoint(tmp_path, SMALL.replace(["direction=bi"]))
    bi.model.extract[0].weight.data.mul_(6e4)  # features beyond 65504, of weights below
    with pytest.raises(VerificationError, match="features of the onnxruntime run are not finite"):
        export_verified(bi, tmp_path / "bi.onnx", SIZE, dynamic=False, io="float32", precision="fp16", frames=2)
    assert list(tmp_path.glob("*.onnx")) == []


def test_both_files_are_in_the_cache_and_made_anew_where_one_is_damaged(
    small_bi: Checkpoint, small_bi_onnx: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KSNET_CACHE_DIR", str(tmp_path))
    made: list[int] = []

    def export(*_: object, **__: object) -> dict[str, onnx.ModelProto]:
        made.append(1)
        return dict(zip(PAIR, map(onnx.load, files_of(small_bi_onnx)), strict=True))

    monkeypatch.setattr("ksnet_deploy.export.onnx.exported_models", export)
    monkeypatch.setattr(cache, "code_sha256", lambda: "code")
    notes: list[str] = []
    path = cached_onnx(small_bi.path, SIZE, "float32", on_note=notes.append)
    assert cached_onnx(small_bi.path, SIZE, "float32", on_note=notes.append) == path
    assert (len(made), notes) == (1, [])
    assert sorted(file.name for file in tmp_path.glob("*.onnx")) == [file.name for file in files_of(path)]
    part_path(path, "refine").write_bytes(b"x")
    cached_onnx(small_bi.path, SIZE, "float32", on_note=notes.append)
    assert len(made) == 2
    assert "refine.onnx is not what its hash says" in notes[0]
    part_path(path, "propagate").unlink()
    cached_onnx(small_bi.path, SIZE, "float32")
    assert len(made) == 3


def test_the_command_writes_two_files_and_replaces_none(
    small_bi: Checkpoint, small_bi_onnx: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    models = dict(zip(PAIR, map(onnx.load, files_of(small_bi_onnx)), strict=True))
    monkeypatch.setattr(verified, "exported_models", lambda *_, **__: models)
    arguments = ("export", "bi.onnx", "-m", small_bi.path, "--size", "20x24", "--io", "float32", "--verify-frames", "2")
    answer = json.loads(run(*arguments, "--json", cwd=tmp_path).stdout)
    assert answer["files"] == ["bi.propagate.onnx", "bi.refine.onnx"]
    assert answer["max_error"] <= 1e-4
    assert "bi.propagate.onnx already exists" in failure_of(run(*arguments, cwd=tmp_path))
    (tmp_path / "bi.onnx").write_bytes(b"an older file, of a network with one step")
    assert run(*arguments, "--overwrite", cwd=tmp_path).returncode == 0
    assert not (tmp_path / "bi.onnx").exists()
    told = run("info", "-m", "bi.refine.onnx", cwd=tmp_path).stdout
    assert '"direction": "bi"' in told
    assert "bi.propagate.onnx and bi.refine.onnx" in told
    (tmp_path / "bi.propagate.onnx").unlink()
    assert "bi.propagate.onnx is missing" in failure_of(run("info", "-m", "bi.refine.onnx", cwd=tmp_path))


@rtx
@pytest.mark.slow
def test_both_engines_are_built_without_a_gpu_and_name_each_other(
    small_bi: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KSNET_CACHE_DIR", str(tmp_path))
    size = FrameSize(32, 48)
    request = EngineRequest(
        small_bi.path, SizeRange.fixed(size), flavour="rtx", gpu="rtx3080", plugins="off", verify_frames=2
    )
    made = make_engine(request, say=lambda _line: None)
    assert [file.name.rsplit(".", 2)[1] for file in files_of(made.path)] == [*PAIR]
    first, second = made.sidecars
    assert first == Sidecar.read(part_path(made.path, "propagate"))
    assert first.other_engine_sha256 == sha256_of(part_path(made.path, "refine")) == second.engine_sha256
    assert second.other_engine_sha256 == first.engine_sha256
    assert first.outputs[0].name == "prop"
    assert [tensor.name for tensor in second.inputs][:2] == ["lr", "prop"]
    assert second.verified is not None
    assert second.verified["least_psnr_db"] >= 45
    assert make_engine(request, say=lambda _line: None).reused
    assert set(first.layers["CONVOLUTION"]) == set(second.layers["CONVOLUTION"]) == {"HALF"}
    replace(second, other_engine_sha256="0" * 64).write(part_path(made.path, "refine"))
    with pytest.raises(ArtifactError, match="were not made together"):
        open_runner(made.path, size)
    assert not make_engine(request, say=lambda _line: None).reused


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_the_bundled_bi_agrees_over_thirty_frames(tmp_path: Path, precision: Precision) -> None:
    report = export_verified(
        load_checkpoint(bundled_checkpoint("bi")),
        tmp_path / "bi.onnx",
        FrameSize(36, 64),
        dynamic=False,
        io="float32",
        precision=precision,
        frames=30,
    )
    print(report.summary() if report else "")
    if isinstance(report, SequenceReport):
        assert report.max_error <= 1e-4
    else:
        assert isinstance(report, HalfReport)
        assert report.least_db >= 45
