"""PyTorch's recorded step, on a stand-in for CUDA that records and replays on the CPU."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from fake_torch_cuda import FakeGraph, use_fake_cuda
from networks import SMALL, new_checkpoint

from ksnet_deploy.base.errors import ConfigError
from ksnet_deploy.base.frames import FrameSize
from ksnet_deploy.network.alignment import FlowGuidedAlignment
from ksnet_deploy.network.checkpoints import Checkpoint
from ksnet_deploy.network.config import KSNetConfig
from ksnet_deploy.network.elements import LIMIT, check_elements, largest_tensor
from ksnet_deploy.network.model import KSNet
from ksnet_deploy.runtime.torch import TorchRunner
from ksnet_deploy.runtime.torch_kernels import use_native_kernels

SIZE = FrameSize(16, 24)


@pytest.fixture
def graphs(monkeypatch: pytest.MonkeyPatch) -> list[FakeGraph]:
    return use_fake_cuda(monkeypatch)


def frames(count: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, SIZE.height, SIZE.width, 3), dtype=np.uint8)


def pair(model: KSNet) -> tuple[TorchRunner, TorchRunner]:
    """The recorded step and the plain one, both in float32."""
    return TorchRunner(model, SIZE, device="cuda", precision="fp32"), TorchRunner(model, SIZE)


@pytest.mark.parametrize("guidance", ["prev1", "prev2"])
def test_the_recorded_step_computes_what_the_plain_one_does(
    graphs: list[FakeGraph], tmp_path: Path, guidance: str
) -> None:
    recorded, plain = pair(new_checkpoint(tmp_path, SMALL.replace([f"flow_guidance={guidance}"])).model)
    for index, frame in enumerate(frames(7)):
        if index in (3, 4):  # after an odd and an even number of steps: both roles of the states
            recorded.reset()
            plain.reset()
        difference = recorded.step(frame).astype(int) - plain.step(frame)
        assert abs(difference).max() <= 1  # other memory layouts, other orders of sums
    assert sorted(graph.replays for graph in graphs) == [3, 4]


@pytest.mark.usefixtures("graphs")
def test_frames_in_flight_come_out_as_one_by_one(small: Checkpoint) -> None:
    """Each has memory of its own until it is collected, over a new scene and a state that is put back."""
    lrs = frames(8)
    with TorchRunner(small.model, SIZE, device="cuda") as runner:
        expected, state = [], {}
        for index, lr in enumerate(lrs):
            if index == 3:
                state = runner.state
                runner.reset()
            if index == 6:
                runner.state = state
            expected.append(runner.step(lr))
        runner.reset()
        found = []
        for index, lr in enumerate(lrs):
            if index == 3:
                assert runner.in_flight == runner.most_in_flight == 2
                runner.reset()
            if index == 6:
                runner.state = state
            if runner.in_flight == 2:
                found.append(runner.collect())
            runner.submit(lr)
        found += [runner.collect() for _ in range(runner.in_flight)]
    np.testing.assert_array_equal(found, expected)


@pytest.mark.usefixtures("graphs")
@pytest.mark.parametrize("steps", [1, 2])
def test_a_saved_state_continues_the_recorded_sequence_bit_for_bit(small: Checkpoint, steps: int) -> None:
    lrs = frames(4)
    with TorchRunner(small.model, SIZE, device="cuda") as runner:
        assert runner.state == {}
        for lr in lrs[:steps]:
            runner.step(lr)
        saved = runner.state
        expected = runner.step(lrs[steps])
        runner.reset()
        runner.step(lrs[3])
        runner.state = saved  # outside inference mode, as a resumed job does
        np.testing.assert_array_equal(runner.step(lrs[steps]), expected)


def test_convolutions_are_recorded_tuned_and_without_tf32(graphs: list[FakeGraph], small: Checkpoint) -> None:
    before = torch.backends.cudnn.benchmark, torch.backends.cudnn.allow_tf32
    TorchRunner(small.model, SIZE, device="cuda")
    assert [graph.settings for graph in graphs] == [(True, False)] * 2
    assert (torch.backends.cudnn.benchmark, torch.backends.cudnn.allow_tf32) == before


def test_a_recording_forbids_other_threads_nothing(graphs: list[FakeGraph], small: Checkpoint) -> None:
    """By itself PyTorch lets CUDA refuse what they ask for meanwhile, as an encoder's memory, and end the recording."""
    TorchRunner(small.model, SIZE, device="cuda").close()
    assert [graph.options for graph in graphs] == [{"capture_error_mode": "thread_local"}] * 2


@pytest.mark.usefixtures("graphs")
def test_the_state_is_kept_in_the_layout_of_the_network(small: Checkpoint) -> None:
    with TorchRunner(small.model, SIZE, device="cuda") as runner:
        runner.step(frames(1)[0])
        assert runner._state is not None
        assert runner._state.feat_1.is_contiguous(memory_format=torch.channels_last)


def test_results_of_the_recorded_step_do_not_share_memory(graphs: list[FakeGraph], small: Checkpoint) -> None:
    lrs = frames(2)
    with TorchRunner(small.model, SIZE, device="cuda") as runner:
        first = runner.step(lrs[0])
        copy = first.copy()
        runner.step(lrs[1])
        np.testing.assert_array_equal(first, copy)
    assert graphs


def test_native_kernels_get_their_weights_in_order_once(
    small: Checkpoint, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("ksnet_deploy.ops.library.find_kernel_library", lambda: tmp_path / "kernels.so")
    model = KSNet(small.config).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    assert use_native_kernels(model)
    aligned = [module for module in model.modules() if isinstance(module, FlowGuidedAlignment)]
    assert [module.weight.is_contiguous() for module in aligned] == [True, True]


def test_the_largest_tensor_is_the_largest_that_a_step_makes(small: Checkpoint) -> None:
    size = FrameSize(64, 96)
    for config in (small.config, small.config.replace(["upsampler=direct"]), KSNetConfig(channels=16)):
        found = 0

        def note(_module: torch.nn.Module, inputs: tuple[object, ...], output: object) -> None:
            nonlocal found
            for tensor in (*inputs, output):
                if isinstance(tensor, torch.Tensor):
                    found = max(found, tensor.numel())

        model = KSNet(config).eval()
        for module in model.modules():
            module.register_forward_hook(note)
        lr = torch.zeros(1, 3, size.height, size.width)
        with torch.inference_mode():
            model(lr, model.initial_state(lr))
        assert largest_tensor(config, size) == found


@pytest.mark.usefixtures("graphs")
def test_frames_whose_tensors_cannot_be_counted_are_refused_in_a_sentence(small: Checkpoint) -> None:
    paper = KSNetConfig()
    check_elements(paper, FrameSize(1080, 1920))
    check_elements(paper, FrameSize(1, LIMIT // 1024 - 1))
    with pytest.raises(
        ConfigError, match=r"ends at 2097151 pixels; give smaller frames, or a checkpoint without --tiles off"
    ):
        check_elements(paper, FrameSize(1092, 1921))
    with pytest.raises(ConfigError, match="2\\^31 elements"):
        TorchRunner(small.model, FrameSize(9000, 9000), device="cuda")
