"""Files with several pictures, and files that are no video, by their first bytes."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from clips import noise
from media import make_video
from PIL import Image
from runners import RepeatRunner

from ksnet_deploy.base.errors import InputError
from ksnet_deploy.base.frames import FrameSize
from ksnet_deploy.upscale.result import UpscaleResult
from ksnet_deploy.upscale.run import upscale_video
from ksnet_deploy.upscale.upscaler import Upscaler
from ksnet_deploy.video.kinds import Source
from ksnet_deploy.video.reading.pages import page_count
from ksnet_deploy.video.reading.sources import open_video

Order = Literal["big", "little"]
COLOURS = ("red", "green", "blue")


def upscale(source: Path, target: Path | None = None) -> UpscaleResult:
    return upscale_video(source, target, Upscaler(open_runner=RepeatRunner))


def tiff(path: Path, pages: int, **how: Any) -> Path:
    first, *others = (Image.new("RGB", (48, 32), colour) for colour in COLOURS[:pages])
    first.save(path, format="TIFF", save_all=True, append_images=others, **how)
    return path


@pytest.mark.parametrize(
    ("name", "how"),
    [("a.tif", {}), ("a.tiff", {"compression": "tiff_lzw"}), ("big.tif", {"big_tiff": True}), ("tiff.png", {})],
)
def test_further_pages_of_a_tiff_are_said(tmp_path: Path, name: str, how: dict[str, Any]) -> None:
    if "big_tiff" in how:  # which FFmpeg does not decode
        assert page_count(tiff(tmp_path / name, 3, **how)) == 3
        return
    result = upscale(tiff(tmp_path / name, 3, **how))
    assert result.notes == ["Not copied: 2 further pages."]
    with Image.open(result.target) as picture:
        assert (picture.format, picture.getpixel((0, 0))) == ("PNG", (255, 0, 0))
    assert upscale(tiff(tmp_path / f"one{name}", 1, **how)).notes == []


def test_pages_of_a_folder_are_counted_over_all_its_files(tmp_path: Path) -> None:
    (frames := tmp_path / "frames").mkdir()
    for number, pages in enumerate((1, 2, 3)):
        tiff(frames / f"{number}.tif", pages)
    assert upscale(frames).notes == ["Not copied: 3 further pages."]


def place_after(data: bytes, directory: int, order: Order) -> int:
    """Of the four bytes that name the directory after one of a TIFF's."""
    return directory + 2 + 12 * int.from_bytes(data[directory : directory + 2], order)


def test_a_smaller_copy_in_a_tiff_is_no_page(tmp_path: Path) -> None:
    data = bytearray(tiff(tmp_path / "a.tif", 2).read_bytes())
    order: Order = "big" if data[:2] == b"MM" else "little"
    after = place_after(data, int.from_bytes(data[4:8], order), order)
    second = int.from_bytes(data[after : after + 4], order)
    parts = ((254, 2), (4, 2), (1, 4), (1, 4))  # NewSubfileType, LONG, one value: a reduced picture
    data[second + 2 : second + 14] = b"".join(value.to_bytes(length, order) for value, length in parts)
    (tmp_path / "b.tif").write_bytes(data)
    assert page_count(tmp_path / "a.tif") == 2
    assert page_count(tmp_path / "b.tif") == 1


def test_a_chain_of_pages_that_ends_nowhere_is_counted_once(tmp_path: Path) -> None:
    data = bytearray(tiff(tmp_path / "a.tif", 1).read_bytes())
    order: Order = "big" if data[:2] == b"MM" else "little"
    first = int.from_bytes(data[4:8], order)
    end = place_after(data, first, order)
    for following in (first, len(data) + 100):
        data[end : end + 4] = following.to_bytes(4, order)
        (tmp_path / "b.tif").write_bytes(data)
        assert page_count(tmp_path / "b.tif") == 1
    (tmp_path / "b.tif").write_bytes(data[:6])
    assert page_count(tmp_path / "b.tif") == 1


