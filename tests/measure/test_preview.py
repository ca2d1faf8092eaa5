"""What a preview shows, against what upscaling the film makes; and the page and the sheet."""

from __future__ import annotations

import base64
import io
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from clips import folder_of_frames, moving_grain, noise, smooth_picture
from command import failure_of, run
from fake_card import FakeCard
from media import make_video
from PIL import Image
from runners import RepeatRunner

import ksnet_deploy
from ksnet_deploy.base.errors import ConfigError, InputError, OutputError
from ksnet_deploy.base.frames import FrameSize
from ksnet_deploy.measure.degradation import enlarge_bicubic
from ksnet_deploy.measure.pages.areas import busiest, most_different
from ksnet_deploy.measure.pages.embedding import LOSSLESS, embed
from ksnet_deploy.measure.pages.page import render
from ksnet_deploy.measure.preview import report
from ksnet_deploy.measure.preview.moments import Stretch, choose_moments, read_stretch
from ksnet_deploy.measure.preview.report import NetworkEstimate, Preview
from ksnet_deploy.measure.preview.spots import Spot, part_size, upscale_stretches
from ksnet_deploy.measure.speed.frames import BENCH_CLIP
from ksnet_deploy.upscale.card_engines import CardEngines
from ksnet_deploy.upscale.networks import GivenNetwork, NetworkFile, find_network
from ksnet_deploy.video.kinds import Source
from ksnet_deploy.video.reading.reader import VideoReader

INSTANT = GivenNetwork(RepeatRunner, "instant")
HOSTILE = "<img src=x onerror=alert(1)>&\"'</script><!--\u202e.mp4"


def page_data(page: str) -> dict[str, Any]:
    data: dict[str, Any] = json.loads(re.findall(r'id="data">(.*?)</script>', page, re.DOTALL)[0])
    return data


def scenes(folder: Path) -> Path:
    """20 frames each of three scenes as unlike as can be, and as many black ones."""
    pictures = [smooth_picture(32, 48), 255 - smooth_picture(32, 48), noise(32, 48, 3), np.zeros((32, 48, 3), np.uint8)]
    return folder_of_frames(folder, np.concatenate([np.repeat(picture[None], 20, axis=0) for picture in pictures]))


