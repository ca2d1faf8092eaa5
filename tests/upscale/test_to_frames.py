"""Folders of pictures and pipes, in and out."""

from __future__ import annotations

import io
import subprocess
import sys
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace

import av
import numpy as np
import pytest
from media import make_video, presentation_times
from numpy.typing import NDArray
from runners import RepeatRunner

from ksnet_deploy.base.errors import BackendError, InputError, OutputError
from ksnet_deploy.base.frames import FrameSize
from ksnet_deploy.cli.inputs import find_videos
from ksnet_deploy.upscale.destination import Destination, is_for_frames
from ksnet_deploy.upscale.result import Events
from ksnet_deploy.upscale.run import upscale_video
from ksnet_deploy.upscale.to_frames import write_frames
from ksnet_deploy.upscale.upscaler import Upscaler
from ksnet_deploy.upscale.work import Work
from ksnet_deploy.video.kinds import Source
from ksnet_deploy.video.picture import read_picture, write_png
from ksnet_deploy.video.writing.presets import choose_encoder

SIZE = FrameSize(32, 48)
SmallOnnx = Callable[..., Path]


def pictures(count: int) -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (count, SIZE.height, SIZE.width, 3), dtype=np.uint8)


def enlarged(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return picture.repeat(4, axis=0).repeat(4, axis=1)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Five frames, in a folder whose name has a meaning to patterns."""
    path = tmp_path / "shot [1] 100%"
    path.mkdir()
    for index, picture in enumerate(pictures(5)):
        write_png(path / f"frame_{index + 7:04}.png", picture)
    (path / "notes.txt").write_text("no picture")
    return path


@pytest.mark.parametrize("place", range(5))
def test_a_damaged_picture_costs_itself_alone_wherever_it_is(folder: Path, place: int) -> None:
    """With a thread a frame, one near the end took the last ones along."""
    damaged = folder / f"frame_{place + 7:04}.png"
    damaged.write_bytes(damaged.read_bytes()[:60])
    result = upscale_video(folder, None, Upscaler(open_runner=RepeatRunner))
    assert (result.frames, result.frames_lost) == (4, 1)
    for index, picture in enumerate(pictures(5)):
        written = result.target / f"frame_{index + 7:04}.png"
        assert written.exists() == (index != place)
        if index != place:
            np.testing.assert_array_equal(read_picture(written), enlarged(picture))


def test_a_picture_that_comes_while_a_folder_is_read_is_no_damage(folder: Path) -> None:
    """As where another program still writes into it."""

    def later() -> None:
        write_png(folder / "frame_9999.png", pictures(1)[0])

    result = upscale_video(folder, None, Upscaler(open_runner=RepeatRunner), events=Events(on_frame=later))
    assert (result.frames, result.frames_lost) == (5, 0)


@pytest.mark.parametrize("name", ["frame_0009.png", "frame_0011.png", "frame_9.png"])
def test_an_empty_picture_is_refused_for_frames_behind_it_would_be_lost(folder: Path, name: str) -> None:
    (folder / name).write_bytes(b"")
    with pytest.raises(InputError, match=f"{name} is empty; replace it, or take it out of the folder"):
        upscale_video(folder, None, Upscaler(open_runner=RepeatRunner))
    (folder / name).unlink()
    (folder / name).symlink_to("nowhere.png")
    with pytest.raises(InputError, match=f"{name} cannot be opened"):
        upscale_video(folder, None, Upscaler(open_runner=RepeatRunner))


def test_a_folder_of_frames_becomes_one_with_the_same_names(folder: Path) -> None:
    result = upscale_video(folder, None, Upscaler(open_runner=RepeatRunner))
    assert result.target == folder.with_name("shot [1] 100%_x4")
    found = sorted(result.target.iterdir())
    assert [p.name for p in found] == [f"frame_{i:04}.png" for i in range(7, 12)]
    for path, picture in zip(found, pictures(5), strict=True):
        np.testing.assert_array_equal(read_picture(path), enlarged(picture))
    assert {p.name for p in folder.parent.iterdir()} == {folder.name, result.target.name}


def test_deep_pictures_stay_deep(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    deep = np.random.default_rng(1).integers(0, 65536, (SIZE.height, SIZE.width, 3), dtype=np.uint16)
    write_png(tmp_path / "in" / "a.png", deep)
    upscale_video(tmp_path / "in", tmp_path / "out", Upscaler(open_runner=RepeatRunner))
    with av.open(str(tmp_path / "out" / "a.png")) as container:
        frame = next(container.decode(video=0))
    assert frame.format.name == "rgb48be"
    np.testing.assert_array_equal(frame.to_ndarray().astype(np.uint16), enlarged(deep))


def test_a_folder_of_frames_becomes_a_video_of_a_rate(folder: Path, tmp_path: Path) -> None:
    rate = Fraction(24000, 1001)
    result = upscale_video(
        folder, tmp_path / "o.mkv", Upscaler(open_runner=RepeatRunner), rate=rate, codec=choose_encoder("ffv1")
    )
    assert (result.frames, result.pixel_format) == (5, "yuv444p")
    times = presentation_times(result.target)
    assert [float(t) for t in times] == pytest.approx([i / float(rate) for i in range(5)], abs=0.001)


def test_a_video_becomes_a_folder_of_frames(tmp_path: Path) -> None:
    source = make_video(tmp_path / "v.mp4", SIZE, frames=12)
    assert is_for_frames(Source(source), tmp_path / "frames")
    result = upscale_video(source, tmp_path / "frames", Upscaler(open_runner=RepeatRunner), start_s=Fraction(4, 25))
    assert result.frames == 8
    assert sorted(p.name for p in result.target.iterdir()) == [f"{i:08}.png" for i in range(8)]


@pytest.mark.parametrize(("start_s", "names"), [(None, [7, 8, 10, 11]), (Fraction(1, 24), [8, 10, 11])])
def test_a_picture_that_cannot_be_decoded_takes_no_name_of_another(
    folder: Path, start_s: Fraction | None, names: list[int]
) -> None:
    (folder / "frame_0009.png").write_bytes(b"broken")
    result = upscale_video(folder, None, Upscaler(open_runner=RepeatRunner), start_s=start_s, rate=Fraction(24))
    assert (result.frames, result.frames_lost) == (len(names), 1)
    assert sorted(p.name for p in result.target.iterdir()) == [f"frame_{name:04}.png" for name in names]
    for name in names:
        np.testing.assert_array_equal(
            read_picture(result.target / f"frame_{name:04}.png"), enlarged(pictures(5)[name - 7])
        )


def contents(folder: Path) -> dict[str, bytes]:
    """Of all files below a folder, by name."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def interrupted(after: Callable[[], None]) -> type[RepeatRunner]:
    """A network that does something, such as to raise, with its third frame."""

    class Interrupted(RepeatRunner):
        steps = 0

        def _step(self, lr: NDArray[np.uint8]) -> NDArray[np.uint8]:
            self.steps += 1
            if self.steps == 3:
                after()
            return super()._step(lr)

    return Interrupted


def raising(error: BaseException) -> Callable[[], None]:
    def fail() -> None:
        raise error

    return fail


@pytest.mark.parametrize(("error", "seen"), [(MemoryError(), BackendError), (KeyboardInterrupt(), KeyboardInterrupt)])
def test_what_interrupts_leaves_nothing_and_keeps_the_older_folder(
    folder: Path, error: BaseException, seen: type[BaseException]
) -> None:
    before = contents(folder.parent)
    with pytest.raises(seen):
        upscale_video(folder, None, Upscaler(open_runner=interrupted(raising(error))))
    assert contents(folder.parent) == before
    upscale_video(folder, None, Upscaler(open_runner=RepeatRunner))
    (folder / "frame_0007.png").unlink()
    before = contents(folder.parent)
    with pytest.raises(seen):
        upscale_video(folder, None, Upscaler(open_runner=interrupted(raising(error))), overwrite=True)
    assert contents(folder.parent) == before
    assert {p.name for p in folder.parent.iterdir()} == {folder.name, f"{folder.name}_x4"}


@pytest.mark.parametrize("failing", [1, 2])
def test_the_older_folder_stays_when_the_new_one_cannot_get_its_name(
    folder: Path, monkeypatch: pytest.MonkeyPatch, failing: int
) -> None:
    upscale_video(folder, None, Upscaler(open_runner=RepeatRunner))
    before, rename, calls = contents(folder.parent), Path.rename, []

    def refuse(path: Path, target: Path) -> Path:
        calls.append(path)
        if len(calls) == failing:
            raise OSError(28, "No space left on device")
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", refuse)
    with pytest.raises(OutputError, match=r"cannot get its name \(No space left on device\)"):
        upscale_video(folder, None, Upscaler(open_runner=RepeatRunner), overwrite=True)
    assert contents(folder.parent) == before
    assert {p.name for p in folder.parent.iterdir()} == {folder.name, f"{folder.name}_x4"}


def test_a_folder_of_pictures_is_replaced_whole(folder: Path) -> None:
    target = upscale_video(folder, None, Upscaler(open_runner=RepeatRunner)).target
    with pytest.raises(OutputError, match="already holds files; pass --overwrite"):
        upscale_video(folder, None, Upscaler(open_runner=RepeatRunner))
    (folder / "frame_0007.png").unlink()
    upscale_video(folder, None, Upscaler(open_runner=RepeatRunner), overwrite=True)
    assert sorted(p.name for p in target.iterdir()) == [f"frame_{i:04}.png" for i in range(8, 12)]
    assert {p.name for p in folder.parent.iterdir()} == {folder.name, target.name}


@pytest.mark.parametrize("overwrite", [False, True])
def test_an_existing_folder_is_one_for_results(folder: Path, tmp_path: Path, overwrite: bool) -> None:
    library = tmp_path / "lib"
    library.mkdir()
    (library / "precious.txt").write_text("precious")
    result = upscale_video(folder, library, Upscaler(open_runner=RepeatRunner), overwrite=overwrite)
    assert result.target == library / f"{folder.name}_x4"
    assert {p.name for p in library.iterdir()} == {"precious.txt", result.target.name}
    assert (library / "precious.txt").read_text() == "precious"


def test_folders_that_differ_after_a_dot_have_results_of_their_own(folder: Path, tmp_path: Path) -> None:
    library = tmp_path / "lib"
    library.mkdir()
    source = folder.rename(tmp_path / "shot.v2")
    assert upscale_video(source, library, Upscaler(open_runner=RepeatRunner)).target == library / "shot.v2_x4"


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_results_are_named_after_the_scale_and_taken_for_results(folder: Path, tmp_path: Path, scale: int) -> None:
    upscaler = Upscaler(open_runner=RepeatRunner)
    assert upscale_video(folder, None, upscaler, scale=scale).target == folder.with_name(f"{folder.name}_x{scale}")
    (tmp_path / "films").mkdir()
    film = make_video(tmp_path / "films" / "film.mp4", FrameSize(16, 24), frames=2)
    picture = tmp_path / "photo.png"
    write_png(picture, np.zeros((16, 24, 3), np.uint8))
    for source in (film, picture):
        result = upscale_video(source, None, Upscaler(open_runner=RepeatRunner), scale=scale)
        assert result.target == source.with_name(f"{source.stem}_x{scale}{source.suffix}")
        assert result.size == FrameSize(16 * scale, 24 * scale)
    assert find_videos([str(film.parent)]) == [film]


def test_the_current_folder_has_a_name_too(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    result = upscale_video(Path(), None, Upscaler(open_runner=RepeatRunner))
    assert result.target == folder.with_name(f"{folder.name}_x4")


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("precious", ["precious.txt", "deeper.png/precious.png", "frame.jpg", ".hidden"])
def test_only_pictures_of_ours_are_replaced(folder: Path, tmp_path: Path, precious: str, overwrite: bool) -> None:
    full = tmp_path / "lib" / f"{folder.name}_x4"
    (full / precious).parent.mkdir(parents=True)
    (full / precious).write_text("precious")
    (full / "a.png").write_text("a picture")
    before = contents(full)
    words = "cannot be replaced because it holds" if overwrite else "already holds files"
    with pytest.raises(OutputError, match=words):
        upscale_video(folder, tmp_path / "lib", Upscaler(open_runner=RepeatRunner), overwrite=overwrite)
    assert contents(full) == before


@pytest.mark.parametrize("overwrite", [False, True])
def test_what_appears_in_the_meantime_is_not_replaced(folder: Path, overwrite: bool) -> None:
    target = folder.with_name(f"{folder.name}_x4")

    def put() -> None:
        target.mkdir()
        (target / "precious.txt").write_text("precious")

    with pytest.raises(OutputError, match="holds"):
        upscale_video(folder, None, Upscaler(open_runner=interrupted(put)), overwrite=overwrite)
    assert contents(target) == {"precious.txt": b"precious"}
    assert {p.name for p in folder.parent.iterdir()} == {folder.name, target.name}


@pytest.mark.parametrize("overwrite", [False, True])
def test_the_source_is_never_replaced(folder: Path, tmp_path: Path, overwrite: bool) -> None:
    library = tmp_path / "lib"
    library.mkdir()
    (folder / "notes.txt").unlink()
    hidden = folder.rename(library / "shot_x4")
    (tmp_path / "shot").symlink_to(hidden)  # its result would have the name of what it points to
    picture = hidden / "shot.png"
    (hidden / "frame_0007.png").rename(picture)
    before = contents(library)
    with pytest.raises(OutputError, match="is the source itself"):
        upscale_video(tmp_path / "shot", library, Upscaler(open_runner=RepeatRunner), overwrite=overwrite)
    work = Work(
        source=Source(picture),
        destination=Destination(hidden, "pictures"),
        encoder=choose_encoder("h264"),
        overwrite=overwrite,
    )
    with pytest.raises(OutputError, match="holds the source"):
        write_frames(work, Upscaler(open_runner=RepeatRunner), Events())
    assert contents(library) == before
    (library / "other_x4").symlink_to(hidden)
    other = hidden.rename(tmp_path / "other")
    with pytest.raises(OutputError, match="is a link to something else"):
        upscale_video(other, library, Upscaler(open_runner=RepeatRunner), overwrite=overwrite)
    assert len(contents(other)) == 5


def test_bad_folders_are_refused(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("precious")
    for overwrite in (False, True):
        for target, words in ((tmp_path / "file", "is a file"), (tmp_path / "none" / "out", "does not exist")):
            with pytest.raises(OutputError, match=words):
                upscale_video(folder, target, Upscaler(open_runner=RepeatRunner), overwrite=overwrite)
    assert (tmp_path / "file").read_text() == "precious"
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="holds no pictures"):
        upscale_video(tmp_path / "empty", None, Upscaler(open_runner=RepeatRunner))
    (folder / "other.jpg").write_bytes(b"")
    with pytest.raises(InputError, match=r"holds \.jpg and \.png pictures"):
        upscale_video(folder, None, Upscaler(open_runner=RepeatRunner))


@pytest.mark.parametrize("pixel_format", ["yuv420p", "yuv422p", "yuv444p10le"])
def test_a_pipe_gives_the_frames_of_a_pipe(pixel_format: str, monkeypatch: pytest.MonkeyPatch) -> None:
    source = io.BytesIO()
    with av.open(source, "w", format="yuv4mpegpipe", options={"strict": "unofficial"}) as container:
        stream = container.add_stream("rawvideo", rate=Fraction(30000, 1001))
        stream.height, stream.width, stream.pix_fmt = SIZE.height, SIZE.width, pixel_format
        for index, picture in enumerate(pictures(6)):
            frame = av.VideoFrame.from_ndarray(picture).reformat(format=pixel_format)
            frame.pts = index
            container.mux(stream.encode(frame))
    target = io.BytesIO()
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=Unseekable(source.getvalue())))
    monkeypatch.setattr(sys, "stdout", SimpleNamespace(buffer=target))
    result = upscale_video(Path("-"), None, Upscaler(open_runner=RepeatRunner))
    assert (result.frames, str(result.target), result.pixel_format) == (6, "-", pixel_format)
    with av.open(io.BytesIO(target.getvalue()), format="yuv4mpegpipe") as container:
        stream = container.streams.video[0]
        assert (stream.average_rate, stream.codec_context.pix_fmt) == (Fraction(30000, 1001), pixel_format)
        assert [(f.height, f.width) for f in container.decode(video=0)] == [(128, 192)] * 6


