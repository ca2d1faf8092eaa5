"""Plans for a source's other tracks in a container: copied, converted, or left out.

Which codecs a container holds is asked of FFmpeg by writing the first packets of each track into one, because its list
counts codecs that the container then refuses, and leaves out some that it takes.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import av
import av.error
from av.audio.frame import AudioFrame
from av.container import OutputContainer
from av.stream import Stream

from ksnet_deploy.video.reading.reader import VideoReader
from ksnet_deploy.video.reading.sample import SamplePacket
from ksnet_deploy.video.reading.tracks import is_cover, is_text
from ksnet_deploy.video.writing.sound import SoundFormat, formats_for
from ksnet_deploy.video.writing.subtitles import SubtitleConverter, formats_of_text

__all__ = ["FORMATS", "TrackChoice", "TrackPlan", "TrackPlanner", "add_copy", "add_cover"]

TrackChoice = Literal["copy", "convert", "drop"]
"""Choices for the other tracks: all as they are; those that do not fit in another codec, or else left out; none."""

FORMATS = {".mp4": "mp4", ".m4v": "mp4", ".mov": "mov", ".mkv": "matroska", ".webm": "webm"}
"""Containers that are written, by the suffix of the file's name."""

REFUSALS = (av.error.FFmpegError, ValueError, OSError)
"""Errors of PyAV where a container does not take a track."""

UNCOPIED = {"tta": "FFmpeg does not write how long it is, without which its end cannot be decoded"}
"""Codecs that FFmpeg copies so that they can no longer be decoded, with the reason."""

MIMETYPES = {"mjpeg": ("image/jpeg", "jpg"), "png": ("image/png", "png"), "webp": ("image/webp", "webp")}
"""Types of covers in Matroska, which are attached files there, with the suffixes of their names."""


@dataclass(frozen=True)
class TrackPlan:
    """Plan for one of the source's other tracks."""

    index: int
    """Index of the source's track."""
    kind: str
    """``audio``, ``subtitle``, ``attachment`` or ``cover``."""
    codec: str
    """FFmpeg's name, or ``unknown``."""
    done: Literal["copied", "converted", "left out"]
    into: SoundFormat | str | None = None
    """Format that it is converted to: sound, or FFmpeg's name of a codec of subtitles."""
    why: str | None = None
    """The reason where it is not copied."""

    @property
    def cost(self) -> tuple[int, int, int]:
        """Cost of the plans, to be compared part by part: tracks left out, with loss, and converted."""
        sound = self.into if isinstance(self.into, SoundFormat) else None
        lossy = self.done == "converted" and not (sound and sound.is_lossless and sound.mixed_from is None)
        return int(self.done == "left out"), int(lossy and self.kind == "audio"), int(self.done == "converted")

    @property
    def codec_after(self) -> str | None:
        """FFmpeg's name of the codec in the output; None where it is left out."""
        if self.done == "left out":
            return None
        return self.into.codec_name if isinstance(self.into, SoundFormat) else self.into or self.codec

    @property
    def mixed(self) -> str:
        """Loss of channels in words, for a sentence; empty where there is none."""
        if not isinstance(self.into, SoundFormat) or self.into.mixed_from is None:
            return ""
        return f" and mixed from {self.into.mixed_from} channels to {self.into.channels}"

    @property
    def name(self) -> str:
        """Name in words."""
        return f"{self.kind} track {self.index}"

    def report(self) -> dict[str, Any]:
        """Plain values for programs."""
        found = {"track": self.index, "kind": self.kind, "codec": self.codec, "done": self.done}
        return found | {"into": self.codec_after, "why": self.why}


