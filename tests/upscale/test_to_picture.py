"""A picture becomes a picture: of which kind, and what of the source stays."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from media import make_video
from numpy.typing import NDArray
from PIL import Image, ImageCms, ImageOps
from runners import RepeatRunner

from ksnet_deploy.base.errors import ConfigError, InputError, OutputError
from ksnet_deploy.base.frames import FrameSize
from ksnet_deploy.upscale.choice import choose_network
from ksnet_deploy.upscale.run import estimate_video, upscale_video
from ksnet_deploy.upscale.upscaler import Upscaler
from ksnet_deploy.video.kinds import Source
from ksnet_deploy.video.picture import write_picture, write_png

SIZE = FrameSize(32, 48)


def smooth(dtype: Any = np.uint8, channels: int = 3) -> NDArray[Any]:
    """Slopes, which compression hardly changes."""
    y, x = np.mgrid[: SIZE.height, : SIZE.width]
    planes = np.stack([x * 5, y * 7, x + y][:channels], axis=-1) / 255
    levels: NDArray[Any] = np.rint(planes * np.iinfo(dtype).max).astype(dtype)
    return levels if channels > 1 else levels[..., 0]


def enlarged(picture: NDArray[Any], times: int = 4) -> NDArray[Any]:
    return picture.repeat(times, axis=0).repeat(times, axis=1)


def upscale(source: Path, target: Path | None = None, **how: Any) -> Any:
    return upscale_video(source, target, Upscaler(open_runner=RepeatRunner), **how)


def rgb_of(path: Path) -> NDArray[np.uint8]:
    with Image.open(path) as picture:
        return np.asarray(picture.convert("RGB"))


@pytest.mark.parametrize(
    ("suffix", "expected", "worst"),
    [(".png", ".png", 0), (".jpg", ".jpg", 8), (".JPEG", ".jpeg", 8), (".webp", ".webp", 12)]
    + [(suffix, ".png", 0) for suffix in (".tif", ".bmp", ".ppm", ".tga", ".gif")],
)
def test_a_picture_becomes_one_of_its_own_kind_or_a_png(tmp_path: Path, suffix: str, expected: str, worst: int) -> None:
    source, picture = tmp_path / f"photo{suffix}", Image.fromarray(smooth())
    picture.save(source, **({"quality": 95, "subsampling": 0} if suffix in (".jpg", ".JPEG") else {}))
    result = upscale(source)
    assert result.target == tmp_path / f"photo_x4{expected}"
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted((source.name, result.target.name))
    apart = rgb_of(result.target).astype(int) - enlarged(rgb_of(source)).astype(int)
    assert np.abs(apart).max() <= worst
    assert result.as_text().startswith(f"{result.target}: 128x192 (height x width) in ")


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".jpeg", ".webp", ".PNG"])
def test_the_name_of_the_output_says_its_kind(tmp_path: Path, suffix: str) -> None:
    source, target = tmp_path / "a.png", tmp_path / f"b{suffix}"
    write_png(source, smooth())
    assert upscale(source, target).target == target
    kinds = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP"}
    with Image.open(target) as found:
        assert (found.format, found.size) == (kinds[suffix.lower()], (192, 128))


def test_a_picture_is_known_by_what_is_in_it(tmp_path: Path) -> None:
    source = tmp_path / "photo.mp4"
    write_png(tmp_path / "a.png", smooth())
    (tmp_path / "a.png").rename(source)
    assert upscale(source).target == tmp_path / "photo_x4.png"
    assert choose_network(Source(source)).reason == "pictures are taken as clean"


@pytest.mark.parametrize("kind", ["gif", "apng"])
def test_a_picture_that_moves_is_a_film(tmp_path: Path, kind: str) -> None:
    source = tmp_path / ("a.png" if kind == "apng" else "a.gif")
    frames = [Image.fromarray(np.roll(smooth(), 8 * i, axis=1)) for i in range(3)]
    how: dict[str, Any] = {"format": "PNG" if kind == "apng" else "GIF", "duration": 40}
    frames[0].save(source, save_all=True, append_images=frames[1:], **how)
    result = upscale(source)
    assert (result.frames, result.target.suffix in (".mp4", ".mkv")) == (3, True)


def test_an_animated_webp_is_told_as_one(tmp_path: Path) -> None:
    source = tmp_path / "a.webp"
    frames = [Image.fromarray(np.roll(smooth(), 8 * i, axis=1)) for i in range(3)]
    frames[0].save(source, save_all=True, append_images=frames[1:])
    with pytest.raises(InputError, match="is an animated WebP, which FFmpeg does not decode; convert it"):
        upscale(source)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("channels", [1, 3])
def test_depth_and_grey_stay_in_png(tmp_path: Path, dtype: Any, channels: int) -> None:
    source = tmp_path / "a.png"
    write_png(source, smooth(dtype, channels))
    result = upscale(source)
    with av.open(str(result.target)) as file:
        frame = next(file.decode(video=0))
    name = {1: "gray", 3: "rgb24" if dtype == np.uint8 else "rgb48be"}[channels]
    assert frame.format.name == (name if channels == 3 or dtype == np.uint8 else "gray16be")
    found, expected = frame.to_ndarray().astype(int), enlarged(smooth(dtype, channels)).astype(int)
    assert np.abs(found - expected).max() <= (0 if dtype == np.uint8 else 2)  # floats on the way
    assert not [note for note in result.notes if "bits" in note]


def test_sixteen_bits_to_jpeg_are_told(tmp_path: Path) -> None:
    source = tmp_path / "a.png"
    write_png(source, smooth(np.uint16))
    result = upscale(source, tmp_path / "a.jpg")
    assert "The source has 16 bits per sample; the output has 8." in result.notes
    assert np.abs(rgb_of(result.target).astype(int) - enlarged(smooth())).max() <= 8


def test_transparency_is_shown_over_black_and_told(tmp_path: Path) -> None:
    source, alpha = tmp_path / "a.png", np.full((*SIZE.__dict__.values(), 1), 255, np.uint8)
    alpha[:, :24] = 0
    Image.fromarray(np.concatenate([smooth(), alpha], axis=2)).save(source)
    result = upscale(source)
    assert "The source's transparency is not in the output." in result.notes
    assert rgb_of(result.target)[:, :96].max() == 0
    np.testing.assert_array_equal(rgb_of(result.target)[:, 96:], enlarged(smooth())[:, 96:])


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("target", ["a_x4.png", "folder"])
def test_a_photo_is_turned_upright(tmp_path: Path, orientation: int, target: str) -> None:
    source = tmp_path / "a.jpg"
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(smooth()).save(source, quality=95, subsampling=0, exif=exif)
    with Image.open(source) as photo:
        upright = np.asarray(ImageOps.exif_transpose(photo))
    result = upscale(source, tmp_path / target)
    path = result.target if result.target.suffix else result.target / "a.png"  # of a folder, named as the photo
    found = rgb_of(path)
    assert result.size == FrameSize(*found.shape[:2])
    assert np.abs(found.astype(int) - enlarged(upright).astype(int)).max() <= 8
    with Image.open(path) as written:
        assert written.getexif().get(0x0112, 1) == 1


@pytest.mark.parametrize(("scale", "size"), [(2, (66, 98)), (3, (99, 147)), ("4", (132, 196)), ("x2", (66, 98))])
@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_a_scale_is_reduced_from_four_times(
    tmp_path: Path, scale: int | str, size: tuple[int, int], suffix: str
) -> None:
    source, flat = tmp_path / "a.png", np.full((33, 49, 3), (60, 130, 200), np.uint8)
    write_png(source, flat)
    result = upscale(source, tmp_path / f"b{suffix}", scale=scale)
    found = rgb_of(result.target)
    assert found.shape[:2] == size == (result.size.height, result.size.width)
    assert np.abs(found.astype(int) - (60, 130, 200)).max() <= (0 if suffix == ".png" else 2)


def test_what_is_reduced_keeps_its_levels_and_its_place(tmp_path: Path) -> None:
    write_png(tmp_path / "a.png", smooth())
    found = rgb_of(upscale(tmp_path / "a.png", scale=2).target)
    inner = (slice(8, -8), slice(8, -8))  # away from the edges, where the slope ends
    expected = enlarged(smooth(), 2).astype(int)
    apart = found.astype(int)[inner] - expected[inner]
    assert np.abs(apart).max() <= 3  # half a step of the slope, which steps turn into a line
    assert abs(apart.mean()) < 0.25
    shifted = found.astype(int)[8:-8, 9:-7] - expected[inner]
    assert abs(shifted.mean()) > 0.7  # as a picture one pixel further would be


def test_a_target_height_may_be_odd_for_a_picture(tmp_path: Path) -> None:
    write_png(tmp_path / "a.png", smooth())
    assert upscale(tmp_path / "a.png", height=81).size == FrameSize(81, 122)
    with pytest.raises(ConfigError, match="give a number from 16 to 256"):
        upscale(tmp_path / "a.png", tmp_path / "b.png", height=257)


@pytest.mark.parametrize("turned", [False, True])
def test_frames_of_a_folder_are_reduced_too(tmp_path: Path, turned: bool) -> None:
    folder = tmp_path / "shot"
    folder.mkdir()
    exif = Image.Exif()
    exif[0x0112] = 6 if turned else 1
    for number in range(2):
        Image.fromarray(smooth()).save(folder / f"{number}.jpg", exif=exif)
    result = upscale(folder, height=96)
    found = rgb_of(result.target / "0.png")
    assert found.shape[:2] == ((96, 64) if turned else (96, 144)) == (result.size.height, result.size.width)


@pytest.mark.parametrize(
    ("target", "words"),
    [("b.png", "would be one picture"), ("b.tif", "would be one picture"), ("b.gif", "is not a container")],
)
@pytest.mark.parametrize("frames", [1, 3])
def test_a_film_is_no_picture(tmp_path: Path, target: str, words: str, frames: int) -> None:
    video = make_video(tmp_path / "a.mp4", SIZE, frames=frames)
    with pytest.raises(OutputError, match=words) as caught:
        upscale(video, tmp_path / target)
    assert "more frames" not in str(caught.value)  # which is not so of one
    assert [p.name for p in tmp_path.iterdir()] == ["a.mp4"]


def test_a_picture_is_written_in_the_kinds_that_there_are(tmp_path: Path) -> None:
    write_png(tmp_path / "a.png", smooth())
    for name in ("b.tiff", "b.gif", "b.txt"):
        with pytest.raises(OutputError, match=r"pictures are written as \.png, \.jpg, \.jpeg, \.webp"):
            upscale(tmp_path / "a.png", tmp_path / name)
    with pytest.raises(ConfigError, match="is no video file"):
        estimate_video(tmp_path / "a.png", None, Upscaler(open_runner=RepeatRunner))


def test_a_picture_becomes_a_film_where_that_is_named(tmp_path: Path) -> None:
    write_png(tmp_path / "a.png", smooth())
    result = upscale(tmp_path / "a.png", tmp_path / "b.mp4")
    with av.open(str(result.target)) as file:
        assert len(list(file.decode(video=0))) == 1


def test_the_older_picture_stays_until_the_new_one_is_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_png(tmp_path / "a.png", smooth())
    (tmp_path / "a_x4.png").write_bytes(b"older")
    with pytest.raises(OutputError, match="already exists; pass --overwrite"):
        upscale(tmp_path / "a.png")

    def fail(path: Path, *_: object) -> None:
        path.write_bytes(b"half of it")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("ksnet_deploy.video.writing.sinks.write_picture", fail)
    with pytest.raises(OutputError, match="No space left on device"):
        upscale(tmp_path / "a.png", overwrite=True)
    assert (tmp_path / "a_x4.png").read_bytes() == b"older"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.png", "a_x4.png"]
    monkeypatch.undo()
    upscale(tmp_path / "a.png", overwrite=True)
    np.testing.assert_array_equal(rgb_of(tmp_path / "a_x4.png"), enlarged(smooth()))


def test_a_picture_too_large_for_its_format_is_refused_in_a_sentence(tmp_path: Path) -> None:
    source = tmp_path / "a.png"
    write_png(source, np.zeros((16, 4200, 3), np.uint8))  # WebP ends at 16,383 pixels
    with pytest.raises(OutputError, match=r"a picture of 64x16800 cannot be written to .*b\.webp"):
        upscale(source, tmp_path / "b.webp")
    assert [p.name for p in tmp_path.iterdir()] == ["a.png"]


def test_a_jpeg_keeps_all_of_its_colour(tmp_path: Path) -> None:
    stripes = np.zeros((16, 32, 3), np.uint8)
    stripes[:, ::2], stripes[:, 1::2] = (200, 40, 40), (40, 40, 200)
    write_picture(tmp_path / "a", ".jpg", stripes)
    found = np.asarray(Image.open(io.BytesIO((tmp_path / "a").read_bytes())).convert("RGB"))
    assert np.abs(found.astype(int) - stripes).max() <= 16  # thinned out, both would be purple


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp"])
def test_a_colour_profile_that_is_lost_is_told(tmp_path: Path, suffix: str) -> None:
    source = tmp_path / f"a{suffix}"
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    Image.fromarray(smooth()).save(source, icc_profile=profile)
    told = "The source's colour profile is not in the output; what is not sRGB will look different."
    assert told in upscale(source).notes
    Image.fromarray(smooth()).save(source)
    assert told not in upscale(source, overwrite=True).notes


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp"])
def test_a_colour_profile_ends_no_process(tmp_path: Path, suffix: str) -> None:
    source = tmp_path / f"a{suffix}"
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    Image.fromarray(smooth()).save(source, icc_profile=profile)
    code = (
        "import gc, sys\nfrom pathlib import Path\nfrom ksnet_deploy.video.reading.reader import VideoReader\n"
        "for _ in range(3):\n"
        "    with VideoReader(Path(sys.argv[1])) as reader: list(reader.frames())\n"
        "    del reader\n    gc.collect()"
    )
    subprocess.run([sys.executable, "-c", code, str(source)], check=True)


@pytest.mark.parametrize(("tracks", "brand", "tiles"), [(1, b"avif", False), (2, b"avif", False), (4, b"heic", True)])
def test_a_picture_in_tiles_is_refused_and_others_of_its_brands_are_taken(
    tmp_path: Path, tracks: int, brand: bytes, tiles: bool
) -> None:
    source = tmp_path / "a.heic"
    with av.open(str(source), "w", format="mp4") as file:
        streams: list[Any] = [file.add_stream("mpeg4", rate=25) for _ in range(tracks)]
        for stream in streams:
            stream.height, stream.width, stream.pix_fmt = SIZE.height, SIZE.width, "yuv420p"
        for stream in streams:
            file.mux([*stream.encode(av.VideoFrame.from_ndarray(smooth())), *stream.encode(None)])
    content = source.read_bytes()
    assert content[4:12] == b"ftypisom"
    source.write_bytes(content[:8] + brand + content[12:])
    if tiles:
        with pytest.raises(InputError, match="put together from 4 tiles, which is not supported; convert it to PNG"):
            upscale(source)
    else:
        assert upscale(source).target == tmp_path / "a_x4.png"
