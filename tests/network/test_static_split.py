"""The frozen selection against the forced one, and that against the network that selects for every frame."""

from __future__ import annotations

import pytest
import torch
from networks import SMALL, randomise
from torch import Tensor

from ksnet_deploy.base.errors import ConfigError
from ksnet_deploy.network.folding import fold
from ksnet_deploy.network.model import KSNet
from ksnet_deploy.network.static_split import (
    ForcedLevel,
    chosen_channels,
    count_selections,
    force_selection,
    forced_channels,
    freeze_split,
)

Frames = list[Tensor]


@pytest.fixture(scope="module")
def model() -> KSNet:
    return randomise(KSNet(SMALL)).eval()


@pytest.fixture(scope="module")
def frames() -> Frames:
    return list(torch.rand(4, 1, 3, 20, 24, generator=torch.Generator().manual_seed(1)))


@torch.inference_mode()
def results(network: KSNet, frames: Frames, starts: tuple[int, ...] = (0,)) -> list[Tensor]:
    """HR frames and the last state of the recurrence, with scenes that start at these."""
    found, state = [], network.initial_state(frames[0])
    for index, lr in enumerate(frames):
        hr, state = network(lr, network.initial_state(lr) if index in starts else state)
        found.append(hr)
    return [*found, *state]


def test_frozen_is_the_forced_selection_to_rounding(model: KSNet, frames: Frames) -> None:
    counts = count_selections(model, ((lr, False) for lr in frames))
    kept = dict(zip(counts, 2 * SMALL.level_channels[1:], strict=True))
    least = {name: count.argsort(stable=True)[: kept[name]].tolist() for name, count in counts.items()}
    for chosen in (chosen_channels(model, counts), least):
        forced = force_selection(model, chosen)
        expected = results(forced, frames, (0, 2))
        frozen = freeze_split(fold(forced))
        assert not forced_channels(frozen)
        for found, wanted in zip(results(frozen, frames, (0, 2)), expected, strict=True):
            torch.testing.assert_close(found, wanted, rtol=0, atol=2e-5)
    assert (results(fold(model), frames)[3] - expected[3]).abs().max() > 1e-3  # the choice matters


def test_where_the_same_channels_are_always_selected_it_is_the_network_itself(model: KSNet, frames: Frames) -> None:
    still = [(frames[0], True)] * 3
    counts = count_selections(model, still)
    assert {int(n) for count in counts.values() for n in count} == {0, 3}
    frozen = freeze_split(fold(force_selection(model, chosen_channels(model, counts))))
    for found, wanted in zip(results(frozen, frames[:1]), results(fold(model), frames[:1]), strict=True):
        torch.testing.assert_close(found, wanted, rtol=0, atol=2e-5)


def test_each_split_keeps_as_many_as_it_should_and_a_scene_begins_afresh(model: KSNet, frames: Frames) -> None:
    once = count_selections(model, ((lr, False) for lr in frames))
    hrs: list[Tensor] = []
    twice = count_selections(model, ((lr, i == len(frames)) for i, lr in enumerate([*frames, *frames])), hrs.append)
    assert [len(count) for count in once.values()] == 2 * list(SMALL.level_channels[:-1])
    assert [int(count.sum()) for count in once.values()] == [4 * k for k in SMALL.level_channels[1:]] * 2
    assert all(torch.equal(twice[name], 2 * count) for name, count in once.items())
    assert all(torch.equal(a, b) for a, b in zip(hrs[:4], hrs[4:], strict=True))


def test_the_most_often_selected_are_chosen_and_ties_go_to_the_lower_index(model: KSNet) -> None:
    counts = {name: torch.zeros_like(count) for name, count in count_selections(model, []).items()}
    name = next(iter(counts))
    counts[name][[15, 3]] = torch.tensor([9, 1])
    chosen = chosen_channels(model, counts)
    assert chosen[name] == [*range(11), 15]
    assert all(kept == list(range(len(kept))) for other, kept in chosen.items() if other != name)


def test_the_network_stays_as_it_is_and_what_is_no_choice_of_its_channels_is_an_error(model: KSNet) -> None:
    chosen = chosen_channels(model, count_selections(model, []))
    forced = force_selection(model, chosen)
    assert forced_channels(forced) == chosen
    assert not any(isinstance(module, ForcedLevel) for module in model.modules())
    name = next(iter(chosen))
    for wrong in ({}, chosen | {name: chosen[name][:-1]}, chosen | {name: [*chosen[name][:-1], 16]}):
        with pytest.raises(ValueError, match="split"):
            force_selection(model, wrong)
    with pytest.raises(ValueError, match="RCB is not folded"):
        freeze_split(forced)


@pytest.mark.parametrize(
    ("setting", "reason"), [("direction=bi", "bidirectional"), ("slots=masked", "masked"), ("keep_ratio=1", "all of")]
)
def test_networks_without_such_splits_are_refused(setting: str, reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        count_selections(KSNet(SMALL.replace([setting])), [])
