"""A bidirectional network in windows: what two steps make of them, on every runtime, whole and in tiles."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from fake_torch_cuda import use_fake_cuda
from networks import SMALL, new_checkpoint
from numpy.typing import NDArray

from ksnet_deploy.base.errors import ArtifactError, BackendError
from ksnet_deploy.base.frames import FrameSize
from ksnet_deploy.export.proof.sequence import moving_pattern
from ksnet_deploy.network.checkpoints import Checkpoint
from ksnet_deploy.network.steps import Step
from ksnet_deploy.runtime.base import Runner
from ksnet_deploy.runtime.lockstep import LockstepOnnxRunner
from ksnet_deploy.runtime.open import open_runner
from ksnet_deploy.runtime.pair import files_of, named_pair, part_path
from ksnet_deploy.runtime.tiles import TiledRunner, TilePlan
from ksnet_deploy.runtime.torch import TorchRunner
from ksnet_deploy.runtime.windows import WindowRunner

SIZE = FrameSize(20, 24)


@pytest.fixture(scope="module")
def bi(small_bi: Checkpoint, small_bi_onnx: Path) -> dict[str, Path]:
    """The same small network as a checkpoint and as a pair of files, by the runtime that takes it."""
    return {"torch": small_bi.path, "onnxruntime": small_bi_onnx}


@pytest.fixture(params=["torch", "onnxruntime"])
def runner(request: pytest.FixtureRequest, bi: dict[str, Path]) -> Iterator[Runner]:
    with open_runner(bi[request.param], SIZE, io="float32") as opened:
        yield opened


def frames(count: int, size: FrameSize = SIZE) -> list[NDArray[np.float32]]:
    return list(moving_pattern(size, count))


def whole(checkpoint: Checkpoint, lrs: list[NDArray[np.float32]]) -> NDArray[np.float32]:
    """The network over all frames at once, (T, 4 H, 4 W, 3)."""
    planes = torch.from_numpy(np.stack(lrs)).permute(0, 3, 1, 2)[None]
    with torch.inference_mode():
        hr: NDArray[np.float32] = checkpoint.model.forward_window(planes)[0].permute(0, 2, 3, 1).numpy()
    return hr


def test_a_window_of_all_frames_is_the_whole_network(runner: Runner, small_bi: Checkpoint) -> None:
    lrs = frames(6)
    np.testing.assert_allclose(np.stack([*runner.window(lrs)]), whole(small_bi, lrs), atol=1e-4, rtol=0)


def test_a_window_of_all_frames_is_identical_to_the_unfolded_network(small_bi: Checkpoint) -> None:
    lrs = frames(5)
    steps = [TorchRunner(small_bi.model, SIZE, io="float32", fold=False, step=s) for s in small_bi.config.steps]
    np.testing.assert_array_equal(np.stack([*WindowRunner(*steps).window(lrs)]), whole(small_bi, lrs))


def test_windows_that_look_ahead_to_the_end_are_the_whole_network(runner: Runner, small_bi: Checkpoint) -> None:
    """The first branch begins where it does in the whole, and the second carries its state over the seams."""
    lrs = frames(7)
    found = [
        hr
        for start in (0, 2, 5)
        for hr in runner.window(lrs[start:][: 3 if start else 2], lrs[start:][3 if start else 2 :])
    ]
    np.testing.assert_allclose(np.stack(found), whole(small_bi, lrs), atol=1e-4, rtol=0)


def test_a_look_ahead_matters_and_the_state_is_that_of_the_second_branch_alone(runner: Runner) -> None:
    lrs = frames(6)
    first, blind = ([*runner.window(lrs[:3], ahead)] for ahead in (lrs[3:], []))
    runner.reset()
    alone = [*runner.window(lrs[:3])]
    assert (np.stack(first) != np.stack(alone)).any()
    assert (np.stack(blind) != np.stack(alone)).any()  # it followed the first
    assert set(runner.state) == {"prev_lr", "flow_1", "prop_1", "prop_2", "refine_1"}
    saved = runner.state
    expected = [*runner.window(lrs[3:])]
    runner.reset()
    assert runner.state == {}
    runner.state = saved
    np.testing.assert_array_equal([*runner.window(lrs[3:])], expected)


def test_a_frame_by_itself_is_refused_in_a_sentence(runner: Runner, bi: dict[str, Path]) -> None:
    with pytest.raises(BackendError, match=r"takes windows of frames; give them to Upscaler\.upscale"):
        runner.step(frames(1)[0])
    with (
        open_runner(part_path(bi["onnxruntime"], "refine"), SIZE) as step,
        pytest.raises(BackendError, match="takes 1 features beside a frame, and 0 were given"),
    ):
        step.step(frames(1)[0])
    assert runner.timed_step(frames(1)[0]) > 0


def test_after_closing_nothing_runs(bi: dict[str, Path]) -> None:
    runner = open_runner(bi["torch"], SIZE, io="float32")
    runner.close()
    with pytest.raises(BackendError, match="is closed"):
        next(runner.window(frames(1)))


@pytest.mark.parametrize(
    ("guidance", "backward", "forward"),
    [
        ("prev1", {"prev_lr", "feat_1", "prop_1"}, {"prev_lr", "prop_1", "refine_1"}),
        (
            "multi",
            {"prev_lr", "feat_1", "feat_2", "flow_1", "prop_1"},
            {"prev_lr", "flow_1", "prop_1", "prop_2", "refine_1"},
        ),
    ],
)
def test_each_step_keeps_only_what_it_reads(
    tmp_path: Path, guidance: str, backward: set[str], forward: set[str]
) -> None:
    model = new_checkpoint(tmp_path, SMALL.replace([f"flow_guidance={guidance}", "direction=bi"])).model
    assert set(Step(model, "propagate").names) == backward
    assert set(Step(model, "refine").names) == forward


def test_recorded_steps_compute_what_the_plain_ones_do(small_bi: Checkpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    lrs = [(frame * 255).round().astype(np.uint8) for frame in frames(5)]
    model, steps = small_bi.model, small_bi.config.steps
    plain = WindowRunner(*(TorchRunner(model, SIZE, step=step) for step in steps))
    expected = [*plain.window(lrs[:4], lrs[4:])]
    graphs = use_fake_cuda(monkeypatch)
    recorded = WindowRunner(*(TorchRunner(model, SIZE, device="cuda", precision="fp32", step=step) for step in steps))
    found = np.stack([*recorded.window(lrs[:4], lrs[4:])]).astype(int)
    assert abs(found - np.stack(expected)).max() <= 1  # other memory layouts, other orders of sums
    assert sorted(graph.replays for graph in graphs) == [2, 2, 2, 3]


def test_both_steps_pause_where_they_rank_without_changing_what_they_compute(bi: dict[str, Path]) -> None:
    lrs, files = frames(4), files_of(bi["onnxruntime"])
    with (
        WindowRunner(*(LockstepOnnxRunner(file, SIZE) for file in files)) as pausing,
        open_runner(bi["onnxruntime"], SIZE) as plain,
    ):
        found, expected = (np.stack([*runner.window(lrs[:3], lrs[3:])]) for runner in (pausing, plain))
    np.testing.assert_allclose(found, expected, atol=1e-5, rtol=0)


def test_each_tile_has_features_of_its_own(bi: dict[str, Path], small_bi: Checkpoint) -> None:
    plan = TilePlan(FrameSize(20, 36), SIZE, 12)
    assert plan.positions == ((0, 0), (0, 12))
    lrs = frames(4, plan.frame)
    with WindowRunner(*(TiledRunner(LockstepOnnxRunner(f, SIZE), plan) for f in files_of(bi["onnxruntime"]))) as tiled:
        found = np.stack([*tiled.window(lrs[:2], lrs[2:]), *tiled.window(lrs[2:])])
        assert {name.split(".")[0] for name in tiled.state} == {"tile0", "tile1"}
    with open_runner(small_bi.path, plan.frame, io="float32") as runner:
        expected = np.stack([*runner.window(lrs[:2], lrs[2:]), *runner.window(lrs[2:])])
        mirrored = np.stack([*runner.window(lrs[:2], lrs[2:]), *runner.window(lrs[:2])])
    error, other = (float(np.abs(each - expected).mean()) for each in (found, mirrored))
    assert error < other / 10


def test_two_files_go_by_one_name_and_must_belong_together(
    bi: dict[str, Path], tmp_path: Path, copy_pair: Callable[[Path], Path]
) -> None:
    pair = bi["onnxruntime"]
    assert named_pair(part_path(pair, "refine")) == named_pair(pair) == pair
    copied = copy_pair(tmp_path)
    model = onnx.load(part_path(copied, "refine"))
    digest = next(entry for entry in model.metadata_props if entry.key == "ksnet.other_graph_sha256")
    digest.value = "0" * 64  # as of another export
    onnx.save(model, part_path(copied, "refine"))
    with pytest.raises(ArtifactError, match="were not made together; export both again"):
        open_runner(copied, SIZE)
    part_path(copied, "propagate").replace(part_path(copied, "refine"))
    with pytest.raises(ArtifactError, match=r"is one of the two files of a bidirectional network, and .* is missing"):
        named_pair(part_path(copied, "refine"))


def test_swapped_files_are_refused(tmp_path: Path, copy_pair: Callable[[Path], Path]) -> None:
    copied = copy_pair(tmp_path)
    first, second = files_of(copied)
    first.replace(tmp_path / "x")
    second.replace(first)
    (tmp_path / "x").replace(second)
    with pytest.raises(ArtifactError, match=r"propagate\.onnx holds the step 'refine', where 'propagate' was expected"):
        open_runner(copied, SIZE)


@pytest.fixture
def copy_pair(bi: dict[str, Path]) -> Callable[[Path], Any]:
    def copy(folder: Path) -> Path:
        for file in files_of(bi["onnxruntime"]):
            (folder / file.name).write_bytes(file.read_bytes())
        return folder / bi["onnxruntime"].name

    return copy
