from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from trainings import tiny_task

from ksnet_deploy.training.optimizer import MuonWithAdam, make_optimizer, split_kernels
from ksnet_deploy.training.recipe import Recipe, Stage


def muon_by_definition(weight: Tensor, gradients: list[Tensor], rate: float) -> Tensor:
    """Muon in float64 with the exact polar factor's stand-in: five quintic Newton-Schulz steps, Nesterov momentum."""
    matrix, momentum = weight.double().flatten(1), torch.zeros(weight[0].numel(), dtype=torch.float64)
    for gradient in gradients:
        g = gradient.double().flatten(1)
        momentum = 0.95 * momentum + 0.05 * g
        x = 0.05 * g + 0.95 * momentum
        x = x / x.norm()
        for _ in range(5):
            gram = x @ x.T
            x = 3.4445 * x + (-4.7750 * gram + 2.0315 * gram @ gram) @ x
        matrix = matrix - rate * 0.2 * max(matrix.shape) ** 0.5 * x
    return matrix.view_as(weight)


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("shape", [(8, 16, 3, 3), (32, 4, 1, 1)])
def test_kernels_follow_muon_as_matrices_of_outputs_by_inputs_and_taps(
    shape: tuple[int, ...], memory_format: torch.memory_format
) -> None:
    torch.manual_seed(0)
    start, gradients = torch.randn(shape), [torch.randn(shape) for _ in range(4)]
    kernel = nn.Parameter(start.clone(memory_format=memory_format))
    bias = nn.Parameter(torch.ones(3))
    optimizer = make_optimizer(split_kernels({"params": [kernel, bias], "lr": 0.01}))
    for gradient in gradients:
        kernel.grad, bias.grad = gradient.clone(), torch.full((3,), 0.5)
        optimizer.step()
    expected = muon_by_definition(start, gradients, 0.01)
    moved = (expected - start).square().mean().sqrt()
    error = (kernel - expected).square().mean().sqrt()
    assert error < 0.02 * moved, f"{error:.2e} of {moved:.2e}; PyTorch's iteration is in bfloat16"
    assert torch.allclose(bias, torch.full((3,), 1 - 4 * 0.01), atol=1e-6)  # Adam's steps under a constant gradient


def test_the_flow_network_biases_and_edge_scales_are_adams(tmp_path: Path) -> None:
    recipe = Recipe((Stage(1, 2, 3, 16),), optimizer="muon")
    task = tiny_task(tmp_path, recipe)
    groups = task.parameter_groups()
    assert [group["role"] for group in groups] == ["main", "main", "flow"]
    names = {parameter: name for name, parameter in task.model.named_parameters()}
    kernels = {names[parameter] for parameter in groups[0]["params"]}
    others = {names[parameter] for group in groups[1:] for parameter in group["params"]}
    assert kernels | others == set(names.values())
    assert kernels == {
        name for name, p in task.model.named_parameters() if p.ndim == 4 and not name.startswith("flow.")
    }
    assert any(name.endswith("sobel_x.scale") for name in others)
    assert isinstance(make_optimizer(groups), MuonWithAdam)


def test_a_recipe_with_adam_has_no_kernels_apart(tmp_path: Path) -> None:
    task = tiny_task(tmp_path)
    assert type(make_optimizer(task.parameter_groups())) is torch.optim.Adam


def test_a_group_at_rate_zero_stays() -> None:
    kernel, flow = nn.Parameter(torch.ones(4, 4, 3, 3)), nn.Parameter(torch.ones(4, 4, 3, 3))
    optimizer = make_optimizer([*split_kernels({"params": [kernel], "lr": 0.1}), {"params": [flow], "lr": 0.0}])
    kernel.grad, flow.grad = torch.randn(4, 4, 3, 3), torch.randn(4, 4, 3, 3)
    optimizer.step()
    assert not torch.equal(kernel, torch.ones_like(kernel))
    assert torch.equal(flow, torch.ones_like(flow))
