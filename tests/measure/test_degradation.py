from __future__ import annotations

import math

import numpy as np
import pytest

from ksnet_deploy.measure.degradation import MARGIN, Degradation, degrade, enlarge_bicubic


def picture(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


def cubic(x: float) -> float:
    x = abs(x)
    if x <= 1:
        return 1.5 * x**3 - 2.5 * x**2 + 1
    return -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2 if x < 2 else 0.0


def mirrored(index: int, size: int) -> int:
    while not 0 <= index < size:
        index = -1 - index if index < 0 else 2 * size - 1 - index
    return index


def imresize_line(line: list[float], scale: float) -> list[float]:
    """MATLAB's imresize of one line, sample by sample, as its documentation describes it."""
    result = []
    stretch = max(1 / scale, 1)
    for i in range(round(len(line) * scale)):
        centre = (i + 0.5) / scale - 0.5
        reach = range(math.floor(centre - 2 * stretch) - 1, math.ceil(centre + 2 * stretch) + 2)
        weights = [cubic((centre - k) / stretch) for k in reach]
        total = sum(weights)
        result.append(sum(w * line[mirrored(k, len(line))] for w, k in zip(weights, reach, strict=True)) / total)
    return result


def gaussian_line(line: list[float]) -> list[float]:
    weights = [math.exp(-(d**2) / (2 * 1.6**2)) for d in range(-6, 7)]
    return [
        sum(w * line[mirrored(i + d, len(line))] for w, d in zip(weights, range(-6, 7), strict=True)) / sum(weights)
        for i in range(0, len(line), 4)
    ]


def on_both_axes(frame: np.ndarray, resample: object) -> np.ndarray:
    assert callable(resample)
    columns = np.apply_along_axis(lambda line: np.array(resample(line.tolist())), 0, frame.astype(np.float64))
    return np.apply_along_axis(lambda line: np.array(resample(line.tolist())), 1, columns)


def assert_equal_up_to_ties(found: np.ndarray, expected: np.ndarray) -> None:
    """uint8 against unrounded float64: rounding may go either way within 1e-3 of a half."""
    assert np.abs(found - np.clip(expected, 0, 255)).max() <= 0.5 + 1e-3


@pytest.mark.parametrize("size", [(24, 36), (16, 4), (4, 8)])
def test_bi_is_imresize_by_a_quarter(size: tuple[int, int]) -> None:
    hr = picture(*size, 3)
    assert_equal_up_to_ties(degrade(hr, "BI"), on_both_axes(hr, lambda line: imresize_line(line, 0.25)))


@pytest.mark.parametrize("size", [(24, 36), (16, 4)])
def test_bd_is_a_gaussian_of_sigma_1_6_and_every_fourth_pixel(size: tuple[int, int]) -> None:
    hr = picture(*size, 3)
    assert_equal_up_to_ties(degrade(hr, "BD"), on_both_axes(hr, gaussian_line))


@pytest.mark.parametrize("size", [(7, 9), (1, 5), (2, 2)])
def test_enlarging_is_imresize_by_four(size: tuple[int, int]) -> None:
    lr = picture(*size, 3)
    assert_equal_up_to_ties(enlarge_bicubic(lr), on_both_axes(lr, lambda line: imresize_line(line, 4)))


@pytest.mark.parametrize("kind", ["BI", "BD"])
def test_a_crop_with_margin_degrades_like_the_whole(kind: Degradation) -> None:
    hr = picture(3, 64, 80, 3)
    whole = degrade(hr, kind)
    top, left, height, width = 4, 5, 6, 7
    rows = slice(4 * (top - MARGIN), 4 * (top + height + MARGIN))
    columns = slice(4 * (left - MARGIN), 4 * (left + width + MARGIN))
    part = degrade(hr[:, rows, columns], kind)[:, MARGIN:-MARGIN, MARGIN:-MARGIN]
    np.testing.assert_array_equal(part, whole[:, top : top + height, left : left + width])


def test_a_flat_picture_stays_flat() -> None:
    for kind in ("BI", "BD"):
        assert (degrade(np.full((16, 16, 3), 77, np.uint8), kind) == 77).all()


def test_a_size_that_four_does_not_divide_is_refused() -> None:
    with pytest.raises(ValueError, match="14x16"):
        degrade(picture(14, 16, 3), "BI")
