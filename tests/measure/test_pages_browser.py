"""The pages as people use them: opened from disk in Chromium, by mouse, touch and keyboard, wide and narrow."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from browser import Page, opened
from clips import folder_of_frames
from media import make_video
from networks import SMALL, new_checkpoint
from PIL import Image
from runners import RepeatRunner

from ksnet_deploy.base.frames import FrameSize
from ksnet_deploy.measure.compare import compare
from ksnet_deploy.measure.inspection.run import visualize
from ksnet_deploy.measure.preview.run import preview
from ksnet_deploy.upscale.networks import GivenNetwork

WIDTHS = (1400, 400)
HOSTILE = '"><img src=x onerror=alert(1)> very-long-name-without-a-break-that-goes-on-and-on-and-on-and-on.mp4'


@pytest.fixture(scope="module")
def preview_page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("preview")
    film = make_video(folder / HOSTILE, FrameSize(36, 64), frames=30)
    networks = [GivenNetwork(RepeatRunner, name) for name in ("one", "two")]
    preview(film, networks, folder / "page.html", spots=3, before=1)
    return folder / "page.html"


@pytest.fixture(scope="module")
def inside_page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("inside")
    film = make_video(folder / HOSTILE, FrameSize(36, 64), frames=6)
    visualize(film, new_checkpoint(folder, SMALL).path, folder / "page.html", frames=4, at_s=0.2)
    return folder / "page.html"


@pytest.fixture(scope="module")
def compare_page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Red frames against blue ones, which turn darker."""
    folder = tmp_path_factory.mktemp("compare")
    red, blue = np.zeros((2, 8, 90, 160, 3), np.uint8)
    red[..., 0] = 200
    blue[..., 2] = np.arange(200, 120, -10)[:, None, None]
    compare(folder_of_frames(folder / "red", red), folder_of_frames(folder / "blue", blue), folder / "page.html")
    return folder / "page.html"


def boundary(page: Page) -> float:
    return float(page.locator("#divider").get_attribute("aria-valuenow"))


def zoom(page: Page) -> float:
    return float(page.locator("#zoom").inner_text().removesuffix(" %"))


def colours(page: Page) -> tuple[np.ndarray, np.ndarray]:
    """What is seen at a quarter and at three quarters of the stage's width."""
    shot = np.asarray(Image.open(io.BytesIO(page.locator("#stage").screenshot())).convert("RGB")).astype(int)
    height, width = shot.shape[:2]
    return shot[int(height * 0.7), width // 4], shot[int(height * 0.7), 3 * width // 4]


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("name", ["preview_page", "compare_page"])
@pytest.mark.parametrize("dark", [False, True])
def test_all_of_it_is_seen_and_nothing_flows_over(
    browser: Any, request: pytest.FixtureRequest, name: str, width: int, dark: bool
) -> None:
    with opened(browser, request.getfixturevalue(name), width, dark=dark) as page:
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        views = "#views button" if name == "preview_page" else ".plot svg"
        for selector in ("#title", "#left", "#right", "#stage", "#divider", "#zoom-in", "#fit", "table", views):
            assert page.locator(selector).first.is_visible(), selector
            box = page.locator(selector).first.bounding_box()
            assert box["x"] >= 0, selector
            assert box["x"] + box["width"] <= width, selector
        assert page.locator("#picture-left").evaluate("picture => picture.naturalWidth") > 0
        ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert (sum(map(int, ground[4:-1].split(","))) < 150) == dark


def test_each_side_shows_its_version_and_they_can_be_swapped(browser: Any, compare_page: Path) -> None:
    with opened(browser, compare_page, 1400) as page:
        left, right = colours(page)
        assert left[0] > 150 > left[2]
        assert right[2] > 150 > right[0]
        page.locator("#swap").click()
        left, right = colours(page)
        assert left[2] > 150 > left[0]
        assert right[0] > 150 > right[2]
        page.locator("#left").select_option("0")
        left, right = colours(page)
        assert left[0] > 150
        assert right[0] > 150


@pytest.mark.parametrize("width", WIDTHS)
def test_the_mouse_moves_the_boundary_zooms_and_moves_the_picture(browser: Any, compare_page: Path, width: int) -> None:
    with opened(browser, compare_page, width) as page:
        box = page.locator("#stage").bounding_box()
        x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
        page.mouse.move(x, y)
        page.mouse.down()
        page.mouse.move(box["x"] + box["width"] * 0.9, y, steps=4)
        page.mouse.up()
        assert boundary(page) == pytest.approx(90, abs=1)
        left, right = colours(page)
        assert left[0] > 150
        assert right[0] > 150  # the boundary is beyond
        before = zoom(page)
        page.mouse.move(x, y)
        page.mouse.wheel(0, -500)
        page.wait_for_function("before => parseFloat(document.getElementById('zoom').textContent) > before", arg=before)
        place = page.locator("#picture-left").get_attribute("style")
        page.mouse.down()
        page.mouse.move(x - 30, y - 20, steps=3)
        page.mouse.up()
        assert page.locator("#picture-left").get_attribute("style") != place
        assert boundary(page) == pytest.approx(90, abs=1)
        page.locator("#one").click()
        assert zoom(page) == 100
        page.locator("#fit").click()
        assert zoom(page) == before
        page.mouse.dblclick(x, y)
        assert zoom(page) > before


def test_fingers_move_the_boundary_and_pinch(browser: Any, compare_page: Path) -> None:
    with opened(browser, compare_page, 400, touch=True) as page:
        box = page.locator("#stage").bounding_box()
        y = box["y"] + box["height"] / 2
        touch = page.context.new_cdp_session(page)

        def fingers(kind: str, *shares: float) -> None:
            points = [{"x": box["x"] + box["width"] * share, "y": y, "id": n} for n, share in enumerate(shares)]
            touch.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})

        fingers("touchStart", 0.5)
        fingers("touchMove", 0.3)
        fingers("touchMove", 0.2)
        fingers("touchEnd")
        assert boundary(page) == pytest.approx(20, abs=1)
        before = zoom(page)
        fingers("touchStart", 0.45)
        fingers("touchStart", 0.45, 0.55)
        fingers("touchMove", 0.3, 0.7)
        fingers("touchEnd")
        assert zoom(page) > 2 * before


