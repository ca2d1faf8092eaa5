"""Hard videos through the whole pipeline: everything that is true of the source is true of the output.

Both are read with PyAV directly. What a case says of itself (``torture.py``) is the reference wherever it says it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import pytest
from runners import RepeatRunner
from thinning import table
from torture import Case, Contents, NoCuts, Sound, Track, code_values, colour_of, contents, depth_of, make
from torture_cases import AVI, CONVERTED, DAMAGED, MKV, MOV, MP4, OPUS, PARTS, TS, VP9, WEBM, WHOLE
from torture_run import upscale

from ksnet_deploy.base.errors import InputError, OutputError
from ksnet_deploy.base.frames import FrameSize, FrameType
from ksnet_deploy.upscale.result import UpscaleResult
from ksnet_deploy.upscale.run import upscale_video
from ksnet_deploy.upscale.upscaler import Upscaler
from ksnet_deploy.video.writing.encoder import Encoder
from ksnet_deploy.video.writing.presets import choose_encoder
from ksnet_deploy.video.writing.tracks import TrackChoice

MILLISECOND = Fraction(1, 1000)
UNSPECIFIED = 2


@dataclass(frozen=True)
class Run:
    case: Case
    source: Contents
    result: UpscaleResult
    output: Contents


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Case], Run]:
    """Makes and upscales a case, each once."""
    folder = tmp_path_factory.mktemp("torture")
    done: dict[str, Run] = {}

    def get(case: Case) -> Run:
        if str(case) not in done:
            (own := folder / str(case)).mkdir()
            source = make(case, own)
            result = upscale(source, codec=choose_encoder(case.encoder))
            done[str(case)] = Run(case, contents(source), result, contents(result.target))
        return done[str(case)]

    return get


def each(cases: list[Case]) -> Any:
    return pytest.mark.parametrize("case", cases, ids=str)


Get = Callable[[Case], Run]


@each([*WHOLE, *CONVERTED])
def test_the_container_stays_where_it_can_hold_the_video(run: Get, case: Case) -> None:
    assert run(case).result.target.suffix == (case.target or case.suffix)


@each([*WHOLE, *CONVERTED])
def test_every_frame_is_there_at_its_time(run: Get, case: Case) -> None:
    source, output = run(case).source, run(case).output
    assert (run(case).result.frames, run(case).result.frames_lost) == (len(case.times), 0)
    exact = case.suffix in (MP4, MOV) and run(case).result.target.suffix in (MP4, MOV)
    tolerance = 0 if exact else MILLISECOND
    found = [time - output.times[0] for time in output.times]
    assert len(found) == len(case.times)
    assert max(abs(a - b) for a, b in zip(found, case.times, strict=True)) <= tolerance
    if case.suffix != AVI:  # which has no presentation times that PyAV could give
        assert abs(output.times[0] - source.times[0]) <= MILLISECOND
        if case.suffix == run(case).result.target.suffix and case.suffix in (MKV, WEBM):
            assert output.times == source.times


@each([case for case in WHOLE if case.last is not None])
def test_the_last_frame_is_shown_as_long(run: Get, case: Case) -> None:
    assert case.last is not None
    shown = (case.pts[-1] + case.last) * case.clock
    assert abs(run(case).source.duration - shown) <= MILLISECOND
    assert abs(run(case).output.duration - shown) <= MILLISECOND


@each([*WHOLE, *CONVERTED])
def test_every_frame_shows_its_own_colours(run: Get, case: Case) -> None:
    output = run(case).output
    depth = depth_of(output.pixel_format)
    shown = [index for index, pts in enumerate(case.pts) if pts >= 0 or case.suffix not in (MP4, MOV)]
    unit = 2 ** (depth - 8)
    for index, means in zip(shown, output.means, strict=True):
        rgb = colour_of(index)
        if case.pixel_format == "gray":
            grey = code_values(rgb, case.matrix, 8, full=True)[0] / 255
            rgb = (grey, grey, grey)
        expected = code_values(rgb, output.tags[0], depth, full=output.tags[1] == 2)
        assert len(means) == 3
        worst = max(abs(a - b) for a, b in zip(means, expected, strict=True)) / unit
        assert worst <= 2.5, f"frame {index} has {means}, expected {expected}"


@each([*WHOLE, *CONVERTED])
def test_colour_tags_are_the_sources(run: Get, case: Case) -> None:
    source, output = run(case).source.tags, run(case).output.tags
    rgb_or_untagged = source[0] in (0, UNSPECIFIED)
    assert output[0] == (6 if rgb_or_untagged else source[0])
    assert output[1] == (source[1] or 1)
    assert output[2:] == source[2:]
    if case.suffix != AVI and case.matrix != 0:  # AVI has no tags
        assert (*output[:2], *output[2:]) == (case.matrix, case.colour_range, case.primaries, case.transfer)


@each([*WHOLE, *CONVERTED])
def test_size_depth_and_chroma(run: Get, case: Case) -> None:
    output = run(case).output
    assert output.size == (case.size.height * 4, case.size.width * 4)
    expected = {
        "yuvj420p": ("yuv420p", "yuvj420p"),
        "gray": ("yuv420p", "yuvj420p"),
        "yuva420p": ("yuv420p",),
        "gbrp": ("yuv420p", "yuvj420p"),
        "gbrap": ("yuv420p", "yuvj420p"),
        "gbrp10le": ("yuv420p10le",),
        # What PyAV calls full range of H.264; that of VP9 has no name of its own.
        "yuv420p": ("yuvj420p",) if case.full_range and case.encoder == "h264" else ("yuv420p",),
    }.get(case.pixel_format, (case.pixel_format,))
    assert output.pixel_format in expected


@each(WHOLE)
def test_pixel_aspect_and_rotation_are_kept(run: Get, case: Case) -> None:
    output = run(case).output
    assert (output.aspect, output.rotation) == (case.aspect or 1, case.rotation)


def facts_of(track: Track) -> Track:
    return replace(track, packets=[], times=[], durations=[])


@each(WHOLE)
def test_the_other_tracks_are_copied_byte_for_byte(run: Get, case: Case) -> None:
    source, output = run(case).source, run(case).output
    assert len(output.tracks) == len(case.sounds) + bool(case.subtitles)
    for before, after in zip(source.tracks, output.tracks, strict=True):
        assert facts_of(after) == facts_of(before)
        # In a transport stream every packet of AAC begins with a header of 7 bytes, which other containers have once.
        header = 7 if case.suffix == TS and before.codec == "aac" else 0
        assert after.packets == [packet[header:] for packet in before.packets]
        assert len(after.packets) >= 2
    if case.suffix in (MP4, MKV, WEBM):
        assert [t.language for t in output.tracks if t.kind == "audio"] == [s.language for s in case.sounds]
        assert [bool(t.disposition & 1) for t in output.tracks if t.kind == "audio"] == [s.default for s in case.sounds]
    assert (output.language, output.disposition) == (source.language, source.disposition)


@each([case for case in WHOLE if case.sounds or case.subtitles])
def test_sound_and_subtitles_stay_in_sync(run: Get, case: Case) -> None:
    source, output = run(case).source, run(case).output
    first = Fraction(0) if case.suffix == AVI else source.times[0]  # for B-frames in AVI PyAV gives a time too late
    for before, after in zip(source.tracks, output.tracks, strict=True):
        assert len(after.times) == len(before.times)
        apart = [abs((a - output.times[0]) - (b - first)) for a, b in zip(after.times, before.times, strict=True)]
        # The container may round both the frame's time and the packet's.
        assert max(apart) <= MILLISECOND, [float(x) for x in apart[:5]]
        if before.kind == "subtitle":
            assert after.durations == before.durations


@each(WHOLE)
def test_chapters_and_metadata_are_copied(run: Get, case: Case) -> None:
    source, output = run(case).source, run(case).output
    assert [c[2].get("title") for c in output.chapters] == (["Overture", "Aria"] if case.chapters else [])
    assert output.chapters == source.chapters
    for key, value in case.metadata.items():
        assert output.metadata[key] == value


@each([*WHOLE, *CONVERTED])
def test_the_notes_say_what_is_not_kept_and_nothing_else(run: Get, case: Case) -> None:
    result = run(case).result
    about = {
        "HDR": case.transfer in (16, 18),
        "interlaced": case.name == "interlaced",
        "transparency": False,  # where there is a plane for it, all of it is opaque
        "colour matrix": case.suffix == AVI and case.codec == "mpeg4",
        ".webm cannot hold": case.suffix == ".webm" != result.target.suffix,
    }
    notes = result.notes
    for word, wanted in about.items():
        assert any(word in note for note in notes) == wanted, notes
    assert len(notes) == sum(about.values()), notes


@each(DAMAGED)
def test_of_a_damaged_video_what_decodes_comes_through(tmp_path: Path, case: Case) -> None:
    source = make(case, tmp_path)
    result = upscale(source)
    output = contents(result.target)
    assert result.frames == len(output.times)
    assert len(case.pts) // 3 <= result.frames <= len(case.pts)
    if case.suffix != TS:  # which announces neither frames nor a duration
        assert result.frames + result.frames_lost == pytest.approx(len(case.pts), abs=2)
    if case.suffix == ".h264":  # whose frames have no times; they are given the ones of the nominal rate
        assert any("timestamp" in note for note in result.notes)
        assert all(b > a for a, b in pairwise(output.times))
        return
    whole = contents(make(replace(case, damage=bytes), tmp_path))
    known = [round(float(time), 3) for time in whole.times]
    # After damage FFmpeg finds AVI's frames again, but their numbers only roughly.
    tolerance = 0.04 if case.suffix == AVI else 0.0011
    assert all(min(abs(float(time) - k) for k in known) <= tolerance for time in output.times)
    for before, after in zip(whole.tracks, output.tracks, strict=True):
        header = 7 if case.suffix == TS and before.codec == "aac" else 0
        intact = {packet[header:] for packet in before.packets}
        assert sum(packet in intact for packet in after.packets) >= len(after.packets) - 3


@pytest.mark.parametrize(
    ("start_s", "end_s"),
    table([None, *map(Fraction, ("0", "0.4", "0.5", "1.3"))], [None, Fraction("1.6"), Fraction(100)], every=3),
)
@each(PARTS)
def test_a_part_begins_at_zero_and_stays_in_sync(
    tmp_path: Path, case: Case, start_s: Fraction | None, end_s: Fraction | None
) -> None:
    source = make(case, tmp_path)
    before = contents(source)
    with av.open(str(source)) as file:
        origin = Fraction(file.start_time or 0, av.time_base)
    result = upscale(source, tmp_path / "o.mkv", start_s=start_s, end_s=end_s)
    after = contents(result.target)
    begin = origin + (start_s or 0)
    wanted = [t for t in before.times if t >= begin and (end_s is None or t < origin + end_s)]
    assert result.frames == len(wanted) == len(after.times)
    shift = wanted[0] - after.times[0]
    if start_s is None:
        # All stays; but what lies before zero in MP4, which is the sound's first packet, does not in Matroska.
        kept = min(Fraction(0), before.tracks[0].times[0]) if case.suffix == MP4 else Fraction(0)
        assert abs(shift - kept) <= MILLISECOND
    else:
        tick = Fraction(1, 25) if case.suffix == AVI else MILLISECOND
        assert abs(begin - shift) <= tick
    assert max(abs(a - (b - shift)) for a, b in zip(after.times, wanted, strict=True)) <= MILLISECOND
    if start_s is not None:
        assert 0 <= after.times[0] <= Fraction(1, 25)
    # Each packet of sound is told by its contents: it lies as far from its frame as before.
    (old,), (new,) = before.tracks, after.tracks
    header = 7 if case.suffix == TS else 0
    place = {packet[header:]: time for packet, time in zip(old.packets, old.times, strict=True)}
    # AVI counts sound in packets; to the nearest of these it is moved.
    tolerance = Fraction(12, 1000) if case.suffix == AVI else MILLISECOND
    assert max(abs(time - (place[p] - shift)) for p, time in zip(new.packets, new.times, strict=True)) <= tolerance
    audio_frame = Fraction(1152, 48000)  # of MP3, the longest
    assert new.times[0] <= max(old.times[0], begin) - shift + audio_frame + tolerance
    until = min(old.times[-1], origin + end_s if end_s is not None else old.times[-1]) - shift
    assert abs(new.times[-1] - until) <= audio_frame + tolerance
    if case.chapters:
        shift = 0 if start_s is None else shift
        stop = origin + end_s if end_s is not None else Fraction(10**6)
        expected = [
            (max(a - shift, 0), min(b, stop) - shift) for a, b, _ in before.chapters if a < stop and b - shift > 0
        ]
        assert [(a, b) for a, b, _ in after.chapters] == expected


@each(PARTS)
def test_a_part_that_holds_no_frame_is_refused_in_a_sentence(tmp_path: Path, case: Case) -> None:
    source = make(case, tmp_path)
    with av.open(str(source)) as file:
        between_frames = contents(source).times[2] - Fraction(file.start_time or 0, av.time_base) + MILLISECOND
    for start_s, end_s in (
        (Fraction(1000), None),
        (Fraction(3), Fraction(5)),
        (between_frames, between_frames + MILLISECOND),
    ):
        with pytest.raises(InputError, match=r"^no frame of \S+ lies between .* choose another part of it$") as raised:
            upscale(source, tmp_path / "o.mkv", start_s=start_s, end_s=end_s)
        assert "\n" not in str(raised.value)
    assert [path.name for path in tmp_path.iterdir()] == [source.name]


def refused(source: Path, target: Path, encoder: Encoder, tracks: TrackChoice = "convert") -> str:
    """The sentence, after which nothing is left but the source."""
    opened: list[FrameSize] = []

    def open_runner(size: FrameSize, io: FrameType) -> RepeatRunner:
        opened.append(size)
        return RepeatRunner(size, io)

    upscaler = Upscaler(open_runner=open_runner)
    with pytest.raises(OutputError) as raised:
        upscale_video(source, target, upscaler, detector=NoCuts(), codec=encoder, tracks=tracks)
    assert opened == []
    assert list(target.parent.iterdir()) == [source]
    return str(raised.value)


def test_webm_names_the_codecs_that_it_can_hold(tmp_path: Path) -> None:
    source = make(Case("v", WEBM, codec="libvpx-vp9", options=VP9, sounds=OPUS), tmp_path)
    assert refused(source, target := tmp_path / "o.webm", choose_encoder("h264")) == (
        f"{target} cannot be written: a .webm file cannot hold the video track (h264); pass --codec av1 or --codec "
        "vp9, or write to a file ending in .mkv or .mp4 or .m4v"
    )


def test_no_codec_is_named_where_another_track_does_not_fit(tmp_path: Path) -> None:
    source = make(Case("v", MP4, sounds=(Sound(),)), tmp_path)
    said = refused(source, tmp_path / "o.webm", choose_encoder("vp9"), tracks="copy")
    assert (
        "the audio track 1 (aac) cannot be copied: a .webm file cannot hold it; write to a file ending in .mp4" in said
    )
    assert said.endswith(", or pass --tracks convert")


@pytest.mark.parametrize(
    ("encoder", "settings"),
    [
        (replace(choose_encoder("h264"), options=dict(choose_encoder("h264").options) | {"preset": "warp"}), None),
        (choose_encoder("mpeg4"), "its defaults"),  # which counts time in no less than 1/65535 s
    ],
    ids=["h264", "mpeg4"],
)
def test_an_encoder_that_refuses_is_one_sentence_without_its_internals(
    tmp_path: Path, encoder: Encoder, settings: str | None
) -> None:
    source = make(Case("v", TS, clock=Fraction(1, 90000), pts=tuple(range(0, 72000, 3600))), tmp_path)
    said = refused(source, tmp_path / "o.mkv", encoder)
    check = "" if settings else "check its settings, or "
    assert said == (
        f"{encoder.name} does not take yuv420p frames of 128x192, timed in 1/90000 s, with "
        f"{settings or 'crf 18 and preset warp'} (Invalid argument); {check}choose another encoder with --codec, such "
        "as h264"
    )
