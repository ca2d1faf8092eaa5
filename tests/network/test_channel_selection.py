from __future__ import annotations

import pytest
import torch
from networks import SMALL, randomise

from ksnet_deploy.base.errors import ConfigError
from ksnet_deploy.base.frames import FrameSize
from ksnet_deploy.export.onnx import export_onnx
from ksnet_deploy.network.channel_selection import MaskedChannelSelection
from ksnet_deploy.network.checkpoints import load_checkpoint, save_checkpoint
from ksnet_deploy.network.config import KSNetConfig
from ksnet_deploy.network.model import KSNet
from ksnet_deploy.ops.reference import topk_mask, topk_split


def inputs(n: int = 2, c: int = 8, h: int = 7, w: int = 9) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    f = torch.randn(n, c, h, w, generator=generator)
    return f, torch.rand(n, 1, h, w, generator=generator), torch.full((1,), 0.3)


def test_ranked_slots_hold_the_same_channels_best_first() -> None:
    f, o, lam = inputs()
    ordered, ranked = (topk_split(f, o, lam, 5, ranked=value) for value in (False, True))
    for item in range(len(f)):
        place = [next(i for i in range(5) if torch.equal(ranked.con[item, i], x)) for x in ordered.con[item]]
        assert sorted(place) == list(range(5))
    again = topk_split(ranked.con, o, lam, 4, ranked=True)
    assert torch.equal(again.con, ranked.con[:, :4])


def test_the_mask_marks_the_channels_that_the_split_keeps() -> None:
    f, o, lam = inputs()
    everything = torch.ones(2, 8, 1, 1)
    mask, rest = topk_mask(f, o, lam, 5, everything, 8)
    split = topk_split(f, o, lam, 5)
    for item in range(2):
        assert torch.equal(f[item][mask[item, :, 0, 0] > 0], split.con[item])
        assert torch.equal(f[item][rest[item, :, 0, 0] > 0], split.dis[item])


def test_the_mask_chooses_among_active_channels_only() -> None:
    f, o, lam = inputs()
    active = torch.tensor([1.0, 0, 1, 1, 0, 1, 1, 0]).reshape(1, 8, 1, 1).expand(2, -1, -1, -1)
    mask, rest = topk_mask(f, o, lam, 3, active, 5)
    assert mask.sum(dim=1).flatten().tolist() == [3, 3]
    assert torch.equal(mask + rest, active)


def test_lambda_learns_through_the_mask_of_value_one() -> None:
    f, o, lam = inputs()
    lam.requires_grad_()
    mask, _ = topk_mask(f, o, lam, 5, torch.ones(2, 8, 1, 1), 8)
    assert set(mask.detach().flatten().tolist()) == {0.0, 1.0}
    (f * mask).square().sum().backward()
    assert lam.grad is not None
    assert lam.grad.abs().item() > 0


def test_kernels_of_unselected_channels_do_not_matter() -> None:
    """With activated kernels, a channel's row and column act only while it is selected."""
    torch.manual_seed(0)
    unit = MaskedChannelSelection(KSNetConfig(channels=8, deform_groups=2, slots="masked"))
    f, o, _ = inputs(n=1)
    level = unit.levels[0]
    _, _, keep = level(f, o, torch.ones(1, 8, 1, 1))
    unselected = int((keep[0, :, 0, 0] == 0).nonzero()[0])
    before = level(f, o, torch.ones(1, 8, 1, 1))[0]
    with torch.no_grad():
        level.explore[0].plain.weight[unselected] += 1
        level.explore[0].plain.weight[:, unselected] += 1
    assert torch.equal(level(f, o, torch.ones(1, 8, 1, 1))[0], before)


@pytest.mark.parametrize("slots", ["rank", "masked"])
def test_other_slots_train_and_refuse_export(slots: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp(slots)
    model = randomise(KSNet(SMALL.replace([f"slots={slots}"])))
    model.forward_window(torch.rand(1, 2, 3, 16, 16)).sum().backward()
    save_checkpoint(model, folder / "c.safetensors", training="", licence="")
    with pytest.raises(ConfigError, match=f"slots '{slots}', which cannot be exported"):
        export_onnx(load_checkpoint(folder / "c.safetensors"), folder / "c.onnx", size=FrameSize(16, 16))
