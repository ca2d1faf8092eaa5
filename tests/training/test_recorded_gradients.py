"""Loss and gradients played from a recording, on a stand-in for CUDA that records and replays on the CPU."""

from __future__ import annotations

import pytest
import torch
from fake_torch_cuda import FakeGraph, use_fake_cuda
from networks import SMALL
from torch import Tensor

from ksnet_deploy.network.blocks import shared_kernels
from ksnet_deploy.network.flow import SpyNet
from ksnet_deploy.network.model import KSNet
from ksnet_deploy.training.losses import temporal_loss
from ksnet_deploy.training.recorded import RecordedGradients


@pytest.fixture
def graphs(monkeypatch: pytest.MonkeyPatch) -> list[FakeGraph]:
    return use_fake_cuda(monkeypatch)


class Gradients:
    """The loss of windows of a small network, as the training's loop computes it."""

    def __init__(self) -> None:
        torch.manual_seed(0)
        self.model = KSNet(SMALL)
        self.parameters = list(self.model.parameters())
        for parameter in self.parameters:
            parameter.data.add_(0.02 * torch.randn_like(parameter))  # convolutions begin at zero
        self.calls = 0

    def __call__(self, batch: tuple[Tensor, ...]) -> Tensor:
        self.calls += 1
        lr, hr = batch
        with torch.autocast("cpu", torch.bfloat16), shared_kernels(self.model):
            loss = (self.model.forward_window(lr) - hr).abs().mean()
        for parameter in self.parameters:
            parameter.grad = None
        loss.backward()  # type: ignore[no-untyped-call]
        return loss.detach()


def batch(seed: int, size: int = 16, frames: int = 2) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    shape = (1, frames, 3, size, size)
    return torch.rand(shape, generator=generator), torch.rand((*shape[:3], 4 * size, 4 * size), generator=generator)


def grads(parameters: list[torch.nn.Parameter]) -> list[Tensor | None]:
    return [None if parameter.grad is None else parameter.grad.clone() for parameter in parameters]


@pytest.mark.slow
def test_a_recording_gives_the_loss_and_gradients_of_each_batch_and_of_changed_weights(
    graphs: list[FakeGraph],
) -> None:
    plain, compute = Gradients(), Gradients()
    recorded = RecordedGradients(compute, compute.parameters)
    for seed in range(3):
        expected, found = plain(batch(seed)), recorded(batch(seed))
        assert torch.equal(found, expected)
        for one, other in zip(grads(compute.parameters), grads(plain.parameters), strict=True):
            assert (one is None) == (other is None)
            if one is not None and other is not None:
                torch.testing.assert_close(one, other, rtol=0, atol=0)
        for gradients in (plain, compute):  # an optimizer's step, in place
            for parameter in gradients.parameters:
                if parameter.grad is not None:
                    parameter.data.sub_(0.1 * parameter.grad)
    assert [graph.replays for graph in graphs] == [3]
    assert compute.calls == 4, "three to warm up, one to record"


@pytest.mark.slow
def test_another_shape_and_other_trained_parameters_are_recorded_anew(graphs: list[FakeGraph]) -> None:
    plain, compute = Gradients(), Gradients()
    recorded = RecordedGradients(compute, compute.parameters)
    recorded(batch(0))
    assert torch.equal(recorded(batch(1, frames=3)), plain(batch(1, frames=3)))
    assert len(graphs) == 2
    for model in (plain.model, compute.model):
        assert model.flow is not None
        model.flow.requires_grad_(requires_grad=False)
    assert torch.equal(recorded(batch(2, frames=3)), plain(batch(2, frames=3)))
    assert len(graphs) == 3
    assert compute.model.flow is not None
    assert all(parameter.grad is None for parameter in compute.model.flow.parameters())


def test_the_windows_that_count_are_those_of_each_batch(graphs: list[FakeGraph]) -> None:
    """The loss on what changes along the motion is recorded too, with flags of the windows that were encoded."""
    torch.manual_seed(0)
    flow = SpyNet(2, 2)
    plain, played = (torch.nn.Parameter(torch.ones(1, 1, 3, 1, 1)) for _ in range(2))

    def compute(batch: tuple[Tensor, ...], scale: torch.nn.Parameter) -> Tensor:
        found, hr, encoded = batch
        scale.grad = None
        loss = temporal_loss(found * scale, hr, flow, encoded)
        loss.backward()  # type: ignore[no-untyped-call]
        return loss.detach()

    recorded = RecordedGradients(lambda batch: compute(batch, played), [played])
    hr = torch.rand(2, 3, 3, 32, 32) / 100
    for flags in ([True, True], [False, True], [False, False]):
        batch = hr + 0.1 * torch.rand_like(hr), hr, torch.tensor(flags)
        loss = compute(batch, plain)
        assert (loss > 0) == any(flags)
        assert torch.equal(recorded(batch), loss)
        assert plain.grad is not None
        assert played.grad is not None
        assert torch.equal(played.grad, plain.grad)
    assert [graph.replays for graph in graphs] == [3]
