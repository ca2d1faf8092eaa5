"""Sound in another codec keeps its times, its length and its contents."""

from __future__ import annotations

import re
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from films import CLICKS_S, SOUNDS, clicks_of, encoder_for, film_with_sound, first_picture_s, wave
from torture_run import upscale

from ksnet_deploy.upscale.output import track_notes
from ksnet_deploy.upscale.result import Events
from ksnet_deploy.video.reading.reader import VideoReader
from ksnet_deploy.video.writing.sound import SoundConverter, SoundFormat, formats_for
from ksnet_deploy.video.writing.tracks import TrackPlan


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    folder, made = tmp_path_factory.mktemp("films"), dict[str, Path]()

    def get(kind: str) -> Path:
        if kind not in made:
            made[kind] = film_with_sound(folder, kind)
        return made[kind]

    return get


def remuxed(source: Path, target: Path, edit: Callable[[Any], bool]) -> Path:
    """A copy whose packets of sound an edit changes, or leaves out where it says False."""
    with av.open(str(source)) as old, av.open(str(target), "w") as new:
        copies = {
            stream.index: new.add_stream_from_template(stream, opaque=True)
            for stream in (old.streams.video[0], old.streams.audio[0])
        }
        for packet in old.demux():
            if packet.dts is None or (packet.stream.type == "audio" and not edit(packet)):
                continue
            packet.stream = copies[packet.stream.index]
            new.mux(packet)
    return target


