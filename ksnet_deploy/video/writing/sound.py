"""Sound in another codec: decoded and encoded packet by packet, at the times that it has in the source."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import av
import av.error
import numpy as np
from av.audio.fifo import AudioFifo
from av.audio.format import AudioFormat
from av.audio.frame import AudioFrame
from av.audio.layout import AudioLayout
from av.audio.resampler import AudioResampler
from av.audio.stream import AudioStream
from av.codec.context import CodecContext, Flags
from av.container import OutputContainer
from av.stream import Stream

from ksnet_deploy.video.reading.sources import CopiedPacket

__all__ = ["SoundConverter", "SoundFormat", "formats_for"]

LOSSLESS, LOSSY = ("flac", "alac"), ("aac", "libopus")
"""Encoders of FFmpeg, the first choice first."""
LAYOUTS = ("7.1", "6.1", "5.1", "5.0", "quad", "stereo", "mono")
"""Arrangements of loudspeakers that are taken where an encoder does not know the source's."""

TOLERANCE_S = Fraction(20, 1000)
"""Seconds a packet may be off its time before silence or a cut makes up for it; Matroska's times are rounded."""
LONGEST_SILENCE_S = 10
"""Longest gap in seconds that is filled with silence; what is missing for longer is left out of the file, too."""
LARGEST_CUT_S = 1
"""Largest step back in time, in seconds, that is cut; beyond it the times are broken, and the sound goes on."""
BLOCK = 1 << 16
"""Samples of silence that are made at once."""


@dataclass(frozen=True)
class SoundFormat:
    """An encoder of sound and what it is given."""

    codec: str
    """FFmpeg's name of the encoder."""
    sample_format: str
    layout: str
    rate: int
    """Samples per second."""
    mixed_from: int | None = None
    """Channels of the source where these are fewer."""

    @property
    def channels(self) -> int:
        return AudioLayout(self.layout).nb_channels

    @property
    def codec_name(self) -> str:
        """FFmpeg's name of the codec."""
        return av.Codec(self.codec, "w").canonical_name

    @property
    def is_lossless(self) -> bool:
        return self.codec in LOSSLESS

    @property
    def bit_rate(self) -> int:
        """Bits per second, hard to tell from the source; of no effect where the codec is lossless."""
        return min(self.channels * min(96_000, 4 * self.rate), 512_000)

    def describe_to(self, context: Any) -> None:
        context.format, context.layout, context.sample_rate = self.sample_format, self.layout, self.rate
        context.time_base = Fraction(1, self.rate)
        context.flags |= Flags.bitexact
        if not self.is_lossless:
            context.bit_rate = self.bit_rate

    def add_to(self, file: OutputContainer) -> AudioStream:
        """A track of a new file. Raises ValueError where the file cannot hold the codec."""
        stream = file.add_stream(self.codec, rate=self.rate)
        assert isinstance(stream, AudioStream)
        self.describe_to(stream.codec_context)
        stream.time_base = Fraction(1, self.rate)
        return stream

    def try_out(self, file: OutputContainer) -> None:
        """Write some silence into a file. Raises what PyAV raises where that cannot be."""
        stream = self.add_to(file)
        file.start_encoding()
        silence = self.silence(stream.codec_context.frame_size or 1024)
        silence.pts = 0
        file.mux(stream.encode(silence))
        file.mux(stream.encode(None))

    def opens(self) -> bool:
        """Whether the encoder takes it."""
        context = CodecContext.create(self.codec, "w")
        try:
            self.describe_to(context)
            context.open()
        except (av.error.FFmpegError, ValueError):
            return False
        return True

    def silence(self, samples: int) -> AudioFrame:
        """Frame of silence."""
        channels = self.channels
        shape = (channels, samples) if AudioFormat(self.sample_format).is_planar else (1, samples * channels)
        kind = {"s16": np.int16, "s32": np.int32, "flt": np.float32}[self.sample_format.removesuffix("p")]
        frame = AudioFrame.from_ndarray(np.zeros(shape, kind), format=self.sample_format, layout=self.layout)
        frame.sample_rate, frame.time_base = self.rate, Fraction(1, self.rate)
        return frame


def formats_for(track: Stream, heard: AudioFrame) -> Iterator[SoundFormat]:
    """Formats for a track, the best one first: lossless where its codec is, or can be.

    Args:
        heard: a frame of it.
    """
    for name in (*LOSSLESS, *LOSSY) if track.codec_context.codec.lossless else LOSSY:
        with suppress(av.codec.codec.UnknownCodecError):
            if (found := _format_for(av.Codec(name, "w"), heard)) is not None:
                yield found


def _format_for(encoder: av.Codec, heard: AudioFrame) -> SoundFormat | None:
    """Format, among those of the frame's rate, depth and loudspeakers, that an encoder takes."""
    rates = encoder.audio_rates or [heard.sample_rate]
    rate = min((r for r in rates if r >= heard.sample_rate), default=max(rates))
    depth = 2 if heard.format.bytes <= 2 else 4
    formats = {f.bytes: f.name for f in reversed(encoder.audio_formats or ())}
    sample_format = formats.get(depth) or next(iter(formats.values()))
    channels = heard.layout.nb_channels
    for layout in (heard.layout.name, *(name for name in LAYOUTS if AudioLayout(name).nb_channels <= channels)):
        fewer = AudioLayout(layout).nb_channels < channels
        found = SoundFormat(encoder.name, sample_format, layout, rate, channels if fewer else None)
        if "channels" not in layout and found.opens():
            return found
    return None


