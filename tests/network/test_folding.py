from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from networks import SMALL, randomise

from ksnet_deploy.network.blocks import RCB, shared_kernels
from ksnet_deploy.network.config import KSNetConfig
from ksnet_deploy.network.folding import Kernel, embed, fold, fold_rcb, parallel, sequential
from ksnet_deploy.network.model import KSNet


def random_rcb(c_in: int = 8, c_out: int = 12) -> RCB:
    torch.manual_seed(0)
    block = RCB(c_in, c_out)
    with torch.no_grad():
        for parameter in block.parameters():
            parameter.normal_()
        block.plain.weight.mul_(0.1)
    return block


def fold_error(region: tuple[slice | int, ...], dtype: torch.dtype = torch.float64) -> float:
    """Largest difference between an RCB with random biases and its fold, relative to the largest output."""
    block = random_rcb().to(dtype)
    x = torch.randn(2, 8, 9, 11, dtype=dtype)
    with torch.no_grad():
        expected, found = block.branches(x), fold_rcb(block)(x)
    return ((expected - found)[(..., *region)].abs().max() / expected.abs().max()).item()


@pytest.mark.parametrize(
    "region",
    [
        pytest.param((0, slice(None)), id="top row"),
        pytest.param((-1, slice(None)), id="bottom row"),
        pytest.param((slice(None), 0), id="left column"),
        pytest.param((slice(None), -1), id="right column"),
        pytest.param((0, 0), id="top left corner"),
        pytest.param((-1, -1), id="bottom right corner"),
        pytest.param((slice(1, -1), slice(1, -1)), id="interior"),
    ],
)
def test_fold_is_exact(region: tuple[slice | int, ...]) -> None:
    assert fold_error(region) < 1e-13
    assert fold_error(region, torch.float32) < 1e-6


def test_one_summed_kernel_computes_all_branches_and_their_gradients() -> None:
    block = random_rcb().double()
    x = torch.randn(2, 8, 9, 11, dtype=torch.float64)
    found, expected = (
        torch.autograd.grad(f(x).sin().sum(), list(block.parameters()), allow_unused=True, materialize_grads=True)
        for f in (block, block.branches)
    )
    torch.testing.assert_close(block(x), block.branches(x), rtol=0, atol=1e-11)
    for a, b, (name, _) in zip(found, expected, block.named_parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9, msg=name)


def test_shared_kernels_are_summed_once_and_forgotten() -> None:
    block = random_rcb()
    x = torch.randn(1, 8, 6, 6)
    with shared_kernels(block):
        before = block(x)
        with torch.no_grad():
            block.plain.weight.add_(1)
        assert torch.equal(block(x), before)
    assert not torch.equal(block(x), before)


def test_a_plain_zero_pad_would_fail_this_at_the_border() -> None:
    block = random_rcb().double()
    x = torch.randn(1, 8, 6, 6, dtype=torch.float64)
    edge = block.sobel_x
    with torch.no_grad():
        weight = edge.scale[:, None, None, None] * edge.kernel
        zero_padded = F.conv2d(edge.squeeze(x), weight, edge.bias, padding=1, groups=12)
        difference = (zero_padded - edge(x)).abs()
    assert difference[..., 1:-1, 1:-1].max() < 1e-12
    assert difference[..., :, 0].max() > 0.1


def test_whole_network_folds_to_the_same_function_within_1e_5() -> None:
    model = randomise(KSNet(KSNetConfig())).eval()
    folded = fold(model)
    frames = torch.rand(3, 1, 3, 24, 40)
    state = folded_state = None
    with torch.no_grad():
        for lr in frames:
            hr, state = model(lr, state or model.initial_state(lr))
            folded_hr, folded_state = folded(lr, folded_state or folded.initial_state(lr))
            torch.testing.assert_close(folded_hr, hr, atol=1e-5, rtol=0)
            for found, expected in zip(folded_state, state, strict=True):
                torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


def test_fold_leaves_the_model_as_it_was() -> None:
    model = randomise(KSNet(SMALL)).train()
    before = copy.deepcopy(model.state_dict())
    folded = fold(model)
    assert any(isinstance(module, RCB) for module in model.modules())
    assert not any(isinstance(module, RCB) for module in folded.modules())
    assert model.training
    assert not folded.training
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, before[name])


def test_sequential_follows_equations_5_and_6() -> None:
    torch.manual_seed(0)
    first, second = torch.nn.Conv2d(3, 5, 1).double(), torch.nn.Conv2d(5, 4, 3).double()
    x = torch.randn(2, 3, 8, 8, dtype=torch.float64)
    weight, bias = sequential(Kernel.of(first), Kernel.of(second))
    with torch.no_grad():
        torch.testing.assert_close(F.conv2d(x, weight, bias), second(first(x)))


def test_embed_and_parallel_follow_equations_7_and_8() -> None:
    torch.manual_seed(0)
    kernels = [(3, 3), (1, 1), (1, 3), (5, 3)]
    convs = [torch.nn.Conv2d(3, 4, k, padding=(k[0] // 2, k[1] // 2)).double() for k in kernels]
    x = torch.randn(2, 3, 9, 9, dtype=torch.float64)
    weight, bias = parallel(map(Kernel.of, convs))
    assert weight.shape == (4, 3, 5, 3)
    with torch.no_grad():
        torch.testing.assert_close(F.conv2d(x, weight, bias, padding=(2, 1)), sum(conv(x) for conv in convs))


@pytest.mark.parametrize("target", [(1, 3), (4, 3)])
def test_embed_refuses_a_kernel_without_centre_place(target: tuple[int, int]) -> None:
    kernel = Kernel.of(torch.nn.Conv2d(1, 1, 3))
    with pytest.raises(ValueError, match="no centre place"):
        embed(kernel, *target)
