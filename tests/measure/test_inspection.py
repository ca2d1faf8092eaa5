"""What is seen inside a network, against the same computed by hand; and that looking changes nothing."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from clips import folder_of_frames, moving_grain
from command import failure_of, run
from networks import SMALL, new_checkpoint, randomise

import ksnet_deploy
from ksnet_deploy.base.errors import ConfigError, InputError, KSNetError
from ksnet_deploy.measure.inspection.channels import summarise
from ksnet_deploy.measure.inspection.maps import flow_picture, flow_wheel, grey_picture, heat_picture, maps_of
from ksnet_deploy.measure.inspection.recorder import BRANCHES, FrameRecord, LevelRecord, record
from ksnet_deploy.network.bundled import bundled_checkpoint
from ksnet_deploy.network.checkpoints import load_checkpoint
from ksnet_deploy.network.flow import warp
from ksnet_deploy.network.folding import fold
from ksnet_deploy.network.model import KSNet

FRAMES = 4


def frames_of(count: int = FRAMES, height: int = 20, width: int = 24) -> torch.Tensor:
    return torch.from_numpy(moving_grain(count, height, width)).permute(0, 3, 1, 2).float().contiguous() / 255


def naive_maps(f: np.ndarray, lam: float) -> tuple[np.ndarray, np.ndarray]:
    """Eqs. (1) and (2) pixel by pixel, in float64."""
    f = f.astype(np.float64)
    gradient, weighted = np.zeros_like(f), np.zeros_like(f)
    channels, height, width = f.shape
    for c in range(channels):
        for y in range(height):
            for x in range(width):
                dx = f[c, y, x + 1] - f[c, y, x] if x + 1 < width else 0.0
                dy = f[c, y + 1, x] - f[c, y, x] if y + 1 < height else 0.0
                gradient[c, y, x] = (dx * dx + dy * dy) ** 0.5
                weighted[c, y, x] = lam * gradient[c, y, x] + (1 - lam) * gradient[c, y, x] * f[c, y, x]
    return gradient, weighted


@pytest.fixture(scope="module")
def seen() -> tuple[KSNet, torch.Tensor, list[FrameRecord]]:
    torch.manual_seed(0)
    model = randomise(KSNet(SMALL)).eval()
    frames = frames_of()
    return model, frames, record(model, frames)


def test_gradient_and_weighted_maps_and_scores_equal_a_naive_computation(
    seen: tuple[KSNet, torch.Tensor, list[FrameRecord]],
) -> None:
    _, frames, records = seen
    offset = np.abs(frames[3].numpy().astype(np.float64) - frames[2].numpy()).mean(axis=0)
    assert records[3].offset is not None
    np.testing.assert_allclose(records[3].offset[0], offset, atol=1e-5)
    for level in records[3].levels:
        gradient, weighted = naive_maps(level.features, level.lam)
        found = maps_of(level.features, level.lam)
        np.testing.assert_allclose(found[0], gradient, atol=1e-5)
        np.testing.assert_allclose(found[1], weighted, atol=1e-5)
        # Eq. (2), as the norm that the paper has; it orders the channels alike.
        distance = np.sqrt(((weighted - offset) ** 2).sum(axis=(1, 2)))
        expected = np.zeros(len(distance), bool)
        expected[np.argsort(distance, kind="stable")[: int(level.kept.sum())]] = True
        np.testing.assert_array_equal(level.kept, expected)
        scores = (distance**2 - (offset**2).sum()) / offset.size
        np.testing.assert_allclose(level.scores, scores, atol=1e-5)


def test_features_and_flow_are_those_that_the_network_computes(
    seen: tuple[KSNet, torch.Tensor, list[FrameRecord]],
) -> None:
    model, frames, records = seen
    with torch.inference_mode():
        state = model.initial_state(frames[:1])
        for lr, found in zip(frames, records, strict=True):
            motion = model._observe(lr[None], state.prev_lr, state.flow_1)
            feat = model.extract(lr[None])
            branch = model.propagate
            aligned = branch.align(feat, state.feat_1, state.feat_2, motion)
            f = branch.fuse(torch.cat((aligned, feat, state.prop_1), dim=1))
            assert found.flow is not None
            np.testing.assert_allclose(found.flow, motion.to_1[0], atol=1e-5)
            np.testing.assert_allclose(found.levels[0].features, f[0], atol=1e-5)
            hr, state = model(lr[None], state)
            np.testing.assert_allclose(found.hr, hr[0], atol=1e-5)


def test_looking_leaves_no_hook_and_changes_nothing(seen: tuple[KSNet, torch.Tensor, list[FrameRecord]]) -> None:
    model, frames, _ = seen
    with torch.inference_mode():
        before = model.forward_window(frames[None])
        record(model, frames)
        after = model.forward_window(frames[None])
    assert torch.equal(before, after)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


@pytest.mark.parametrize(
    ("change", "levels"),
    [
        ({"direction": "bi"}, 3),
        ({"slots": "masked"}, 3),
        ({"slots": "rank"}, 3),
        ({"flow_guidance": "none"}, 3),
        ({"keep_ratio": 1.0}, 0),
        ({"split_levels": 1, "keep_ratio": 0.5}, 1),
    ],
)
def test_every_kind_of_network_can_be_looked_into(change: dict[str, Any], levels: int) -> None:
    torch.manual_seed(0)
    config = replace(SMALL, **change)
    records = record(fold(randomise(KSNet(config)).eval()), frames_of())
    for frame in records:
        assert [level.branch for level in frame.levels] == [b for b in BRANCHES for _ in range(levels)]
        assert (frame.flow is None) == (config.flow_guidance == "none")
        for level in frame.levels:
            expected = config.level_channels[level.level]
            assert level.kept.sum() == expected
            assert level.active.sum() == config.level_channels[level.level - 1]
            assert not (level.kept & ~level.active).any()
            assert level.scores[level.kept].max() <= level.scores[level.active & ~level.kept].min()


def test_of_both_directions_each_frame_has_its_own_values() -> None:
    """A frame that differs shows in its own record, whichever way the branch runs."""
    torch.manual_seed(0)
    model = randomise(KSNet(replace(SMALL, direction="bi", flow_guidance="none"))).eval()
    frames = frames_of()
    other = frames.clone()
    other[0] = 1 - other[0]
    first, second = record(model, frames), record(model, other)
    changed = [
        [
            not np.array_equal(a.levels[index].features, b.levels[index].features)
            for a, b in zip(first, second, strict=True)
        ]
        for index in (0, 3)
    ]
    assert changed[0][0]  # backward: the last that the first branch meets, so no other knows of it
    assert changed[0][1:] == [False, False, False]
    assert all(changed[1])  # forward


def level(kept: list[bool], features: np.ndarray) -> LevelRecord:
    mask = np.array(kept)
    return LevelRecord("propagate", 1, 0.5, features, np.zeros(len(kept), np.float32), mask, np.ones_like(mask))


def test_shares_flips_and_figures_of_channels_are_counted() -> None:
    flat, edge = np.zeros((6, 6), np.float32), np.zeros((6, 6), np.float32)
    edge[:, 3:] = 1
    gradient = np.zeros((1, 6, 6), np.float32)
    gradient[0, :, 2] = 1  # where the edge is
    kept = [[False, True, True], [True, True, False], [True, False, True], [True, False, True]]
    records = [FrameRecord(edge, edge, None, gradient, [level(each, np.stack([flat, edge, edge]))]) for each in kept]
    (summary,) = summarise(records)
    assert summary.kept_share.tolist() == [1, pytest.approx(1 / 3), pytest.approx(2 / 3)]
    assert summary.flips == [1, 0]  # the first frame does not count
    assert (summary.always, summary.never) == (1, 0)
    assert summary.gradient == (pytest.approx(1 / 12), pytest.approx(1 / 6))
    assert summary.correlation == (pytest.approx(0.5), pytest.approx(1.0))


def test_colours_say_what_the_wheel_says() -> None:
    wheel = flow_wheel(65)
    assert wheel[32, 32].tolist() == [255, 255, 255]
    for dx, dy, y, x in ((1, 0, 32, 64), (0, 1, 64, 32), (-1, 0, 32, 0), (0, -1, 0, 32)):
        flow = np.array([dx, dy], np.float32)[:, None, None].repeat(4, axis=1).repeat(4, axis=2)
        assert flow_picture(3 * flow, 3.0)[0, 0].tolist() == wheel[y, x].tolist()
    assert wheel[32, 64].tolist() == [230, 0, 0]  # to the right: red
    assert grey_picture(np.array([[0, 0.5, 2]], np.float32), 1.0)[0, :, 0].tolist() == [0, 128, 255]
    heat = heat_picture(np.array([[0, 1]], np.float32), 3)
    assert heat.shape == (3, 6, 3)
    assert heat[0, 0].sum() < 100
    assert heat[0, 3].sum() > 600


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return folder_of_frames(tmp_path_factory.mktemp("film") / "film", moving_grain(10, 20, 24))


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return new_checkpoint(tmp_path_factory.mktemp("net"), SMALL).path


def test_page_and_sheet_of_the_frame_that_was_asked_for(film: Path, checkpoint: Path, tmp_path: Path) -> None:
    found = ksnet_deploy.visualize(film, checkpoint, tmp_path / "look.html", at_s="0.26", frames=4)
    assert (len(found.frames), round(found.time_s * 25)) == (4, 6)
    np.testing.assert_allclose(found.frame.lr, frames_of(10)[6], atol=1e-6)
    page = (tmp_path / "look.html").read_text()
    data = json.loads(re.findall(r'id="data">(.*?)</script>', page, re.DOTALL)[0])
    assert [section["title"] for section in data["sections"][:2]] == ["The frame", "Over 4 frames"]
    captions = [figure["caption"] for figure in data["sections"][0]["groups"][0]["figures"]]
    assert {"frame", "directions", "offset map o", "propagate: G", "refine: weighted", "result"} <= set(captions)
    high, low = data["sections"][2]["groups"][1:]
    assert (len(high["figures"]), len(low["figures"])) == (12, 4)
    assert found.outputs == [tmp_path / "look.html", tmp_path / "look.png"]
    assert all(path.stat().st_size > 1000 for path in found.outputs)
    answer = found.as_dict()
    assert len(answer["levels"]) == 6
    json.dumps(answer, allow_nan=False)
    assert "propagate 1" in found.as_text()


def test_the_command_writes_beside_the_film_and_says_where(film: Path, checkpoint: Path) -> None:
    result = run("visualize", film, "--model", checkpoint, "--at", "0.1", "--frames", "2", "--json")
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout)["outputs"] == [
        str(film.parent / f"film_inside.{kind}") for kind in ("html", "png")
    ]
    assert "already exists" in failure_of(run("visualize", film, "--model", checkpoint))


@pytest.mark.parametrize(
    ("look", "error", "words"),
    [
        (lambda film: ksnet_deploy.visualize(film, at_s=99), InputError, "before the 99 s asked for; give --at"),
        (lambda film: ksnet_deploy.visualize(film, frames=0), ConfigError, "0 frames cannot be looked at"),
        (lambda _film: ksnet_deploy.visualize("-"), InputError, "a pipe cannot be looked at"),
        (lambda film: ksnet_deploy.visualize(film, "net.onnx"), KSNetError, "is not a checkpoint"),
        (lambda film: ksnet_deploy.visualize(film, output="look.gif"), KSNetError, "neither a page nor a picture"),
    ],
)
def test_what_cannot_be_looked_at_is_refused(
    film: Path, look: Callable[[Path], Any], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        look(film)


def test_the_flow_of_the_bundled_uni_follows_the_motion_within_half_a_pixel() -> None:
    frames = moving_grain(3, 48, 64)  # two pixels to the left a frame, so that they were to the right
    lrs = torch.from_numpy(frames).permute(0, 3, 1, 2).float() / 255
    flow_net = load_checkpoint(bundled_checkpoint("uni")).model.flow
    assert flow_net is not None
    with torch.inference_mode():
        flow = flow_net(lrs[2:], lrs[1:2])
        left = (warp(lrs[1:2], flow, "border") - lrs[2:]).abs().mean()
    assert float(flow[0, 0].median()) == pytest.approx(2, abs=0.5)
    assert float(flow[0, 1].median()) == pytest.approx(0, abs=0.5)
    assert left < 0.5 * (lrs[1] - lrs[2]).abs().mean()
