from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from networks import SMALL, randomise

from ksnet_deploy.base.errors import ConfigError
from ksnet_deploy.base.frames import FrameSize
from ksnet_deploy.network.alignment import FlowGuidedAlignment, Motion
from ksnet_deploy.network.blocks import BicubicUpsample
from ksnet_deploy.network.checkpoints import Checkpoint
from ksnet_deploy.network.complexity import complexity
from ksnet_deploy.network.config import KSNetConfig
from ksnet_deploy.network.flow import SpyNet, warp
from ksnet_deploy.network.model import KSNet, PropagateState, RefineState
from ksnet_deploy.network.steps import Step

PAPER_SIZE = FrameSize(180, 320)


def test_deploy_form_fits_the_papers_budget() -> None:
    count = complexity(KSNetConfig(), PAPER_SIZE)
    assert count.params_deploy <= 3.05e6
    assert count.gmacs_deploy <= 296.9
    assert count.params_training > count.params_deploy
    assert count.gmacs_training > count.gmacs_deploy


def test_lite_is_cheap_enough_for_a_cpu() -> None:
    assert complexity(KSNetConfig.named("lite"), PAPER_SIZE).gmacs_deploy <= 20


def test_plain_convolutions_have_the_deploy_form_of_rcbs() -> None:
    plain, rcb = (complexity(KSNetConfig(reparameterize=value), PAPER_SIZE) for value in (False, True))
    assert (plain.params_deploy, plain.gmacs_deploy) == (rcb.params_deploy, rcb.gmacs_deploy)
    assert plain.params_training == plain.params_deploy


def test_parameters_grow_with_the_keep_ratio_as_in_figure_8() -> None:
    ratios = ("0.25", "0.5", "0.75", "1")
    params = [
        sum(p.numel() for p in KSNet(KSNetConfig().replace([f"keep_ratio={ratio}"])).parameters()) for ratio in ratios
    ]
    assert params == sorted(set(params))


@pytest.mark.parametrize("name", ["lite", *(pytest.param(name, marks=pytest.mark.slow) for name in ("uni", "paper"))])
def test_bi_has_the_parameters_and_the_work_of_uni_and_a_second_flow(name: str) -> None:
    config = KSNetConfig.named(name)
    uni, bi = (complexity(config.replace([f"direction={d}"]), PAPER_SIZE) for d in ("uni", "bi"))
    assert (uni.params_training, uni.params_deploy) == (bi.params_training, bi.params_deploy)
    still = complexity(config.replace(["flow_guidance=none"]), PAPER_SIZE)
    flow = uni.gmacs_deploy - still.gmacs_deploy
    assert flow > 0
    assert bi.gmacs_deploy == pytest.approx(uni.gmacs_deploy + flow, rel=0.01)


def test_the_steps_of_bi_are_its_window(small_bi: Checkpoint) -> None:
    lrs = torch.rand(1, 4, 3, 20, 24)
    model = small_bi.model
    with torch.no_grad():
        expected = model.forward_window(lrs)
        props: list[torch.Tensor] = []
        backward = model.fresh_state(PropagateState, lrs[:, 3])
        for index in reversed(range(4)):
            prop, backward = model.propagate_step(lrs[:, index], backward)
            props.insert(0, prop)
        forward = model.fresh_state(RefineState, lrs[:, 0])
        for index, prop in enumerate(props):
            hr, forward = model.refine_step(lrs[:, index], prop, forward)
            assert torch.equal(hr, expected[:, index])
    with pytest.raises(ConfigError, match="too small"):
        model.propagate_step(torch.rand(1, 3, 15, 40), backward)
    with pytest.raises(ConfigError, match="direction 'bi' has no step 'step', only propagate and refine"):
        Step(model, "step")


def test_multiply_adds_agree_with_a_count_by_hand() -> None:
    """Extraction alone: one 3->C and 2 C->C convolutions of 3x3 per block, at LR size."""
    one, two = (complexity(KSNetConfig(extract_blocks=n), PAPER_SIZE) for n in (1, 2))
    assert two.gmacs_deploy - one.gmacs_deploy == pytest.approx(2 * 64 * 64 * 9 * 180 * 320 / 1e9)