class Unseekable:
    """Bytes as a pipe gives them."""

    def __init__(self, data: bytes) -> None:
        self._data = io.BytesIO(data)

    def read(self, count: int = -1) -> bytes:
        return self._data.read(count)

    def isatty(self) -> bool:
        return False


@pytest.mark.parametrize("content", [b"", b"no frames at all"])
def test_a_pipe_without_frames_is_called_one(content: bytes, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=Unseekable(content)))
    with pytest.raises(
        InputError, match=r"standard input cannot be read as YUV4MPEG \(.*\); it is empty, or of another"
    ):
        upscale_video("-", tmp_path / "frames", Upscaler(open_runner=RepeatRunner))


def test_the_command_line_pipes(small_onnx: SmallOnnx, tmp_path: Path) -> None:
    source = tmp_path / "v.y4m"
    with av.open(str(source), "w") as container:
        stream = container.add_stream("rawvideo", rate=25)
        stream.height, stream.width, stream.pix_fmt = SIZE.height, SIZE.width, "yuv420p"
        for picture in pictures(3):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture).reformat(format="yuv420p")))
    command = [sys.executable, "-m", "ksnet_deploy", "upscale", "-", "-o", "-", "-m", str(small_onnx("32x48"))]
    done = subprocess.run(command, input=source.read_bytes(), capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
    assert done.stdout.startswith(b"YUV4MPEG2 W192 H128 F25:1")
    assert len(done.stdout) > 3 * 192 * 128 * 3 // 2
    assert b"3 frames of 128x192" in done.stderr