def test_keys_do_all_that_the_mouse_does(browser: Any, compare_page: Path) -> None:
    with opened(browser, compare_page, 1400) as page:
        page.locator("#divider").focus()
        for key, expected in (("ArrowLeft", 48), ("PageUp", 58), ("Home", 0), ("End", 100), ("ArrowDown", 98)):
            page.keyboard.press(key)
            assert boundary(page) == expected
        before = zoom(page)
        page.keyboard.press("+")
        assert zoom(page) > before
        place = page.locator("#picture-left").get_attribute("style")
        page.keyboard.press("Shift+ArrowRight")
        assert page.locator("#picture-left").get_attribute("style") != place
        page.keyboard.press("1")
        assert zoom(page) == 100
        page.keyboard.press("0")
        assert zoom(page) == before
        page.keyboard.press("x")
        assert page.locator("#tag-left").inner_text() == "blue"
        page.keyboard.press("n")
        assert page.locator("#caption").inner_text().startswith("Frame 1,")
        page.keyboard.press("p")
        assert page.locator("#caption").inner_text().startswith("Frame 0,")


def test_a_click_on_the_curve_shows_the_frame(browser: Any, compare_page: Path) -> None:
    with opened(browser, compare_page, 1400) as page:
        chart = page.locator(".plot svg").first
        box = chart.bounding_box()
        chart.click(position={"x": box["width"] * 5 / 7, "y": 30})
        assert page.locator("#caption").inner_text().startswith("Frame 5,")
        chart.press("ArrowRight")
        assert page.locator("#caption").inner_text().startswith("Frame 6,")
        assert "blue" in page.locator(".legend").first.inner_text()
        _, right = colours(page)
        assert right[2] == pytest.approx(140, abs=8)


def test_the_difference_is_looked_at_and_frames_are_chosen(browser: Any, preview_page: Path) -> None:
    with opened(browser, preview_page, 1400) as page:
        before = zoom(page)
        page.locator("#focus").click()
        assert zoom(page) > 2 * before
        page.locator("#views button").nth(2).click()
        assert page.locator("#views button").nth(2).get_attribute("aria-pressed") == "true"
        assert [page.locator("#left option").nth(n).inner_text() for n in range(3)] == ["bicubic", "one", "two"]


@pytest.mark.parametrize("width", WIDTHS)
def test_maps_and_channels_are_seen_and_can_be_enlarged(browser: Any, inside_page: Path, width: int) -> None:
    with opened(browser, inside_page, width, dark=width == 400) as page:
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert page.locator("figure").count() > 2 * (16 + 12 + 9)
        assert page.locator(".high figure").first.is_visible()
        assert page.locator(".low figure").first.is_visible()
        assert page.evaluate("[...document.images].every(picture => picture.complete && picture.naturalWidth > 0)")
        hidden = page.locator("details:not([open])").first
        hidden.locator("summary").click()
        assert page.locator("details").nth(1).get_attribute("open") is not None
        before = page.locator(".high figure").first.bounding_box()["width"]
        page.locator("#size").focus()
        page.keyboard.press("End")
        assert page.locator(".high figure").first.bounding_box()["width"] > before
        assert page.evaluate("document.documentElement.scrollWidth") <= width


@pytest.mark.parametrize("name", ["preview_page", "inside_page"])
def test_a_hostile_name_is_text(browser: Any, request: pytest.FixtureRequest, name: str) -> None:
    with opened(browser, request.getfixturevalue(name), 400) as page:
        assert page.locator("#title").inner_text().startswith(HOSTILE)
        assert HOSTILE in page.title()
        assert page.locator("img[src='x']").count() == 0
