from __future__ import annotations

import re

import pytest

from ksnet_deploy.base.errors import ConfigError
from ksnet_deploy.base.frames import FrameSize
from ksnet_deploy.network.config import KSNetConfig


def test_frame_size_is_height_by_width() -> None:
    size = FrameSize.parse("180x320")
    assert (size.height, size.width) == (180, 320)
    assert str(size) == "180x320"
    assert size.upscaled == FrameSize(720, 1280)


@pytest.mark.parametrize("text", ["", "180", "180x", "x320", "-1x5", "180x320x3", "18.5x20", "180 x 320"])
def test_malformed_frame_size_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match=rf"^'{re.escape(text)}' is not a frame size; write HEIGHTxWIDTH"):
        FrameSize.parse(text)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("0x10", "a frame of 0x10 is empty; both sides must be at least 1 pixel"),
        ("100000x100000", "a frame of 100000x100000 is too large; a side is at most 99999 pixels"),
        ("180x1" + 5000 * "0", "is too large; a side is at most 99999 pixels"),
    ],
)
def test_a_frame_size_that_cannot_be_is_refused_as_what_it_is(text: str, words: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(words)) as caught:
        FrameSize.parse(text)
    assert len(str(caught.value)) < 200


def test_only_sides_below_the_minimum_are_padded() -> None:
    assert FrameSize(101, 67).padded == FrameSize(101, 67)
    assert FrameSize(8, 67).padded == FrameSize(16, 67)
    assert FrameSize(1, 1).padded == FrameSize(16, 16)


def test_level_channels_are_the_papers() -> None:
    assert KSNetConfig().level_channels == (64, 48, 36, 27)


def test_json_round_trip_keeps_every_setting() -> None:
    config = KSNetConfig(channels=32, keep_ratio=0.5, flow_guidance="prev1", direction="bi")
    assert KSNetConfig.from_json(config.to_json()) == config


def test_settings_can_be_replaced_by_text() -> None:
    config = KSNetConfig().replace(["keep_ratio=0.5", "flow_guidance=none", "channels=32"])
    assert (config.keep_ratio, config.flow_guidance, config.channels) == (0.5, "none", 32)


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("nothing=1", "'nothing=1' is no setting; write NAME=VALUE with a name of channels, "),
        ("channels=many", "channels is 'many'; a value of type int was expected"),
        ("channels", "channels is ''; a value of type int was expected"),
        ("keep_ratio=nan", "keep_ratio is nan; it must be a number, above 0 and at most 1"),
        ("reparameterize=no", "reparameterize is 'no'; it must be true or false"),
    ],
)
def test_unknown_or_malformed_setting_is_refused(setting: str, words: str) -> None:
    with pytest.raises(ConfigError, match=f"^{re.escape(words)}"):
        KSNetConfig().replace([setting])


RATIO = "it must be a number, above 0 and at most 1"
CONSISTENT = "alignment 'consistent' needs flow_guidance 'multi' and an even number of deform_groups, found"


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"channels": 60}, "channels (60) must be a multiple of deform_groups (8)"),
        ({"channels": 0}, "channels is 0; it must be a whole number from 1 to 1024"),
        ({"channels": 64.0}, "channels is 64.0; it must be a whole number from 1 to 1024"),
        ({"flow_channels": 1}, "flow_channels is 1; the flow network's narrowest layer needs 2"),
        ({"keep_ratio": 0}, f"keep_ratio is 0; {RATIO}"),
        ({"keep_ratio": 1.5}, f"keep_ratio is 1.5; {RATIO}"),
        ({"keep_ratio": "0.75"}, f"keep_ratio is '0.75'; {RATIO}"),
        ({"keep_ratio": None}, f"keep_ratio is None; {RATIO}"),
        ({"keep_ratio": 0.01}, "keep_ratio 0.01 leaves no channel after 3 levels of 64 channels; raise keep_ratio"),
        ({"flow_guidance": "both"}, "flow_guidance is 'both'; it must be one of none, prev1, prev2, multi"),
        ({"direction": "up"}, "direction is 'up'; it must be one of uni, bi"),
        ({"alignment": "consistent", "flow_guidance": "prev1"}, f"{CONSISTENT} 'prev1' and 8"),
        ({"alignment": "consistent", "deform_groups": 1}, f"{CONSISTENT} 'multi' and 1"),
    ],
)
def test_impossible_configuration_is_refused(values: dict[str, object], words: str) -> None:
    with pytest.raises(ConfigError, match=f"^{re.escape(words)}"):
        KSNetConfig(**values)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "the network configuration is not valid JSON ("),
        ("[1]", "the network configuration is [1]; a JSON object was expected"),
        ('{"depth": 3}', "the network configuration has the unknown setting depth; it was made by another version"),
        ('{"channels": "many"}', "channels is 'many'; it must be a whole number from 1 to 1024"),
    ],
)
def test_malformed_json_is_refused(text: str, words: str) -> None:
    with pytest.raises(ConfigError, match=f"^{re.escape(words)}"):
        KSNetConfig.from_json(text)


def test_the_shipped_sizes_depart_from_the_paper_where_the_ablation_says_so() -> None:
    paper, uni = KSNetConfig.named("paper"), KSNetConfig.named("uni")
    assert paper == KSNetConfig()
    assert uni == paper.replace(["flow_guidance=prev1"])
    assert KSNetConfig.named("lite").flow_guidance == "prev1"
