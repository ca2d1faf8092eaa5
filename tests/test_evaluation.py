from __future__ import annotations

import numpy as np
import pytest

from ksnet_deploy.evaluation import psnr


def test_psnr_of_a_known_error() -> None:
    a = np.zeros((4, 5, 3), np.uint8)
    assert psnr(a, a) == float("inf")
    assert psnr(a + np.uint8(1), a) == pytest.approx(48.1308, abs=1e-4)
    assert psnr(a, a + np.uint8(255)) == pytest.approx(0)


def test_psnr_refuses_other_shapes_and_types() -> None:
    a = np.zeros((4, 5, 3), np.uint8)
    for other in (a[:3], a.astype(np.float32)):
        with pytest.raises(ValueError, match="uint8 arrays of one shape"):
            psnr(a, other)