class TrackPlanner:
    """Plans the other tracks of a source for any container; each is tried once."""

    def __init__(self, reader: VideoReader, choice: TrackChoice = "convert") -> None:
        self.reader, self.choice = reader, choice
        self._plans: dict[str, list[TrackPlan]] = {}
        self._heard: dict[int, AudioFrame | None] = {}

    def plan(self, suffix: str) -> list[TrackPlan]:
        """Plan for each track in a container, one of FORMATS."""
        container = FORMATS[suffix.lower()]
        if container not in self._plans:
            self._plans[container] = [self._plan(track, container, suffix) for track in self.reader.tracks]
        return self._plans[container]

    def _plan(self, track: Stream, container: str, suffix: str) -> TrackPlan:
        kind = "cover" if is_cover(track) else track.type
        context: Any = track.codec_context
        codec = "file" if kind == "attachment" else "unknown" if context is None else context.codec.canonical_name
        sample, left_out = self.reader.sample.get(track.index, []), "as --tracks drop says"
        if self.choice != "drop" and codec == "unknown":
            left_out = "FFmpeg does not know its codec, or has no decoder for it"
        elif self.choice != "drop":
            if codec in UNCOPIED:
                left_out = UNCOPIED[codec]
            elif takes(container, lambda file: _try_copy(file, track, sample)):
                return TrackPlan(track.index, kind, codec, "copied")
            else:
                left_out = f"a {suffix} file cannot hold it"
            if self.choice == "convert":
                if (into := self._converted(track, container, sample)) is not None:
                    return TrackPlan(track.index, kind, codec, "converted", into, left_out)
                if kind == "audio":
                    left_out = f"{left_out}, and it cannot be decoded" if sample else "it is empty"
        return TrackPlan(track.index, kind, codec, "left out", why=left_out)

    def _converted(self, track: Stream, container: str, sample: list[SamplePacket]) -> SoundFormat | str | None:
        """The first format for a track that a container takes."""
        if track.type == "audio" and (heard := self._frame_of(track, sample)) is not None:
            return next((sound for sound in formats_for(track, heard) if takes(container, sound.try_out)), None)
        if is_text(track):
            for name in formats_of_text(track.codec_context.codec.canonical_name):
                if takes(container, partial(_try_text, track=track, codec=name, sample=sample)):
                    return name
        return None

    def _frame_of(self, track: Stream, sample: list[SamplePacket]) -> AudioFrame | None:
        """The first sound of a track that can be decoded."""
        if track.index not in self._heard:
            self._heard[track.index] = next(
                (frame for packet in sample for frame in _decoded(packet, track) if isinstance(frame, AudioFrame)), None
            )
        return self._heard[track.index]


def takes(container: str, write: Callable[[OutputContainer], None]) -> bool:
    """Whether a container can be written with what a function puts into it."""
    file = av.open(os.devnull, "w", format=container, options={"fflags": "+bitexact"})
    try:
        write(file)
        file.close()
    except REFUSALS:
        with contextlib.suppress(*REFUSALS):
            file.close()
        return False
    return True


def add_copy(file: OutputContainer, track: Stream, metadata: dict[str, str]) -> Stream:
    """A track of a new file for the packets of another. Raises what is in REFUSALS."""
    copy = file.add_stream_from_template(track)
    copy.metadata.update(metadata)
    copy.disposition = track.disposition
    return copy


def add_cover(file: OutputContainer, cover: Stream, sample: list[SamplePacket]) -> Callable[[], None]:
    """A cover in a new file; how to write it once the header is. Raises what is in REFUSALS."""
    (packet,) = sample
    codec = cover.codec_context.codec.canonical_name
    if file.format.name == "matroska":
        mimetype, suffix = MIMETYPES.get(codec, ("image/" + codec, codec))
        name = cover.metadata.get("filename", f"cover.{suffix}")
        file.add_attachment(name, cover.metadata.get("mimetype", mimetype), packet.data)
        return lambda: None
    if file.format.name != "mp4":
        raise ValueError("FFmpeg writes covers into MP4 and Matroska only")
    copy = file.add_stream_from_template(cover, opaque=True)
    copy.disposition = cover.disposition
    return lambda: file.mux(packet.packet_of(copy))


def _try_copy(file: OutputContainer, track: Stream, sample: list[SamplePacket]) -> None:
    if is_cover(track):
        write = add_cover(file, track, sample)
        file.start_encoding()
        write()
        return
    copy = add_copy(file, track, {})
    file.start_encoding()
    refused = None
    for packet in sample:
        try:
            file.mux(packet.packet_of(copy))
        except REFUSALS as error:  # damaged ones may be among them
            refused = error
        else:
            return
    if refused is not None:
        raise refused


def _try_text(file: OutputContainer, *, track: Stream, codec: str, sample: list[SamplePacket]) -> None:
    converter = SubtitleConverter(file, track, codec)
    file.start_encoding()
    for packet in sample:
        file.mux(list(converter.convert(packet.packet_of(track))))


def _decoded(packet: SamplePacket, track: Stream) -> list[Any]:
    try:
        return packet.packet_of(track).decode()
    except REFUSALS:
        return []
