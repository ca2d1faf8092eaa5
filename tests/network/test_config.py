from __future__ import annotations

import pytest

from ksnet_deploy.base.errors import ConfigError
from ksnet_deploy.base.frames import FrameSize
from ksnet_deploy.network.config import KSNetConfig


def test_frame_size_is_height_by_width() -> None:
    size = FrameSize.parse("180x320")
    assert (size.height, size.width) == (180, 320)
    assert str(size) == "180x320"
    assert size.upscaled == FrameSize(720, 1280)


@pytest.mark.parametrize("text", ["", "180", "180x", "x320", "-1x5", "180x320x3", "0x10", "18.5x20"])
def test_malformed_frame_size_is_refused(text: str) -> None:
    with pytest.raises(ConfigError):
        FrameSize.parse(text)


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


@pytest.mark.parametrize("setting", ["nothing=1", "channels=many", "channels"])
def test_unknown_or_malformed_setting_is_refused(setting: str) -> None:
    with pytest.raises(ConfigError):
        KSNetConfig().replace([setting])


@pytest.mark.parametrize(
    "values",
    [
        {"channels": 60},
        {"channels": 0},
        {"channels": 64.0},
        {"keep_ratio": 0},
        {"keep_ratio": 1.5},
        {"keep_ratio": 0.01},
        {"keep_ratio": "0.75"},
        {"keep_ratio": None},
        {"flow_guidance": "both"},
        {"direction": "up"},
        {"alignment": "consistent", "flow_guidance": "prev1"},
        {"alignment": "consistent", "deform_groups": 1},
    ],
)
def test_impossible_configuration_is_refused(values: dict[str, object]) -> None:
    with pytest.raises(ConfigError):
        KSNetConfig(**values)  # type: ignore[arg-type]


@pytest.mark.parametrize("text", ["", "[1]", '{"depth": 3}', '{"channels": "many"}'])
def test_malformed_json_is_refused(text: str) -> None:
    with pytest.raises(ConfigError):
        KSNetConfig.from_json(text)


def test_the_shipped_sizes_depart_from_the_paper_where_the_ablation_says_so() -> None:
    paper, uni = KSNetConfig.named("paper"), KSNetConfig.named("uni")
    assert paper == KSNetConfig()
    assert uni == paper.replace(["flow_guidance=prev1"])
    assert KSNetConfig.named("lite").flow_guidance == "prev1"
