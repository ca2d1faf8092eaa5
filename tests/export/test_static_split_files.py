"""Exported files with a static split: what is left out of them, what they compute, what they say of themselves."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import onnx.inliner
import pytest
from command import failure_of, run
from media import make_video
from needs import needs_openvino, needs_vnni

import ksnet_deploy
from ksnet_deploy.base.errors import ArtifactError, ConfigError, InputError, VerificationError
from ksnet_deploy.base.files import sha256_of
from ksnet_deploy.base.frames import FrameSize
from ksnet_deploy.base.metrics import psnr
from ksnet_deploy.export.engine.compiler import _prepared
from ksnet_deploy.export.proof.float32 import SequenceReport
from ksnet_deploy.export.proof.half import HalfReport
from ksnet_deploy.export.static_split import StaticSplit, choose_split
from ksnet_deploy.export.verified import verify
from ksnet_deploy.measure.speed.frames import moving_frames
from ksnet_deploy.network.checkpoints import Checkpoint
from ksnet_deploy.ops.functions import ALIGN, DEFORM_CONV, DOMAIN, TOPK_SPLIT
from ksnet_deploy.runtime import openvino
from ksnet_deploy.runtime.exported import describe
from ksnet_deploy.runtime.lockstep import LockstepOnnxRunner
from ksnet_deploy.runtime.onnx import OnnxRunner
from ksnet_deploy.runtime.step_file import STATIC_SPLIT, exported_metadata
from ksnet_deploy.runtime.torch import TorchRunner

SIZE = FrameSize(32, 48)


@pytest.fixture(scope="module")
def exported(plain: Checkpoint, clip: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, StaticSplit]:
    """A file that has passed its proof over four frames with a reset, and its split."""
    path = tmp_path_factory.mktemp("static") / "static.onnx"
    splits: list[StaticSplit] = []
    told: list[int] = []
    report = ksnet_deploy.export_onnx(
        *(plain.path, path, SIZE), static_split=clip, verify_frames=4, on_choosing=told.append, on_split=splits.append
    )
    assert isinstance(report, SequenceReport)
    assert told == [16]  # the clip's eight frames, dynamic and static
    return path, splits[0]


def test_nothing_ranks_or_gathers_channels(exported: tuple[Path, StaticSplit], plain_onnx: object) -> None:
    static, dynamic = onnx.load(exported[0]), onnx.load(plain_onnx(str(SIZE)))  # type: ignore[operator]
    assert not {TOPK_SPLIT} & {*(node.op_type for node in static.graph.node), *(f.name for f in static.functions)}
    kinds = Counter(node.op_type for node in onnx.inliner.inline_local_functions(static).graph.node)
    outside = Counter(node.op_type for node in dynamic.graph.node)  # of the splits' bodies
    assert outside[TOPK_SPLIT] == 6
    assert kinds["TopK"] == kinds["ReduceMean"] == kinds["Abs"] == 0
    assert kinds["Slice"] >= 12
    assert Counter(node.op_type for node in static.graph.node)["Gather"] == outside["Gather"]


def test_it_computes_the_network_with_its_selection_forced(exported: tuple[Path, StaticSplit]) -> None:
    path, split = exported
    with OnnxRunner(path, SIZE) as found, TorchRunner(split.model, SIZE, fold=False) as expected:
        for index, frame in enumerate(moving_frames(SIZE, 4)):
            if index == 2:
                found.reset()
                expected.reset()
            np.testing.assert_allclose(found.step(frame).astype(float), expected.step(frame), rtol=0, atol=1)
            for name, array in expected.state.items():
                np.testing.assert_allclose(found.state[name], array, rtol=0, atol=1e-4)


def test_the_proof_is_held_to_those_channels(exported: tuple[Path, StaticSplit], plain: Checkpoint) -> None:
    """The network that selects for itself is another, and the proof would find that out."""
    with pytest.raises(VerificationError):
        verify(plain.model, exported[0], SIZE, precision="fp32", frames=2)


def test_quality_is_measured_against_the_network_that_selects_for_every_frame(
    exported: tuple[Path, StaticSplit], plain: Checkpoint
) -> None:
    _, split = exported
    assert 0 < split.agreement < 1
    assert 10 < split.psnr_db < float("inf")
    frame = next(iter(moving_frames(SIZE, 1)))
    still = choose_split(plain.model, [frame, frame], [True, True], "")
    assert (still.agreement, still.psnr_db, still.scenes) == (1.0, float("inf"), 2)


def test_the_file_and_info_name_the_clip_and_the_channels(exported: tuple[Path, StaticSplit], clip: Path) -> None:
    path, split = exported
    said = json.loads(exported_metadata(onnx.load(path))[STATIC_SPLIT])
    assert said == {"clip_sha256": sha256_of(clip), "channels": split.channels}
    facts = json.loads(run("info", "--model", path, "--json").stdout)["exported"]
    assert sha256_of(clip) in facts["static split, clip"]
    name, kept = next(iter(split.channels.items()))
    assert f"{name} {' '.join(map(str, kept))}" in run("info", "--model", path).stdout


def test_damaged_words_on_the_channels_are_one_sentence(exported: tuple[Path, StaticSplit], tmp_path: Path) -> None:
    model = onnx.load(exported[0])
    kept = [entry for entry in model.metadata_props if entry.key not in ("ksnet.graph_sha256", STATIC_SPLIT)]
    del model.metadata_props[:]
    model.metadata_props.extend(kept)
    model.metadata_props.add(key=STATIC_SPLIT, value="[]")
    onnx.save(model, tmp_path / "odd.onnx")
    with pytest.raises(ArtifactError, match="which channels its static split keeps"):
        describe(tmp_path / "odd.onnx")


def test_an_engine_is_built_of_it_without_plugins_for_splits(exported: tuple[Path, StaticSplit]) -> None:
    for operators in ({ALIGN, DEFORM_CONV, TOPK_SPLIT}, {DEFORM_CONV, TOPK_SPLIT}):
        native, nodes, _ = _prepared(str(exported[0]), operators)
        assert nodes == sum(node.domain == DOMAIN for node in native.graph.node) == 2  # the alignments
        assert not native.functions
    plain_body, nodes, _ = _prepared(str(exported[0]), None)
    assert nodes == 2
    assert all(node.domain != DOMAIN for node in plain_body.graph.node)


def test_tiles_take_it(exported: tuple[Path, StaticSplit]) -> None:
    path, _ = exported
    frames = list(moving_frames(SIZE, 2))
    with LockstepOnnxRunner(path, SIZE) as pausing, OnnxRunner(path, SIZE) as runner:
        for frame in frames:
            assert psnr(pausing.step(frame), runner.step(frame)) > 60


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["fp16", pytest.param("int8", marks=needs_vnni)])
@pytest.mark.parametrize("size", [SIZE, None])
def test_every_precision_and_any_size(
    plain: Checkpoint, clip: Path, tmp_path: Path, precision: str, size: FrameSize | None
) -> None:
    """On the clip itself the proof of each must pass, as for a network that selects."""
    calibrate = clip if precision == "int8" else None
    report = ksnet_deploy.export_onnx(
        *(plain.path, tmp_path / "x.onnx", size or SIZE),
        dynamic=size is None,
        precision=precision,  # type: ignore[arg-type]
        calibrate=calibrate,
        static_split=clip,
        verify_frames=4,
    )
    assert isinstance(report, HalfReport)
    kinds = {node.op_type for node in onnx.inliner.inline_local_functions(onnx.load(tmp_path / "x.onnx")).graph.node}
    assert "TopK" not in kinds


@needs_openvino
def test_openvino_runs_it(exported: tuple[Path, StaticSplit]) -> None:
    path, _ = exported
    with openvino.OpenVINORunner(path, SIZE) as found, OnnxRunner(path, SIZE) as expected:
        for frame in moving_frames(SIZE, 2):
            assert psnr(found.step(frame), expected.step(frame)) > 60


def test_what_cannot_be_frozen_is_refused_before_any_work(
    small_bi: Checkpoint, plain: Checkpoint, clip: Path, tmp_path: Path, exported: tuple[Path, StaticSplit]
) -> None:
    output = tmp_path / "x.onnx"
    with pytest.raises(ConfigError, match="bidirectional"):
        ksnet_deploy.export_onnx(small_bi.path, output, SIZE, static_split=clip)
    with pytest.raises(ConfigError, match="is an exported file"):
        ksnet_deploy.export_onnx(exported[0], output, SIZE, static_split=clip)
    with pytest.raises(InputError, match="two or more"):
        ksnet_deploy.export_onnx(plain.path, output, SIZE, static_split=make_video(tmp_path / "s.mp4", SIZE, frames=1))
    said = failure_of(run("export", output, "--model", plain.path, "--static-split", tmp_path / "none.mp4"))
    assert "none.mp4" in said
    assert not output.exists()