@pytest.mark.parametrize("format_", ["png", "bmp"])
def test_the_largest_picture_of_an_icon_is_upscaled_to_a_picture(tmp_path: Path, format_: str) -> None:
    source = tmp_path / "a.ico"
    Image.fromarray(noise(64, 64, 3)).convert("RGBA").save(
        source, sizes=[(16, 16), (64, 64), (32, 32)], bitmap_format=format_
    )
    result = upscale(source)
    assert result.target == tmp_path / "a_x4.png"
    assert (result.size.height, result.size.width) == (256, 256)
    assert result.notes[0] == "Not copied: 2 smaller pictures of the icon."
    assert not any("timestamp" in note for note in result.notes)


def jpeg() -> bytes:
    Image.fromarray(noise(48, 64, 3)).save(made := io.BytesIO(), "JPEG")
    return made.getvalue()


def zipped(content: bytes) -> bytes:
    with zipfile.ZipFile(made := io.BytesIO(), "w") as archive:
        for number in range(3):
            archive.writestr(f"{number}.jpg", content)
    return made.getvalue()


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("film.mp4", b"#EXTM3U\n#EXT-X-TARGETDURATION:1\n", r"it is a playlist \(M3U\).*as \.m3u8"),
        ("film.mkv", b"\xef\xbb\xbf<!DOCTYPE html>\n<html><body>404</body></html>", "it is a web page"),
        ("film.avi", b"\n  <html>", "it is a web page"),
        ("film.mov", b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "fetch it with 'git lfs pull'"),
        ("film.webm", b"", "it is empty; copy or download it again"),
        ("film.mp4", b'<?xml version="1.0"?><MPD></MPD>', "it is an XML document"),
        ("list.pls", b"[playlist]\nFile1=a.mp4\nNumberOfEntries=1\n", r"it is a playlist \(PLS\)"),
        ("book.pdf", b"%PDF-1.4\n" + jpeg() * 3, "it is a PDF document; extract its pictures first"),
        ("comic.cbz", zipped(jpeg()), "it is a ZIP archive; unpack it first"),
        ("film.mkv", b"ffconcat version 1.0\nfile a.mp4\n", r"it is a playlist that names.*as \.ffconcat"),
        ("list.txt", b"ffconcat version 1.0\nfile a.mp4\n", "it is a playlist that names"),
        ("notes.txt", b"what the film is about\n" * 50, "FFmpeg would draw it as a text"),
        ("film.nfo", b"\x1b[31mthe group\x1b[0m\n" * 50, "FFmpeg would draw it as a text"),
        ("disc.bin", noise(4000).tobytes(), "FFmpeg would draw it as a text"),
        ("raw.bin", bytes(range(200)) * 10 + jpeg() * 3, "though there are JPEG pictures in it"),
    ],
)
def test_what_is_no_video_is_called_what_it_is(tmp_path: Path, name: str, content: bytes, words: str) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(InputError, match=f"{name} is not a video.*{words}"):
        upscale(path)
    assert list(tmp_path.iterdir()) == [path]


def test_pictures_one_after_the_other_are_a_film(tmp_path: Path) -> None:
    path = tmp_path / "a.mjpeg"
    path.write_bytes(jpeg() * 3)
    container, video = open_video(Source(path))
    with container:
        assert len(list(container.decode(video))) == 3


def test_a_codec_without_a_decoder_is_not_called_damaged(tmp_path: Path) -> None:
    path = tmp_path / "a.jxl"
    path.write_bytes(b"\xff\x0a" + np.random.default_rng(0).bytes(200))
    with pytest.raises(InputError, match="does not know, or has no decoder for"):
        upscale(path)


def test_a_list_of_files_is_taken_for_one_by_its_name(tmp_path: Path) -> None:
    for name in "ab":
        make_video(tmp_path / f"{name}.mp4", FrameSize(16, 24), frames=3)
    (tmp_path / "list.ffconcat").write_text("ffconcat version 1.0\nfile a.mp4\nfile b.mp4\n")
    assert upscale(tmp_path / "list.ffconcat").frames == 6
