"""The page of a comparison, the source's bicubic beside it, and the names on pictures."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from clips import folder_of_frames, noise, smooth_picture

from ksnet_deploy.base.errors import InputError
from ksnet_deploy.base.metrics import psnr
from ksnet_deploy.measure.compare import compare
from ksnet_deploy.measure.comparison_page import MOST_BYTES, MOST_POINTS, MOST_VIEWS, ComparisonPage
from ksnet_deploy.measure.degradation import degrade, enlarge_bicubic
from ksnet_deploy.measure.pages.lettering import STRIP_PX, label
from ksnet_deploy.video.picture import read_picture

TABLE: dict[str, Any] = {"title": "", "head": [], "rows": []}


def page_of(path: Path) -> dict[str, Any]:
    data: dict[str, Any] = json.loads(re.findall(r'id="data">(.*?)</script>', path.read_text(), re.DOTALL)[0])
    return data


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path, Path, np.ndarray]:
    """HR, a copy that is worse from frame to frame but the first, which is identical, and LR."""
    hr = np.stack([smooth_picture(64, 96) + t for t in range(5)]).astype(np.uint8)
    found = hr.copy()
    for t in range(5):
        found[t, :8, :8] ^= t
    lr = np.stack([degrade(frame, "BI") for frame in hr])
    a, b, c = (folder_of_frames(tmp_path / n, f) for n, f in (("hr", hr), ("found", found), ("lr", lr)))
    return a, b, c, lr


def test_curves_hold_the_figures_of_every_frame(folders: tuple[Path, Path, Path, np.ndarray], tmp_path: Path) -> None:
    hr, found, lr, frames = folders
    result = compare(hr, found, tmp_path / "page.html", source=lr)
    data = page_of(tmp_path / "page.html")
    assert data["versions"] == ["hr", "found", "lr, bicubic ×4"]
    plot = data["curve"]["plots"][0]
    assert [series["name"] for series in plot["series"]] == data["versions"][1:]
    pairs = [
        (read_picture(a), read_picture(b)) for a, b in zip(*(sorted(f.iterdir()) for f in (hr, found)), strict=True)
    ]
    expected = [psnr(b, a) for a, b in pairs]
    assert plot["series"][0]["values"] == [None, *(pytest.approx(value, abs=1e-4) for value in expected[1:])]
    bicubic = [psnr(enlarge_bicubic(frame), a) for frame, (a, _) in zip(frames, pairs, strict=True)]
    assert plot["series"][1]["values"] == pytest.approx(bicubic, abs=1e-4)
    assert result.bicubic is not None
    assert result.bicubic.psnr_rgb_db == pytest.approx(np.mean(bicubic))
    assert result.as_dict()["bicubic"]["psnr_rgb_db"] == pytest.approx(np.mean(bicubic))
    assert [view["point"] for view in data["views"]] == [0, 1, 2, 3, 4]
    assert all(len(view["pictures"]) == 3 for view in data["views"])
    assert "identical" in data["views"][0]["caption"]


def test_the_worst_frame_of_every_stretch_can_be_looked_at() -> None:
    page, worst = ComparisonPage(["a", "b"]), {37, 1204, 3333}
    picture = noise(12, 12, 3)
    for n in range(MOST_POINTS * 2 + 1):
        page.add([picture, picture], [(20.0 if n in worst else 40.0 + n % 7, 0.9)], f"{n}")
    data = page.data("t", "s", TABLE, [])
    assert MOST_VIEWS / 2 <= len(data["views"]) <= MOST_VIEWS
    assert worst <= {int(view["label"]) for view in data["views"]}
    values = data["curve"]["plots"][0]["series"][0]["values"]
    assert len(values) == len(data["curve"]["labels"]) <= MOST_POINTS
    assert [i for i, value in enumerate(values) if value == 20] == sorted(n // 3 for n in worst)
    assert all(values[view["point"]] <= 46 for view in data["views"])
    assert any("lowest of 3 frames" in note for note in data["notes"])


@pytest.mark.slow
def test_pages_of_large_pictures_stay_small() -> None:
    page = ComparisonPage(["a", "b"])
    large = [noise(800, 1300, 3, seed=seed) // 8 + 100 for seed in (0, 1)]
    for n in range(12):
        page.add(large, [(30.0 - n, 0.5)], str(n))
    data = page.data("t", "s", TABLE, [])
    last = 2 * len(data["views"][-1]["pictures"][0])  # comes on top of what was counted
    assert sum(len(uri) for view in data["views"] for uri in view["pictures"]) <= MOST_BYTES + last + last // 10
    assert data["views"][-1]["label"] == "11"
    assert data["views"][0]["width"] == 1280
    assert any("shown in part" in note for note in data["notes"])


def test_pictures_of_one_frame_have_no_curve() -> None:
    page = ComparisonPage(["a", "b"])
    page.add([noise(8, 8, 3)] * 2, [(math.inf, None)], "a.png")
    data = page.data("t", "s", TABLE, [])
    assert data["curve"] is None
    json.dumps(data, allow_nan=False)


def test_the_picture_names_its_columns_bicubic_first(
    folders: tuple[Path, Path, Path, np.ndarray], tmp_path: Path
) -> None:
    hr, found, lr, frames = folders
    compare(hr, found, tmp_path / "o.png", source=lr)
    shown = read_picture(tmp_path / "o.png")
    assert shown.shape == (STRIP_PX + 64, 3 * 96, 3)
    np.testing.assert_array_equal(shown[STRIP_PX:, :96], enlarge_bicubic(frames[4]))
    for column, name in enumerate(("lr, bicubic ×4", "hr", "found")):
        np.testing.assert_array_equal(shown[:STRIP_PX, 96 * column : 96 * (column + 1)], label(name, 96))


def test_a_name_is_cut_where_it_does_not_fit_and_never_breaks() -> None:
    assert (label("x" * 300, 80) > 128).any()
    assert not (label("anything", 3) > 128).any()
    np.testing.assert_array_equal(label("a\nb\x07", 200), label("a?b?", 200))


def test_what_the_font_lacks_is_no_empty_box() -> None:
    """Which Pillow's own is for all but the plainest letters: names of films, and the sign of our own labels."""
    np.testing.assert_array_equal(label("Übergröße é, bicubic ×4", 300), label("Ubergro?e e, bicubic x4", 300))
    np.testing.assert_array_equal(label("猫.mkv", 300), label("?.mkv", 300))


def test_a_source_of_another_size_or_time_is_refused(
    folders: tuple[Path, Path, Path, np.ndarray], tmp_path: Path
) -> None:
    hr, found, _, _ = folders
    other = folder_of_frames(tmp_path / "other", noise(5, 128, 192, 3))
    with pytest.raises(InputError, match="give the source that the upscaled version was made from"):
        compare(hr, found, tmp_path / "page.html", source=other)
    assert not (tmp_path / "page.html").exists()