def damaged(packet: Any) -> Any:
    """The second half of its contents is overwritten."""
    view = memoryview(packet)
    view[len(view) // 2 :] = b"\x55" * (len(view) - len(view) // 2)
    return True


def later(packet: Any) -> bool:
    packet.pts, packet.dts = packet.pts + 250, packet.dts + 250
    return True


@pytest.mark.parametrize(
    ("edit", "clicks"),
    [
        (lambda p: not 0.45 < p.pts * p.time_base < 0.7, CLICKS_S),
        (later, tuple(click + 0.25 for click in CLICKS_S)),
        (lambda p: p.pts * p.time_base > 0.2, CLICKS_S),
    ],
    ids=["a gap", "a late start", "a missing start"],
)
def test_converted_sound_keeps_its_times_to_the_sample(
    tmp_path: Path, edit: Callable[[Any], bool], clicks: tuple[float, ...]
) -> None:
    source = remuxed(film_with_sound(tmp_path, "flac"), tmp_path / "edited.mkv", edit)
    before = clicks_of(source)
    assert before == pytest.approx(clicks, abs=0.001)
    assert clicks_of(upscale(source, tmp_path / "o.mov").target) == pytest.approx(before, abs=0.0011)


@pytest.mark.parametrize("suffix", [".mkv", ".webm", ".mov"])
@pytest.mark.parametrize("kind", ["wmav2", "adpcm", "amr"])
def test_a_part_of_converted_sound_begins_where_the_pictures_do(
    film: Callable[[str], Path], tmp_path: Path, kind: str, suffix: str
) -> None:
    start_s = Fraction(1, 2)
    result = upscale(
        film(kind), tmp_path / f"o{suffix}", codec=encoder_for(suffix), start_s=start_s, end_s=Fraction(11, 10)
    )
    with av.open(str(film(kind))) as file:
        begin_s = (file.start_time or 0) / av.time_base + float(start_s)
        first_s = next(float(frame.time) for frame in file.decode(video=0) if frame.time >= begin_s)
    expected = [click - first_s for click in clicks_of(film(kind)) if click > begin_s]
    begun_s = first_picture_s(result.target)
    assert len(expected) == 1
    assert [click - begun_s for click in clicks_of(result.target)] == pytest.approx(expected, abs=0.004)


def test_damaged_sound_does_not_end_the_job_and_what_follows_is_in_sync(tmp_path: Path) -> None:
    source = remuxed(
        film_with_sound(tmp_path, "flac"),
        tmp_path / "edited.mkv",
        lambda p: damaged(p) if 0.45 < p.pts * p.time_base < 0.7 else True,
    )
    result = upscale(source, tmp_path / "o.mov")
    assert any(re.search("of other tracks (was|were) left out: damaged", note) for note in result.notes)
    assert clicks_of(result.target) == pytest.approx(CLICKS_S, abs=0.0011)


@pytest.mark.parametrize("kind", ["wmav2", "adpcm", "amr", "pcm_bluray", "eac3"])
def test_converted_sound_is_as_long_as_before(tmp_path: Path, kind: str) -> None:
    """To the end, of which a decoder may hold back a part until there is no more."""
    rate = SOUNDS[kind][2]
    data = wave(rate, SOUNDS[kind][3], 1.0, (0.2, 0.97))
    source = film_with_sound(tmp_path, kind, data)
    result = upscale(source, tmp_path / "o.webm", codec=encoder_for(".webm"))
    before, after = ([c - first_picture_s(p) for c in clicks_of(p)] for p in (source, result.target))
    assert len(before) == 2
    assert after == pytest.approx(before, abs=0.003)


def test_lossless_sound_stays_lossless(tmp_path: Path) -> None:
    data = np.random.default_rng(0).uniform(-0.9, 0.9, (2, 12_000)).astype(np.float32)
    source = film_with_sound(tmp_path, "pcm_bluray", data)
    found = []
    for path in (source, *(upscale(source, tmp_path / f"o{suffix}").target for suffix in (".mkv", ".mov"))):
        with av.open(str(path)) as file:
            resampler = av.AudioResampler(format="s32", layout="stereo", rate=48000)
            frames = [part for frame in file.decode(audio=0) for part in resampler.resample(frame)]
            found.append(np.concatenate([frame.to_ndarray() for frame in frames], axis=1).astype(np.int64))
    assert np.ptp(found[0]) > 1e9
    for copy in found[1:]:
        np.testing.assert_array_equal(copy[:, : found[0].shape[1]], found[0])


def test_sound_that_changes_its_rate_and_channels_is_converted(tmp_path: Path) -> None:
    """As broadcasts do between programmes; here two streams of MPEG audio joined byte by byte."""
    path = tmp_path / "v.ts"
    with av.open(str(path), "w") as file:
        video: Any = file.add_stream("libx264", rate=25)
        video.height, video.width, video.pix_fmt = 32, 48, "yuv420p"
        sound = file.add_mux_stream("mp2", rate=48000)
        packets = []
        for index in range(30):
            frame = av.VideoFrame(48, 32, "yuv420p")
            frame.pts = index
            packets += video.encode(frame)
        packets += video.encode(None)
        for begin_s, rate, layout, click in ((0.0, 48000, "stereo", 0.3), (0.6, 32000, "mono", 0.3)):
            context: Any = av.CodecContext.create("mp2", "w")
            context.sample_rate, context.layout, context.format = rate, layout, "s16"
            context.time_base, context.bit_rate = Fraction(1, rate), 64_000
            data = wave(rate, len(context.layout.channels), 0.6, (click,))
            for start in range(0, data.shape[1] - 1151, 1152):
                part = np.ascontiguousarray(data[:, start : start + 1152])
                piece = av.AudioFrame.from_ndarray(part, "fltp", layout)
                piece.sample_rate, piece.pts, piece.time_base = rate, start, Fraction(1, rate)
                for packet in context.encode(piece):
                    packet.stream, packet.time_base = sound, Fraction(1, 90_000)
                    packet.pts = packet.dts = round((begin_s + start / rate) * 90_000)
                    packets.append(packet)
        for packet in sorted(packets, key=lambda p: p.dts * p.time_base):
            file.mux(packet)
    result = upscale(path, tmp_path / "o.webm", codec=encoder_for(".webm"))
    before, after = ([c - first_picture_s(p) for c in clicks_of(p)] for p in (path, result.target))
    assert after == pytest.approx(before, abs=0.003)
    assert before == pytest.approx([0.3, 0.9], abs=0.05)


@pytest.mark.parametrize("suffix", [".mkv", ".mp4", ".webm"])
def test_a_job_with_converted_sound_goes_on_to_the_same_bytes(tmp_path: Path, suffix: str) -> None:
    source = film_with_sound(tmp_path, "adpcm", wave(48000, 2, 6.0))
    whole = upscale(source, tmp_path / f"whole{suffix}", codec=encoder_for(suffix)).target.read_bytes()
    seen = iter(range(130))

    def stop() -> None:
        if next(seen, None) is None:
            raise KeyboardInterrupt

    target = tmp_path / f"o{suffix}"
    with pytest.raises(KeyboardInterrupt):
        upscale(source, target, codec=encoder_for(suffix), events=Events(on_frame=stop))
    result = upscale(source, target, codec=encoder_for(suffix))
    assert result.resumed_frames >= 100
    assert target.read_bytes() == whole


def test_conversion_keeps_nothing_but_the_frame_at_hand(tmp_path: Path) -> None:
    """So memory does not grow with the length: what went in comes out, but for a few frames of the encoder."""
    source = film_with_sound(tmp_path, "adpcm", wave(48000, 2, 8.0))
    with VideoReader(source) as reader, av.open(str(tmp_path / "o.mkv"), "w") as file:
        converter = SoundConverter(file, reader.tracks[0], SoundFormat("aac", "fltp", "stereo", 48000))
        file.start_encoding()
        given_s, made, behind_s = Fraction(0), 0, []
        for packet in reader.copied_packets():
            given_s += (packet.duration or 0) * packet.time_base
            made += sum(1 for _ in converter.convert(packet))
            behind_s.append(given_s - Fraction(made * 1024, 48000))
        assert len(behind_s) > 100
        assert max(behind_s) < Fraction(1, 10)
        assert made + sum(1 for _ in converter.finish()) == pytest.approx(8.0 * 48000 / 1024, abs=4)


@pytest.mark.parametrize(("layout", "mixed"), [("22.2", " and mixed from 24 channels to 8"), ("7.1", ""), ("mono", "")])
def test_channels_that_no_encoder_takes_are_said_to_be_mixed(
    film: Callable[[str], Path], layout: str, mixed: str
) -> None:
    heard = av.AudioFrame(format="s16", layout=layout, samples=64)
    heard.sample_rate = 48000
    with av.open(str(film("flac"))) as file:
        sound = next(formats_for(file.streams.audio[0], heard))
    plan = TrackPlan(1, "audio", "pcm_s16le", "converted", sound, "a .mp4 file cannot hold it")
    assert track_notes([plan]) == [
        f"The audio track 1 (pcm_s16le) was converted to flac{mixed}, because a .mp4 file cannot hold it."
    ]
    assert plan.cost == (0, int(bool(mixed)), 1)
