"""Subtitles of a part of a video: what is shown in it stays, for as long as it is in it."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import pytest
from torture import Case, contents, make
from torture_run import upscale

from ksnet_deploy.video.writing.presets import choose_encoder

START_S, END_S = Fraction(5), Fraction(28, 5)
LINES = [
    (Fraction(1, 2), Fraction(9, 10), "gone"),
    (Fraction(1), Fraction(26, 5), "long shown"),
    (Fraction(27, 5), Fraction(29, 5), "shown beyond"),
    (Fraction(59, 10), Fraction(6), "to come"),
]
"""When they begin and end, in the file. The second begins four keyframes before the part."""
OVERLAPPING = [
    (Fraction(1, 5), Fraction(6), "all the time"),
    (Fraction(4), Fraction(5), "until the start"),
    *LINES,
    (Fraction(28, 5), Fraction(6), "from the end on"),
]
WANTED = {
    "all the time": (Fraction(0), Fraction(3, 5)),
    "long shown": (Fraction(0), Fraction(1, 5)),
    "shown beyond": (Fraction(2, 5), Fraction(1, 5)),
}
"""By the part's clock, and for how long."""


def stamp(time_s: Fraction, mark: str) -> str:
    milliseconds = round(time_s * 1000)
    return f"00:00:{milliseconds // 1000:02}{mark}{milliseconds % 1000:03}"


def subtitle_file(codec: str, lines: list[tuple[Fraction, Fraction, str]], folder: Path) -> Path:
    lines = sorted(lines)
    if codec == "ass":
        events = [f"Dialogue: 0,{stamp(a, '.')[1:-1]},{stamp(b, '.')[1:-1]},Default,,0,0,0,,{t}" for a, b, t in lines]
        head = "[Script Info]\nScriptType: v4.00+\n\n[Events]\n"
        head += "Format: Layer, Start, End, Style, Name, MarginL, MarginR, MarginV, Effect, Text\n"
        (path := folder / "s.ass").write_text(head + "\n".join(events) + "\n")
    elif codec == "webvtt":
        cues = [f"{stamp(a, '.')} --> {stamp(b, '.')} line:0 align:left\n{t}\n" for a, b, t in lines]
        (path := folder / "s.vtt").write_text("WEBVTT\n\n" + "\n".join(cues))
    else:
        cues = [f"{i}\n{stamp(a, ',')} --> {stamp(b, ',')}\n{t}\n" for i, (a, b, t) in enumerate(lines, 1)]
        (path := folder / "s.srt").write_text("\n".join(cues))
    return path


def with_subtitles(video: Path, codec: str, folder: Path) -> Path:
    """The video with a track of the lines; those of MOV, which shows one at a time, do not overlap."""
    path = folder / f"v{video.suffix}"
    lines = LINES if codec == "mov_text" else OVERLAPPING
    with (
        av.open(str(video)) as pictures,
        av.open(str(subtitle_file(codec, lines, folder))) as words,
        av.open(str(path), "w") as file,
    ):
        (text,) = words.streams.subtitles
        copies: dict[Any, Any] = {pictures.streams.video[0]: file.add_stream_from_template(pictures.streams.video[0])}
        copies[text] = file.add_mux_stream(codec) if codec == "mov_text" else file.add_stream_from_template(text)
        packets: list[Any] = [*pictures.demux(video=0), *words.demux(text)]
        for packet in sorted((p for p in packets if p.dts is not None), key=lambda p: p.dts * p.time_base):
            copied = packet
            if codec == "mov_text" and packet.stream is text:
                copied = av.Packet(len(bytes(packet)).to_bytes(2, "big") + bytes(packet))
                copied.pts, copied.dts, copied.duration = packet.pts, packet.dts, packet.duration
                copied.time_base = packet.time_base
            copied.stream = copies[packet.stream]
            file.mux(copied)
    return path


def words_of(codec: str, content: bytes) -> str:
    """Of a packet."""
    if codec == "mov_text":
        return content[2 : 2 + int.from_bytes(content[:2], "big")].decode()
    return content.decode().rsplit(",", 1)[-1]


@pytest.mark.parametrize(
    ("codec", "suffix", "encoder", "target"),
    [
        ("mov_text", ".mp4", "h264", ".mp4"),
        ("mov_text", ".mp4", "h264", ".mov"),
        ("subrip", ".mkv", "h264", ".mkv"),
        ("ass", ".mkv", "h264", ".mkv"),
        ("webvtt", ".webm", "vp9", ".webm"),
    ],
)
def test_a_subtitle_that_is_shown_in_a_part_is_shown_as_long_as_the_part_has_it(
    tmp_path: Path, codec: str, suffix: str, encoder: str, target: str
) -> None:
    written = {".webm": {"codec": "libvpx-vp9", "options": {"deadline": "realtime", "cpu-used": "8", "g": "12"}}}
    case = Case(
        "plain", suffix, pts=tuple(range(0, 150 * 512, 512)), **written.get(suffix, {"options": {"g": "12", "bf": "0"}})
    )
    (folder := tmp_path / "plain").mkdir()
    source = with_subtitles(make(case, folder), codec, tmp_path)
    result = upscale(source, tmp_path / f"o{target}", codec=choose_encoder(encoder), start_s=START_S, end_s=END_S)
    output = contents(result.target)
    assert (result.frames, output.times[0]) == (15, 0)
    (track,) = output.tracks
    rows = zip(track.packets, track.times, track.durations, strict=True)
    found = {words_of(codec, content): (begin, lasts) for content, begin, lasts in rows if words_of(codec, content)}
    assert found == {key: value for key, value in WANTED.items() if codec != "mov_text" or key != "all the time"}
    assert output.duration <= END_S - START_S + Fraction(1, 100)


def test_the_place_and_name_of_a_webvtt_cue_are_kept(tmp_path: Path) -> None:
    """They lie beside the packet's words."""
    case = Case("plain", ".webm", codec="libvpx-vp9", options={"deadline": "realtime", "cpu-used": "8"})
    (folder := tmp_path / "plain").mkdir()
    source = with_subtitles(make(case, folder), "webvtt", tmp_path)
    result = upscale(source, tmp_path / "o.webm", codec=choose_encoder("vp9"))
    with av.open(str(result.target)) as file:
        cues = [packet for packet in file.demux(subtitles=0) if packet.size]
        assert len(cues) == len(OVERLAPPING)
        assert {bytes(cue.get_sidedata("webvtt_settings")) for cue in cues} == {b"line:0 align:left"}
