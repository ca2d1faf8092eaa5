"""Fixtures of the tests of networks."""

from __future__ import annotations

import pytest
from networks import Tensors, randomise
from trainings import TINY

from ksnet_deploy.network.model import KSNet


@pytest.fixture(scope="module")
def weights() -> Tensors:
    return dict(randomise(KSNet(TINY)).state_dict())