class SoundConverter:
    """Turns the packets of a track into those of another codec.

    Sound keeps its times to the sample: what is missing becomes silence, and what overlaps is cut. Packets that cannot
    be decoded are missing.
    """

    def __init__(self, file: OutputContainer, track: Stream, sound: SoundFormat) -> None:
        """A converter whose packets go into a new track of a file."""
        self.stream, self._sound = sound.add_to(file), sound
        self.stream.disposition = track.disposition
        self._decoder: Any = track.codec_context
        self._fifo = AudioFifo()
        self._resampler: AudioResampler | None = None
        self._given: tuple[str, str, int] | None = None  # format, layout and rate of the frames that it was made for
        self._next_s: Fraction | None = None  # when the sound after the last that was decoded begins
        self._position = 0  # of the end of what is in the queue, in samples of the output
        self._to_cut = 0
        self._suspect = False  # whether the next frame is to be at its own time, exactly
        self.damaged_packets = 0

    def convert(self, packet: CopiedPacket) -> Iterator[CopiedPacket]:
        """The packets that are ready once this one of the source is decoded."""
        return self._decode(packet)

    def finish(self) -> Iterator[CopiedPacket]:
        """Packets of all that is left."""
        yield from self._decode(None)
        self._resample(None)
        yield from self._encode()
        if self._fifo.samples:
            yield from self._encode_next(self._fifo.samples)
        yield from self.stream.encode(None)

    def _decode(self, packet: CopiedPacket | None) -> Iterator[CopiedPacket]:
        """The sound of a packet, or, of None, what the decoder still holds; turned into packets of the output."""
        frames: list[Any] = []
        try:
            frames = list(self._decoder.decode(packet))
        except av.error.EOFError:  # it was asked before
            pass
        except av.error.FFmpegError:
            self.damaged_packets += 1
            self._suspect = True
        for frame in frames:
            if frame.samples:
                yield from self._take(frame)

    def _take(self, frame: AudioFrame) -> Iterator[CopiedPacket]:
        given = frame.format.name, frame.layout.name, frame.sample_rate
        if given != self._given:
            self._resample(None)
            self._given, self._suspect = given, True  # the frame before a change often says it too early
        if frame.pts is not None and frame.time_base is not None:
            yield from self._keep_time(frame.pts * frame.time_base)
        elif self._next_s is None:
            self._next_s = Fraction(0)
        assert self._next_s is not None
        self._next_s += Fraction(frame.samples, frame.sample_rate)
        self._resample(frame)
        yield from self._encode()

    def _keep_time(self, time_s: Fraction) -> Iterator[CopiedPacket]:
        """Silence up to a frame's time, or a cut of what comes, if it is not where the last one ended."""
        place = round(time_s * self._sound.rate)
        if self._next_s is None:
            self._position = place
            self._next_s = time_s
            return
        apart_s = time_s - self._next_s
        tolerance_s = Fraction(1, 1000) if self._suspect else TOLERANCE_S
        self._suspect = False
        if abs(apart_s) <= tolerance_s or apart_s < -LARGEST_CUT_S:
            return
        self._resample(None)
        self._next_s = time_s
        if apart_s > LONGEST_SILENCE_S:
            if rest := self._fifo.samples % self._frame_size:
                self._put(self._sound.silence(self._frame_size - rest))
            yield from self._encode()
            self._position = place
        while self._position < place:
            self._put(self._sound.silence(min(place - self._position, BLOCK)))
            yield from self._encode()
        self._to_cut = self._position - place

    def _resample(self, frame: AudioFrame | None) -> None:
        """A frame into the queue, as the encoder takes it; None for what the resampler still holds, and a new one."""
        if frame is None:
            if self._resampler is not None:
                self._put(*self._resampler.resample(None))
            self._resampler = None
            return
        if self._resampler is None:
            sound = self._sound
            self._resampler = AudioResampler(format=sound.sample_format, layout=sound.layout, rate=sound.rate)
        frame.pts = None
        self._put(*self._resampler.resample(frame))

    def _put(self, *frames: AudioFrame) -> None:
        for frame in frames:
            if (cut := min(self._to_cut, frame.samples)) > 0:
                self._to_cut -= cut
                rest: Any = frame.to_ndarray()[:, cut * (1 if frame.format.is_planar else frame.layout.nb_channels) :]
                if not rest.size:
                    continue
                kept = AudioFrame.from_ndarray(np.ascontiguousarray(rest), frame.format.name, frame.layout.name)
                kept.sample_rate = frame.sample_rate
                frame = kept  # noqa: PLW2901
            frame.pts, frame.time_base = None, Fraction(1, self._sound.rate)
            self._position += frame.samples
            self._fifo.write(frame)

    def _encode(self) -> Iterator[CopiedPacket]:
        """Packets of the whole frames in the queue."""
        while self._fifo.samples >= self._frame_size:
            yield from self._encode_next(self._frame_size)

    def _encode_next(self, samples: int) -> Iterator[CopiedPacket]:
        frame = self._fifo.read(samples)
        assert frame is not None
        frame.pts, frame.time_base = self._position - self._fifo.samples - samples, Fraction(1, self._sound.rate)
        yield from self.stream.encode(frame)

    @property
    def _frame_size(self) -> int:
        """Samples that the encoder takes at once; only its last frame may be shorter."""
        return self.stream.codec_context.frame_size or 1024
