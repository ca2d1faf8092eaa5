from __future__ import annotations

import subprocess
import sys

import pytest

from ksnet_deploy.base.frames import FrameSize
from ksnet_deploy.network.complexity import complexity
from ksnet_deploy.network.config import KSNetConfig
from ksnet_deploy.network.macs import macs_per_frame

SETTINGS = (
    *("upsampler=direct", "slots=masked", "flow_guidance=none", "keep_ratio=0.5", "keep_ratio=1", "extract_blocks=1"),
    *(
        "reconstruct_blocks=3",
        "deform_groups=16",
        "offset_channels=8",
        "flow_channels=8",
        "channels=32",
        "direction=bi",
        "flow_levels=5",
        "offset_stride=2",
        "refine_alignment=flow",
    ),
)


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        *(("paper", ()), ("uni", ()), ("lite", ())),
        *(pytest.param(name, (one,), marks=pytest.mark.slow) for name in ("uni", "lite") for one in SETTINGS),
    ],
)
def test_the_formula_is_near_the_count_of_operators(name: str, settings: tuple[str, ...]) -> None:
    config, size = KSNetConfig.named(name).replace(settings), FrameSize(180, 320)
    assert macs_per_frame(config, size) / 1e9 == pytest.approx(complexity(config, size).gmacs_deploy, rel=0.03)


def test_it_loads_no_pytorch() -> None:
    code = "import sys, ksnet_deploy.network.macs; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
