"""Sound, subtitles and covers in any container: copied, converted or left out, each said, and in sync."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from command import failure_of, run
from films import (
    CLICKS_S,
    FFMPEG,
    SOUNDS,
    SUBTITLES,
    TEXTS_MS,
    clicks_of,
    encoder_for,
    film_with_sound,
    film_with_subtitles,
    first_picture_s,
)
from media import make_video
from thinning import table
from torture_run import upscale

from ksnet_deploy.base.errors import OutputError
from ksnet_deploy.base.frames import FrameSize
from ksnet_deploy.upscale.result import UpscaleResult

CONTAINERS = (".mkv", ".mp4", ".mov", ".webm")
COPIED, LEFT_OUT = "copied", "left out"
SOUND_BECOMES = {
    "dts": (COPIED, COPIED, COPIED, "opus"),
    "truehd": (COPIED, "flac", "alac", "opus"),
    "eac3": (COPIED, COPIED, COPIED, "opus"),
    "wmav2": ("aac", "aac", "aac", "opus"),
    "adpcm": ("aac", "aac", "aac", "opus"),
    "amr": ("aac", "aac", COPIED, "opus"),
    "pcm_bluray": ("flac", "flac", "alac", "opus"),
    "opus": (COPIED, COPIED, "aac", COPIED),
    "vorbis": (COPIED, COPIED, "aac", COPIED),
    "flac": (COPIED, COPIED, "alac", "opus"),
    "tta": ("flac", "flac", "alac", "opus"),
    "unknown": (LEFT_OUT, LEFT_OUT, LEFT_OUT, LEFT_OUT),
}
TEXT_BECOMES = {
    "srt": (COPIED, "mov_text", "mov_text", "webvtt"),
    "ass": (COPIED, "mov_text", "mov_text", "webvtt"),
    "mov_text": ("subrip", COPIED, COPIED, "webvtt"),
    "webvtt": (COPIED, "mov_text", "mov_text", COPIED),
    "pgs": (COPIED, LEFT_OUT, LEFT_OUT, LEFT_OUT),
    "vobsub": (COPIED, COPIED, LEFT_OUT, LEFT_OUT),
    "dvb": (COPIED, LEFT_OUT, LEFT_OUT, LEFT_OUT),
}
"""In CONTAINERS; a codec where it is converted."""


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    folder, made = tmp_path_factory.mktemp("films"), dict[str, Path]()

    def get(kind: str) -> Path:
        if kind not in made:
            made[kind] = (film_with_sound if kind in SOUNDS else film_with_subtitles)(folder, kind)
        return made[kind]

    return get


def check_said(result: UpscaleResult, becomes: str, codec: str) -> None:
    """That the report and the notes say what is in the file."""
    (plan,) = result.tracks
    report = plan.report()
    done = becomes if becomes in (COPIED, LEFT_OUT) else "converted"
    assert report["done"] == done, report
    with av.open(str(result.target)) as file:
        found = [s.codec_context.codec.canonical_name for s in file.streams if s.type in ("audio", "subtitle")]
    into = {COPIED: report["codec"], LEFT_OUT: None}.get(becomes, becomes)
    assert (report["into"], found) == (into, [into] if into else [])
    kind = "subtitle" if codec in SUBTITLES else "audio"
    assert any(f"The {kind} track 1 " in note for note in result.notes) == (done == "converted")
    assert any(f"Not copied: {kind} track 1" in note for note in result.notes) == (done == LEFT_OUT)


@pytest.mark.parametrize(("kind", "suffix"), table(SOUND_BECOMES, CONTAINERS, every=3))
def test_sound_is_in_any_container_and_in_sync(
    film: Callable[[str], Path], tmp_path: Path, kind: str, suffix: str
) -> None:
    becomes = SOUND_BECOMES[kind][CONTAINERS.index(suffix)]
    source = film(kind)
    result = upscale(source, tmp_path / f"o{suffix}", codec=encoder_for(suffix))
    check_said(result, becomes, kind)
    if becomes != LEFT_OUT:
        before, after = ([c - first_picture_s(path) for c in clicks_of(path)] for path in (source, result.target))
        assert after == pytest.approx(before, abs=0.003)
        assert before == pytest.approx(CLICKS_S, abs=0.02)  # an encoder may say where it begins


@pytest.mark.parametrize("suffix", CONTAINERS)
@pytest.mark.parametrize("kind", TEXT_BECOMES)
def test_subtitles_are_in_any_container_that_can_show_them(
    film: Callable[[str], Path], tmp_path: Path, kind: str, suffix: str
) -> None:
    becomes = TEXT_BECOMES[kind][CONTAINERS.index(suffix)]
    result = upscale(film(kind), tmp_path / f"o{suffix}", codec=encoder_for(suffix))
    check_said(result, becomes, kind)
    if becomes == LEFT_OUT:
        return
    with av.open(str(result.target)) as file:
        packets = [packet for packet in file.demux(subtitles=0) if packet.size > 2]
        begin = first_picture_s(result.target)
        times = [round((float(p.pts * p.time_base) - begin) * 1000) for p in packets]
        assert times == pytest.approx([time for time, _ in TEXTS_MS], abs=1)
        if becomes != COPIED:
            assert [round(float(p.duration * p.time_base) * 1000) for p in packets] == [d for _, d in TEXTS_MS]
            assert all(b"Hello" in bytes(p) and b"you" in bytes(p) for p in packets)


@pytest.mark.parametrize(("suffix", "becomes"), [(".mkv", "subrip"), (".mp4", "mov_text"), (".webm", "webvtt")])
@pytest.mark.parametrize("start_s", [None, Fraction(1, 25)])
def test_closed_captions_are_shown_as_long_as_they_were(
    film: Callable[[str], Path], tmp_path: Path, suffix: str, becomes: str, start_s: Fraction | None
) -> None:
    """They are known only when they vanish, or when the film ends."""
    source, target = film("eia_608"), tmp_path / f"o{suffix}"
    result = upscale(source, target, codec=encoder_for(suffix), start_s=start_s)
    check_said(result, becomes, "eia_608")
    with av.open(str(target)) as file:
        packets = [packet for packet in file.demux(subtitles=0) if packet.size > 2]
        begin = first_picture_s(target) - float(start_s or 0)
        times = [round((float(p.pts * p.time_base) - begin) * 1000) for p in packets]
        assert times == pytest.approx([time for time, _ in TEXTS_MS], abs=1)
        assert [round(float(p.duration * p.time_base) * 1000) for p in packets] == [d for _, d in TEXTS_MS]
        assert all(b"Hello you" in bytes(p) for p in packets)


def test_copy_refuses_what_convert_would_convert_and_drop_leaves_all_out(
    film: Callable[[str], Path], tmp_path: Path
) -> None:
    with pytest.raises(OutputError, match=r"audio track 1 \(wmav2\) cannot be copied.*pass --tracks convert$"):
        upscale(film("wmav2"), tmp_path / "o.mkv", tracks="copy")
    assert list(tmp_path.iterdir()) == []
    assert [t.done for t in upscale(film("dts"), tmp_path / "c.mkv", tracks="copy").tracks] == [COPIED]
    dropped = upscale(film("dts"), tmp_path / "d.mkv", tracks="drop")
    assert "Not copied: audio track 1 (dts: as --tracks drop says)." in dropped.notes
    with av.open(str(dropped.target)) as file:
        assert [stream.type for stream in file.streams] == ["video"]


@pytest.mark.parametrize(
    ("kind", "suffix"), [("truehd", ".mkv"), ("wmav2", ".mkv"), ("amr", ".mov"), ("unknown", ".mov"), ("flac", ".mkv")]
)
def test_the_container_is_chosen_in_which_least_is_lost(
    film: Callable[[str], Path], tmp_path: Path, kind: str, suffix: str
) -> None:
    source = tmp_path / film(kind).name
    source.write_bytes(film(kind).read_bytes())
    assert upscale(source).target.suffix == suffix


def test_truehd_in_mp4_goes_to_a_container_that_takes_it(film: Callable[[str], Path], tmp_path: Path) -> None:
    source = tmp_path / "v.mp4"
    copying = ["-i", str(film("truehd")), "-c", "copy", "-strict", "-2", str(source)]
    subprocess.run([str(FFMPEG), "-v", "error", *copying], check=True)
    result = upscale(source)
    assert result.target.suffix == ".mkv"
    assert [t.done for t in result.tracks] == [COPIED]
    assert "The output is a .mkv file, because .mp4 cannot hold h264 with these tracks." in result.notes


def test_the_report_says_what_was_done_to_each_track(film: Callable[[str], Path], tmp_path: Path) -> None:
    (track,) = upscale(film("adpcm"), tmp_path / "o.mkv").as_dict()["tracks"]
    assert track == {
        "track": 1,
        "kind": "audio",
        "codec": "adpcm_ima_wav",
        "done": "converted",
        "into": "aac",
        "why": "a .mkv file cannot hold it",
    }


def test_tracks_are_refused_as_an_option_for_frames(film: Callable[[str], Path], tmp_path: Path) -> None:
    said = failure_of(run("upscale", film("adpcm"), "-o", tmp_path / "frames", "--tracks", "drop"))
    assert "--tracks has no effect on a folder of pictures" in said


@pytest.mark.parametrize("suffix", [".mkv", ".mp4", ".mov"])
def test_covers_are_kept_or_named(tmp_path: Path, suffix: str) -> None:
    jpeg = tmp_path / "cover.jpg"
    av.VideoFrame.from_ndarray(np.full((32, 48, 3), 90, np.uint8)).save(jpeg)
    plain, source = make_video(tmp_path / "plain.mkv", FrameSize(32, 48), sound=True, codec="mpeg4"), tmp_path / "v.mkv"
    with av.open(str(plain)) as old, av.open(str(source), "w") as new:
        copies = [new.add_stream_from_template(s, opaque=True) for s in old.streams]
        new.add_attachment("cover.jpg", "image/jpeg", jpeg.read_bytes())
        for packet in old.demux():
            if packet.dts is not None:
                packet.stream = copies[packet.stream.index]
                new.mux(packet)
    result = upscale(source, tmp_path / f"o{suffix}")
    with av.open(str(result.target)) as file:
        covers = [s for s in file.streams.video if s.disposition & av.stream.Disposition.attached_pic]
        found = [bytes(packet) for cover in covers for packet in file.demux(cover) if packet.size]
    kept = suffix != ".mov"
    assert found == ([jpeg.read_bytes()] if kept else [])
    assert any("Not copied: cover track 2 (mjpeg: " in note for note in result.notes) == (not kept)
    if kept:  # and again, from the container that it is in now
        again = upscale(result.target, tmp_path / "again.mp4")
        assert [t.done for t in again.tracks] == [COPIED, COPIED]


def test_a_longer_video_track_that_is_not_read_is_no_damage(tmp_path: Path) -> None:
    size = FrameSize(32, 48)
    short, long = (make_video(tmp_path / f"{n}.mkv", size, frames=n, sound=True, codec="mpeg4") for n in (15, 120))
    for suffix in (".mkv", ".mp4", ".avi"):
        source = tmp_path / f"v{suffix}"
        with av.open(str(short)) as first, av.open(str(long)) as second, av.open(str(source), "w") as new:
            copies = {
                (number, stream.index): new.add_stream_from_template(stream, opaque=True)
                for number, streams in enumerate((first.streams, [second.streams.video[0]]))
                for stream in streams
            }
            packets = [
                (packet, copies[number, packet.stream.index])
                for number, file in enumerate((first, second))
                for packet in file.demux()
                if packet.dts is not None and (number, packet.stream.index) in copies
            ]
            for packet, copy in sorted(packets, key=lambda pair: pair[0].dts * pair[0].time_base):
                packet.stream = copy
                new.mux(packet)
        result = upscale(source, tmp_path / "o.mkv", overwrite=True)
        assert (result.frames, result.frames_lost) == (15, 0), suffix
        assert [note for note in result.notes if note.startswith("Not copied")] == ["Not copied: video track 2."]


def timecode_of(path: Path) -> str | None:
    with av.open(str(path)) as file:
        return {k.lower(): v for k, v in file.streams.video[0].metadata.items()}.get("timecode")


@pytest.mark.parametrize("suffix", [".mov", ".mp4", ".mkv"])
@pytest.mark.parametrize(
    ("rate", "code", "start_s", "expected"),
    [
        (Fraction(25), "01:12:20:06", None, "01:12:20:06"),
        (Fraction(25), "01:12:20:06", Fraction(1, 5), "01:12:20:11"),
        (Fraction(25), "23:59:59:22", Fraction(1, 5), "00:00:00:02"),
        (Fraction(30000, 1001), "00:00:59;29", Fraction(1, 30), "00:01:00;02"),
        (Fraction(30000, 1001), "00:09:59;29", Fraction(1, 30), "00:10:00;00"),
    ],
    ids=str,
)
def test_time_code_is_kept_and_moves_with_the_start(
    tmp_path: Path, rate: Fraction, code: str, start_s: Fraction | None, expected: str, suffix: str
) -> None:
    source = tmp_path / "v.mov"
    with av.open(str(source), "w") as file:
        video: Any = file.add_stream("libx264", rate=rate)
        video.height, video.width, video.pix_fmt = 32, 48, "yuv420p"
        video.codec_context.colorspace, video.metadata["timecode"] = 6, code
        for index in range(12):
            frame = av.VideoFrame(48, 32, "yuv420p")
            frame.pts = index
            file.mux(video.encode(frame))
        file.mux(video.encode(None))
    assert timecode_of(source) == code
    result = upscale(source, tmp_path / f"o{suffix}", start_s=start_s)
    assert timecode_of(result.target) == expected
    assert result.notes == []