@pytest.mark.parametrize("guidance", ["none", "prev1", "prev2", "multi"])
def test_every_flow_guidance_steps_and_is_differentiable(guidance: str) -> None:
    torch.manual_seed(0)
    model = randomise(KSNet(SMALL.replace([f"flow_guidance={guidance}"])))
    hr = model.forward_window(torch.rand(2, 3, 3, 20, 24))
    assert hr.shape == (2, 3, 3, 80, 96)
    hr.square().mean().backward()
    # The bias of an edge branch's 1x1 meets a filter that sums to zero: it has no effect and no gradient.
    learned = {name: p.grad for name, p in model.named_parameters() if not name.endswith("squeeze.bias")}
    assert [name for name, grad in learned.items() if grad is None or not torch.isfinite(grad).all()] == []


def test_every_lambda_receives_a_gradient() -> None:
    torch.manual_seed(0)
    model = randomise(KSNet(KSNetConfig(extract_blocks=1)))
    model.forward_window(torch.rand(1, 3, 3, 24, 24)).square().mean().backward()
    lams = [p for name, p in model.named_parameters() if name.endswith(".lam")]
    assert len(lams) == 6
    assert all(lam.grad is not None and lam.grad.abs().item() > 0 for lam in lams)


@pytest.mark.parametrize(
    "settings",
    [
        ["alignment=consistent"],
        ["keep_ratio=1"],
        ["keep_ratio=0.5"],
        ["direction=bi"],
        ["direction=bi", "flow_guidance=none"],
        ["flow_levels=5", "offset_stride=2", "refine_alignment=flow"],
        ["flow_levels=1", "offset_stride=2", "alignment=consistent"],
        ["refine_alignment=flow", "direction=bi", "flow_guidance=multi"],
    ],
)
def test_every_configuration_runs(settings: list[str]) -> None:
    model = randomise(KSNet(SMALL.replace(settings))).eval()
    with torch.no_grad():
        assert model.forward_window(torch.rand(1, 3, 3, 17, 19)).shape == (1, 3, 3, 68, 76)


def test_fewer_levels_of_flow_give_the_coarser_flow_enlarged() -> None:
    torch.manual_seed(0)
    whole = SpyNet(8)
    fewer = SpyNet(8, levels=4)
    fewer.load_state_dict({k: v for k, v in whole.state_dict().items() if int(k.split(".")[1]) < 4})
    one, other = torch.rand(2, 1, 3, 45, 70)
    with torch.no_grad():
        expected = whole.pyramid(one, other)[3]
        for _ in range(2):
            expected = 2 * F.interpolate(expected, scale_factor=2.0, mode="bilinear", align_corners=True)
        found = fewer(one, other)
    assert found.shape == (1, 2, 45, 70)
    torch.testing.assert_close(found, expected[..., :45, :70])
    assert found.std() > 1e-3


@pytest.mark.parametrize(("h", "w"), [(16, 24), (17, 19)])
def test_offsets_for_every_other_pixel_are_enlarged(h: int, w: int) -> None:
    """Where they are the same everywhere, they are those of every pixel."""
    torch.manual_seed(0)
    every = FlowGuidedAlignment(SMALL)
    other = FlowGuidedAlignment(SMALL.replace(["offset_stride=2"]))
    torch.nn.init.normal_(every.offsets[2].bias, std=0.1)  # type: ignore[arg-type]
    other.load_state_dict(every.state_dict())
    u, u_1, u_2 = torch.rand(3, 1, 16, h, w)
    motion = Motion(*torch.randn(3, 1, 2, h, w), torch.rand(1, 1, h, w))
    with torch.no_grad():
        torch.testing.assert_close(other(u, u_1, u_2, motion), every(u, u_1, u_2, motion))


def test_the_second_branch_can_be_aligned_by_the_flow_alone() -> None:
    torch.manual_seed(0)
    model = KSNet(SMALL.replace(["refine_alignment=flow", "flow_guidance=prev1"]))
    assert isinstance(model.propagate.align, FlowGuidedAlignment)
    u, u_1, u_2 = torch.rand(3, 1, 16, 16, 24)
    motion = Motion(*torch.randn(3, 1, 2, 16, 24), torch.rand(1, 1, 16, 24))
    torch.testing.assert_close(model.refine.align(u, u_1, u_2, motion), warp(u_1, motion.to_1))
    assert not [name for name, _ in model.named_parameters() if name.startswith("refine.align")]