@pytest.mark.slow
def test_every_long_scene_is_among_the_moments(tmp_path: Path) -> None:
    film = Source(scenes(tmp_path / "film"))
    moments = choose_moments(film, 3, 4)
    assert sorted(int(float(moment.start_s or 0) * 25 + 4) // 20 for moment in moments) == [0, 1, 2]
    assert len(choose_moments(film, 12, 4)) == 12


def test_the_frames_before_are_of_the_same_scene(tmp_path: Path) -> None:
    film = Source(scenes(tmp_path / "film"))
    with VideoReader(film) as reader:
        frames = [frame.rgb for frame in reader.frames()]
    from fractions import Fraction

    whole, after_cut = read_stretch(film, Fraction(2, 25), 4), read_stretch(film, Fraction(18, 25), 4)
    assert (len(whole.frames), round(whole.time_s * 25)) == (5, 6)
    assert np.array_equal(whole.frames[-1], frames[6])
    assert (len(after_cut.frames), round(after_cut.time_s * 25)) == (5, 24)  # the scene begins with frame 20
    assert all(np.array_equal(frame, frames[20]) for frame in after_cut.frames)


@pytest.mark.slow
def test_what_is_shown_is_what_upscaling_the_same_frames_gives(tmp_path: Path) -> None:
    found = ksnet_deploy.preview(BENCH_CLIP, "lite", spots=1, before=2)
    spot = found.spots[0]
    with VideoReader(BENCH_CLIP) as reader:
        frames = {round(float(frame.pts * reader.time_base), 3): frame.rgb for frame in reader.frames()}
    number = list(frames).index(round(spot.time_s, 3))
    with ksnet_deploy.Upscaler("lite") as upscaler:
        for frame in list(frames.values())[number - 2 : number + 1]:
            expected = upscaler.push(frame)
    assert np.array_equal(spot.pictures["lite"], expected)
    assert np.array_equal(spot.pictures["bicubic"], enlarge_bicubic(frame))
    assert list(tmp_path.iterdir()) == []


def test_page_and_sheet_hold_every_network_and_frame(tmp_path: Path) -> None:
    source = make_video(tmp_path / "v.mp4", FrameSize(32, 48), frames=40)
    other = GivenNetwork(RepeatRunner, "other")
    steps: list[str] = []
    found = ksnet_deploy.preview(
        source, [INSTANT, other], tmp_path / "look.html", spots=3, before=2,
        on_phase=lambda what, count: steps.append(f"{what} {count}"),
    )  # fmt: skip
    assert found.outputs == [tmp_path / "look.html", tmp_path / "look.png"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["look.html", "look.png", "v.mp4"]
    data = page_data((tmp_path / "look.html").read_text())
    assert data["versions"] == ["bicubic", "instant", "other"]
    assert [len(view["pictures"]) for view in data["views"]] == [3, 3, 3]
    assert [row[0] for row in data["table"]["rows"]] == ["instant", "other"]
    assert np.asarray(Image.open(tmp_path / "look.png")).shape == found.sheet().shape
    assert steps == ["choosing frames 1", "instant 27", "other 27", "writing 2"]
    assert [each["model"] for each in found.as_dict()["networks"]] == ["instant", "other"]
    assert not found.networks[0].scaled
    assert "instant" in found.as_text()
    with pytest.raises(OutputError, match=r"look\.html already exists"):
        ksnet_deploy.preview(source, [INSTANT], tmp_path / "look.html")


def test_large_frames_are_shown_in_part_and_the_time_is_in_proportion(tmp_path: Path) -> None:
    uni = find_network("uni")
    size = FrameSize(720, 1280)
    part = part_size(size, [uni], 36)
    assert part.height * part.width < 0.1 * size.height * size.width
    assert part.height / part.width == pytest.approx(720 / 1280, rel=0.02)
    assert part_size(size, [uni, INSTANT], 36) == size  # that one runs whole frames only
    assert part_size(FrameSize(72, 128), [uni], 36) == FrameSize(72, 128)
    film = folder_of_frames(tmp_path / "film", moving_grain(6, 64, 96))
    found = ksnet_deploy.preview(film, [INSTANT], spots=2, before=2)
    assert found.networks[0].scaled
    assert found.networks[0].bytes is None
    assert "reading and encoding come on top" in found.as_text()
    assert found.networks[0].seconds == pytest.approx(6 / found.networks[0].fps)


def test_of_large_frames_only_the_parts_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    film = folder_of_frames(tmp_path / "film", moving_grain(8, 64, 96))
    monkeypatch.setattr("ksnet_deploy.measure.preview.run.part_size", lambda *_: FrameSize(16, 24))
    kept: list[np.ndarray] = []

    def looked_at(upscaler: Any, stretches: list[Stretch], on_step: Any) -> Any:
        kept.extend(frame for stretch in stretches for frame in stretch.frames)
        return upscale_stretches(upscaler, stretches, on_step)

    monkeypatch.setattr("ksnet_deploy.measure.preview.run.upscale_stretches", looked_at)
    found = ksnet_deploy.preview(film, [INSTANT], spots=2, before=2)
    assert len(kept) == 6
    assert all(frame.shape == (16, 24, 3) and frame.base is None for frame in kept)
    assert all(spot.part is not None and (spot.part.height, spot.part.width) == (16, 24) for spot in found.spots)


def test_a_single_picture_has_a_speed_too(tmp_path: Path) -> None:
    Image.fromarray(smooth_picture(32, 48)).save(tmp_path / "photo.png")
    found = ksnet_deploy.preview(tmp_path / "photo.png", [INSTANT])
    (estimate,) = found.networks
    assert (estimate.measured_frames, estimate.seconds) == (1, pytest.approx(1 / estimate.fps))
    assert "not known" not in found.as_text().replace(estimate.size, "")


def test_of_a_part_the_figures_are_said_to_be_of_a_part_and_frames_unseen_are_no_beginning(tmp_path: Path) -> None:
    film = make_video(tmp_path / "film.mp4", FrameSize(32, 48), frames=30)
    for end, extent in ((None, "whole film"), (0.5, "this part")):
        made = ksnet_deploy.preview(film, [INSTANT], spots=1, before=0, end_s=end)
        assert extent in made.as_text().splitlines()[1]
        assert extent in made.page()["table"]["title"]
    (view,) = made.page()["views"]
    assert view["caption"].endswith("s, no frame before it was seen"), "none were asked for"


def test_on_a_gpu_the_estimate_is_of_what_upscale_would_run_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = make_video(tmp_path / "v.mp4", FrameSize(32, 48), frames=8)
    card = FakeCard().install(monkeypatch)
    monkeypatch.setattr("ksnet_deploy.measure.preview.run.this_machine", lambda: card.machine)
    opened: list[str] = []

    def open_file(file: NetworkFile, size: FrameSize, *_: object, **__: object) -> RepeatRunner:
        opened.append(f"{file.backend} {file.device}")
        return RepeatRunner(size)

    def engine(engines: CardEngines, runtime: str, *_: object) -> NetworkFile:
        return NetworkFile(engines.file.label, Path("an.engine"), "engine", runtime, "cuda")

    monkeypatch.setattr(NetworkFile, "open", open_file)
    monkeypatch.setattr(NetworkFile, "identity", lambda file: {"runtime": f"{file.backend} on {file.device}"})
    monkeypatch.setattr(CardEngines, "whole", engine)
    notes: list[str] = []
    found = ksnet_deploy.preview(source, spots=1, before=1, on_note=notes.append)
    assert [each.name for each in found.networks] == ["uni", "lite-video"]
    assert set(opened) == {"tensorrt cuda"}
    assert any(note.startswith("Running uni with TensorRT on the ") for note in notes)
    opened.clear()
    ksnet_deploy.preview(source, "uni", spots=1, before=1, runtime="torch", device="cpu")
    assert set(opened) == {"torch cpu"}


def test_the_parts_shown_are_where_versions_differ_most_and_where_detail_is() -> None:
    flat = np.full((40, 60, 3), 90, np.uint8)
    changed = flat.copy()
    changed[22:26, 40:45] = 200
    area = most_different([flat, changed], FrameSize(10, 10))
    assert np.any(area.of(changed) != 90)
    assert (area.height, area.width) == (10, 10)
    assert area.top <= 22
    assert area.top + 10 >= 26
    assert busiest(changed, FrameSize(12, 12)).of(changed).max() == 200
    assert tuple(most_different([flat, flat], FrameSize(99, 99))) == (0, 0, 40, 60)


def test_a_page_stays_below_six_megabytes_whatever_is_shown() -> None:
    pictures = [noise(270, 480, 3, seed=seed) for seed in range(4)]
    uris, quality = embed(pictures, 300_000)
    assert sum(map(len, uris)) <= 300_000
    assert quality < LOSSLESS
    assert embed([smooth_picture(32, 32)], 100_000)[1] == LOSSLESS
    with pytest.raises(OutputError, match="do not fit into a page"):
        embed(pictures, 1000)


def test_of_pictures_too_large_for_a_page_it_shows_the_part_that_differs_most(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report, "PAGE_PIXELS", 160_000)
    plain = smooth_picture(400, 600)
    changed = plain.copy()
    changed[300:310, 500:510] ^= 127
    spots = [Spot(0.0, 0, None, {"bicubic": plain, "net": changed}) for _ in range(2)]
    estimate = NetworkEstimate("net", 1.0, 2.0, 3, 4, scaled=False)
    data = Preview(Path("film.mkv"), FrameSize(100, 150), spots, [estimate], 1.0).page()
    assert sum(view["width"] * view["height"] * 2 for view in data["views"]) <= 160_000
    for view in data["views"]:
        a, b = (np.asarray(Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2])))) for uri in view["pictures"])
        assert np.abs(a.astype(int) - b).max() > 30
    assert "shows parts of the pictures" in data["notes"][0]


