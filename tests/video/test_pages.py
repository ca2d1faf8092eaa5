"""Pictures beside the one that is read are told, and TIFFs that FFmpeg decodes wrongly are refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import pytest
from clips import noise
from PIL import Image
from PIL.TiffImagePlugin import ImageFileDirectory_v2
from runners import RepeatRunner

from ksnet_deploy.base.errors import InputError
from ksnet_deploy.upscale.run import upscale_video
from ksnet_deploy.upscale.upscaler import Upscaler
from ksnet_deploy.video.picture import read_picture
from ksnet_deploy.video.reading.pages import check_picture, further_pictures

PICTURE = Image.fromarray(noise(24, 32, 3))
PRIMARY, LARGE_THUMBNAIL = 0x030000, 0x010001


def notes_on(source: Path, target: Path | None = None) -> list[str]:
    return upscale_video(source, target, Upscaler(open_runner=RepeatRunner)).notes


def several(path: Path, count: int) -> Path:
    """A JPEG of so many pictures (CIPA DC-007), as a phone's with a gain map, or a camera's with two lenses."""
    others = [PICTURE.rotate(90 * index) for index in range(1, count)]
    PICTURE.save(path, "MPO", save_all=True, append_images=others)
    return path


@pytest.mark.parametrize("name", ["a.mpo", "a.jpg", "a.jpeg"])
def test_further_pictures_of_a_jpeg_are_told(tmp_path: Path, name: str) -> None:
    assert notes_on(several(tmp_path / name, 2)) == ["Not copied: 1 further picture."]
    assert notes_on(several(tmp_path / f"three{name}", 3)) == ["Not copied: 2 further pictures."]
    assert notes_on(several(tmp_path / f"one{name}", 1)) == []


def test_further_pictures_of_a_folder_are_counted_over_all_its_files(tmp_path: Path) -> None:
    (frames := tmp_path / "frames").mkdir()
    for number in range(3):
        several(frames / f"{number}.jpg", 1 + number)
    assert "Not copied: 3 further pictures." in notes_on(frames)


def test_a_smaller_copy_in_a_jpeg_is_no_further_picture(tmp_path: Path) -> None:
    data = bytearray(several(tmp_path / "a.jpg", 3).read_bytes())
    start = data.index(b"MPF\0") + 4
    order: Literal["little", "big"] = "little" if data[start : start + 2] == b"II" else "big"
    first = data.index(PRIMARY.to_bytes(4, order), start + 50)  # of entries of 16 bytes, behind the directory
    data[first + 32 : first + 36] = LARGE_THUMBNAIL.to_bytes(4, order)
    (tmp_path / "b.jpg").write_bytes(data)
    assert further_pictures(tmp_path / "a.jpg") == 2
    assert further_pictures(tmp_path / "b.jpg") == 1


def test_a_list_of_pictures_that_is_cut_off_or_broken_counts_none(tmp_path: Path) -> None:
    data = several(tmp_path / "a.jpg", 3).read_bytes()
    start = data.index(b"MPF\0") + 4
    for length in range(start - 6, start + 60):
        (tmp_path / "b.jpg").write_bytes(data[:length])
        assert further_pictures(tmp_path / "b.jpg") in (0, 2)
    for place in range(start, start + 60):
        changed = bytearray(data)
        changed[place] ^= 0xFF
        (tmp_path / "b.jpg").write_bytes(changed)
        assert further_pictures(tmp_path / "b.jpg") >= 0
    assert further_pictures(Path(__file__)) == 0


def tiff(path: Path, tags: dict[int, Any] | None = None, picture: Image.Image = PICTURE, **how: Any) -> Path:
    directory = ImageFileDirectory_v2()
    for tag, value in (tags or {}).items():
        directory[tag] = value
        if isinstance(value, bytes):
            directory.tagtype[tag] = 1
    picture.save(path, "TIFF", tiffinfo=directory, **how)
    return path


def unreadable(kind: str, folder: Path) -> Path:
    match kind:
        case "jpeg":
            return tiff(folder / "a.tif", compression="jpeg")
        case "grey jpeg":
            return tiff(folder / "a.tiff", picture=PICTURE.convert("L"), compression="jpeg")
        case "dng":
            return tiff(folder / "a.dng", {50706: b"\x01\x04\x00\x00"})
        case "reduced first":
            return tiff(folder / "a.nef", {254: 1})
    return tiff(folder / "a.tif", picture=PICTURE.convert("RGBA").convert("PA"))


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("jpeg", "compressed as JPEG"),
        ("grey jpeg", "compressed as JPEG"),
        ("dng", "a camera's raw photo"),
        ("reduced first", "a camera's raw photo, or begins with a smaller copy"),
        ("palette", "a palette and transparency"),
    ],
)
def test_a_tiff_that_ffmpeg_decodes_wrongly_is_refused(tmp_path: Path, kind: str, words: str) -> None:
    """FFmpeg gives a black picture, the colours of something else, or a thumbnail, and no error."""
    path = unreadable(kind, tmp_path)
    with pytest.raises(InputError, match=words):
        notes_on(path)
    with pytest.raises(InputError, match=words):
        read_picture(path)
    (frames := tmp_path / "frames").mkdir()
    tiff(frames / "0.tif")
    path.rename(frames / "1.tif")
    with pytest.raises(InputError, match=rf"1\.tif is .*{words}"):
        notes_on(frames)
    assert [entry.name for entry in tmp_path.iterdir()] == ["frames"]


@pytest.mark.parametrize("compression", [None, "tiff_lzw", "tiff_adobe_deflate", "packbits"])
def test_a_tiff_that_ffmpeg_decodes_is_not(tmp_path: Path, compression: str | None) -> None:
    path = tiff(tmp_path / "a.tif", {254: 0}, compression=compression)
    check_picture(path)
    assert read_picture(path).tobytes() == PICTURE.tobytes()
