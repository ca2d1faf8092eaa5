from __future__ import annotations

import numpy as np
import pytest

from ksnet_deploy.base.metrics import luma, psnr, ssim


def noisy_pair(height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:height, :width]
    picture = np.stack([127 + 100 * np.sin(0.1 * (c + 1) * x + 0.07 * y) for c in range(3)], axis=-1)
    return tuple(np.clip(picture + rng.normal(0, s, picture.shape), 0, 255).astype(np.uint8) for s in (0, 12))


@pytest.mark.parametrize("size", [(40, 51), (11, 11), (64, 12)])
def test_psnr_and_ssim_agree_with_scikit_image(size: tuple[int, int]) -> None:
    from skimage.metrics import peak_signal_noise_ratio, structural_similarity  # takes a second

    a, b = map(luma, noisy_pair(*size))
    assert psnr(b, a) == pytest.approx(peak_signal_noise_ratio(a, b, data_range=255), abs=1e-4)
    # Scikit-image averages over the frame without the half-window border, as MATLAB's script does.
    options = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "data_range": 255}
    expected = structural_similarity(a.astype(np.float64), b.astype(np.float64), **options)
    assert ssim(b, a) == pytest.approx(expected, abs=1e-6)


def test_luma_of_known_colours() -> None:
    colours = np.array([[0, 0, 0], [255, 255, 255], [255, 0, 0], [0, 255, 0], [0, 0, 255]], np.uint8)
    # MATLAB: rgb2ycbcr of the same colours in double precision, times 255.
    np.testing.assert_allclose(luma(colours), [16, 235, 81.481, 144.553, 40.966], atol=1e-3)


def test_psnr_of_a_known_error() -> None:
    a = np.zeros((4, 5, 3), np.uint8)
    assert psnr(a, a) == float("inf")
    assert psnr(a + np.uint8(1), a) == pytest.approx(48.1308, abs=1e-4)
    assert psnr(a, a + np.uint8(255)) == pytest.approx(0)


def test_psnr_refuses_other_shapes_and_types() -> None:
    a = np.zeros((4, 5, 3), np.uint8)
    for other in (a[:3], a.astype(np.float32)):
        with pytest.raises(ValueError, match="two arrays of one shape and type"):
            psnr(a, other)