def test_names_cannot_become_markup_or_code(tmp_path: Path) -> None:
    source = make_video(tmp_path / "v.mp4", FrameSize(32, 48), frames=12)
    hostile = tmp_path / HOSTILE.replace("/", "")
    source.rename(hostile)
    ksnet_deploy.preview(hostile, [INSTANT], tmp_path / "look.html", spots=1, before=1)
    page = (tmp_path / "look.html").read_text()
    assert page.count("<script") == page.count("</script>") == 2
    assert "<img src=x" not in page
    assert page_data(page)["title"] == hostile.name
    rendered = render("slider", HOSTILE, {"title": HOSTILE, "other": "@@SCRIPT@@ \udcff"})
    assert rendered.count("</script>") == 2
    assert page_data(rendered) == {"title": HOSTILE, "other": "@@SCRIPT@@ \udcff"}
    assert not re.search(r"(?:src|href)=[\"']?https?:", rendered)


@pytest.mark.slow
def test_the_command_writes_beside_the_film_and_says_where(tmp_path: Path) -> None:
    source = make_video(tmp_path / "v.mp4", FrameSize(16, 16), frames=6)
    result = run("preview", source, "--models", "lite", "--spots", "1", "--before", "1", "--json")
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout)["outputs"] == [str(tmp_path / f"v_preview.{kind}") for kind in ("html", "png")]
    assert "already exists" in failure_of(run("preview", source, "--models", "lite"))


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        (("none.mp4",), InputError, "does not exist"),
        (("-",), InputError, "a pipe cannot be looked at"),
        ((BENCH_CLIP, ","), ConfigError, "no network is named"),
        ((BENCH_CLIP, "lite", "look.jpg"), OutputError, "neither a page nor a picture"),
        ((BENCH_CLIP, "lite", "none/look.html"), OutputError, "does not exist"),
    ],
)
def test_what_cannot_be_previewed_is_refused(arguments: tuple[Any, ...], error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        ksnet_deploy.preview(*arguments)


def test_neither_matplotlib_nor_playwright_is_imported_by_a_preview() -> None:
    import subprocess
    import sys

    code = (
        "import sys, ksnet_deploy; from ksnet_deploy.measure.preview import run; from ksnet_deploy.cli import app\n"
        "assert not {'matplotlib', 'playwright', 'gradio'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