def test_literal_and_consistent_readings_differ() -> None:
    lrs = torch.rand(1, 4, 3, 24, 24)
    literal = randomise(KSNet(SMALL)).eval()
    consistent = KSNet(SMALL.replace(["alignment=consistent"])).eval()
    consistent.load_state_dict(literal.state_dict())
    with torch.no_grad():
        difference = (literal.forward_window(lrs) - consistent.forward_window(lrs)).abs().amax(dim=(0, 2, 3, 4))
    assert difference[3] > 1e-3


def test_uni_sees_only_the_past_and_bi_the_future_too() -> None:
    lrs = torch.rand(1, 4, 3, 20, 20)
    changed = lrs.clone()
    changed[:, 3] = torch.rand(1, 3, 20, 20)
    for direction in ("uni", "bi"):
        model = randomise(KSNet(SMALL.replace([f"direction={direction}"]))).eval()
        with torch.no_grad():
            difference = (model.forward_window(lrs) - model.forward_window(changed)).abs()[:, :3].max()
        assert (difference > 0) == (direction == "bi")


def test_a_fresh_state_forgets_the_past() -> None:
    model = randomise(KSNet(SMALL)).eval()
    first, second = torch.rand(2, 1, 3, 20, 20)
    with torch.no_grad():
        _, state = model(first, model.initial_state(first))
        continued, _ = model(second, state)
        fresh, _ = model(second, model.initial_state(second))
        again, _ = model(second, model.initial_state(second))
    assert torch.equal(fresh, again)
    assert not torch.equal(fresh, continued)


def test_samples_of_a_batch_do_not_touch_each_other() -> None:
    model = randomise(KSNet(SMALL)).eval()
    lrs = torch.rand(3, 2, 3, 20, 24)
    with torch.no_grad():
        together = model.forward_window(lrs)
        alone = torch.cat([model.forward_window(lr[None]) for lr in lrs])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=0)


def test_untrained_network_gives_the_bicubic_base() -> None:
    torch.manual_seed(0)
    model = KSNet(SMALL).eval()
    lrs = torch.rand(1, 2, 3, 20, 24)
    with torch.no_grad():
        assert torch.equal(model.forward_window(lrs)[:, 1], model.base(lrs[:, 1], torch.zeros(1, 3, 80, 96)))


def test_base_is_bicubic_interpolation() -> None:
    """Away from the border, where PyTorch renormalises its kernel, antialias=True means a = -0.5 as here."""
    lr = torch.rand(2, 3, 12, 15)
    expected = F.interpolate(lr, scale_factor=4, mode="bicubic", antialias=True, align_corners=False)
    found = BicubicUpsample()(lr, torch.zeros(2, 3, 48, 60))
    inner = (..., slice(8, -8), slice(8, -8))
    torch.testing.assert_close(found[inner], expected[inner], atol=1e-5, rtol=0)


def test_base_keeps_a_flat_picture_flat_to_the_border() -> None:
    flat = torch.full((1, 3, 5, 6), 0.7)
    found = BicubicUpsample()(flat, torch.zeros(1, 3, 20, 24))
    torch.testing.assert_close(found, torch.full((1, 3, 20, 24), 0.7), atol=1e-6, rtol=0)


def test_warp_moves_by_whole_and_half_pixels() -> None:
    x = torch.rand(1, 2, 6, 8)
    flow = torch.zeros(1, 2, 6, 8)
    torch.testing.assert_close(warp(x, flow), x, atol=1e-6, rtol=0)
    flow[:, 0] = 2  # dx first
    torch.testing.assert_close(warp(x, flow)[..., :-2], x[..., 2:], atol=1e-6, rtol=0)
    assert (warp(x, flow)[..., -2:] == 0).all()
    flow = torch.zeros(1, 2, 6, 8)
    flow[:, 1] = 0.5
    torch.testing.assert_close(warp(x, flow)[..., :-1, :], (x[..., :-1, :] + x[..., 1:, :]) / 2, atol=1e-6, rtol=0)


def test_a_frame_below_the_minimum_is_refused() -> None:
    model = KSNet(SMALL)
    lr = torch.rand(1, 3, 15, 40)
    with pytest.raises(ConfigError, match="too small"):
        model(lr, model.initial_state(lr))


def test_bi_has_no_single_step() -> None:
    model = KSNet(SMALL.replace(["direction=bi"]))
    lr = torch.rand(1, 3, 20, 20)
    with pytest.raises(ConfigError, match="forward_window"):
        model(lr, model.initial_state(lr))
