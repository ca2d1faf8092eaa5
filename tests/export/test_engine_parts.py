"""What engines are built for and must consist of; needs no TensorRT."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ksnet_deploy.base.errors import ArtifactError, BackendError, ConfigError
from ksnet_deploy.base.frames import FrameSize
from ksnet_deploy.export.engine.layers import check_layers, summary
from ksnet_deploy.runtime.tensorrt.spec import EngineSpec
from ksnet_deploy.runtime.tensorrt.target import GpuTarget, SizeRange, choose_flavour


@pytest.mark.parametrize(
    ("text", "sm"),
    [
        ("rtx3080", 86),
        ("RTX 3080 Ti", 86),
        ("NVIDIA GeForce RTX 4070 SUPER", 89),
        ("sm120", 120),
        ("8.6", 86),
        ("75", 75),
    ],
)
def test_gpus_are_known_by_name_and_by_compute_capability(text: str, sm: int) -> None:
    assert GpuTarget.parse(text) == GpuTarget(sm)


@pytest.mark.parametrize("text", ["", "voodoo2", "sm", "sm8.6", "rtx", "8.61"])
def test_other_gpus_are_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="sm86"):
        GpuTarget.parse(text)


def test_size_ranges() -> None:
    assert SizeRange.parse(None, None, None, None) == SizeRange.fixed(FrameSize(180, 320))
    fixed = SizeRange.parse("180x320", None, None, None)
    assert fixed.is_fixed
    assert FrameSize(180, 320) in fixed
    assert FrameSize(180, 321) not in fixed
    free = SizeRange.parse(None, "90x160", "180x320", "540x960")
    assert FrameSize(100, 960) in free
    assert FrameSize(89, 960) not in free
    for texts, words in (
        ((None, "90x160", None, "540x960"), "all of"),
        ((None, "90x160", "80x160", "540x960"), "not in order"),
        (("180x320", "90x160", "180x320", "540x960"), "--size is for an engine of one size"),
        (("8x320", None, None, None), "below the network's"),
    ):
        with pytest.raises(ConfigError, match=words):
            SizeRange.parse(*texts)


GOOD = {"CONVOLUTION": {"HALF": 85}, "GRID_SAMPLE": {"FLOAT": 13}, "TOPK": {"FLOAT": 12}}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"CONVOLUTION": {"HALF": 84, "FLOAT": 1}}, "1 FLOAT, 84 HALF"),
        ({"CONVOLUTION": {"FLOAT": 85}}, "asked|was to compute in fp16"),
        ({"CONVOLUTION": {}}, "absent"),
        ({"GRID_SAMPLE": {"HALF": 13}}, "GRID_SAMPLE"),
        ({"TOPK": {"FLOAT": 11, "HALF": 1}}, "TOPK"),
        ({"PLUGIN_V3": {"HALF": 8}}, "8 plugin layers, where 0 were expected"),
        ({"GRID_SAMPLE": {}}, "samples nothing|GRID_SAMPLE"),
    ],
)
def test_layers_of_a_wrong_type_are_refused(change: dict[str, dict[str, int]], words: str) -> None:
    check_layers(GOOD, "fp16", 8, with_plugins=False)
    with pytest.raises(ArtifactError, match=words):
        check_layers(GOOD | change, "fp16", 8, with_plugins=False)


def test_a_function_body_in_the_place_of_a_plugin_is_noticed() -> None:
    check_layers(GOOD | {"PLUGIN_V3": {"HALF": 8}}, "fp16", 8, with_plugins=True)
    for found in ({}, {"PLUGIN_V3": {"HALF": 2}}):
        with pytest.raises(ArtifactError, match="where 8 were expected"):
            check_layers(GOOD | found, "fp16", 8, with_plugins=True)
    assert "PLUGIN_V3 8 HALF" in summary(GOOD | {"PLUGIN_V3": {"HALF": 8}})


def test_missing_flavours_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    for wanted in ("auto", "rtx", "tensorrt"):
        with pytest.raises(BackendError, match="extra"):
            choose_flavour(wanted)  # type: ignore[arg-type]


def test_the_effort_is_part_of_what_an_engine_is() -> None:
    plain = EngineSpec("tensorrt", GpuTarget(90), "fp16", SizeRange.fixed(FrameSize(180, 320)))
    assert EngineSpec.from_dict(replace(plain, effort=5).as_dict()) == replace(plain, effort=5) != plain
    older = {name: value for name, value in plain.as_dict().items() if name != "effort"}
    assert EngineSpec.from_dict(older) == plain
