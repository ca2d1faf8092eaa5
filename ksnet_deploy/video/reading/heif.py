"""Files of ISO/IEC 23008-12 (AVIF, HEIC), of which FFmpeg gives every picture, and transparency too, as a video track.

Tracks that tell no duration are pictures by themselves; the others are films.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from pathlib import Path

import av
from av.container import InputContainer
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from ksnet_deploy.video.colour import is_grey

__all__ = ["STILL_BRANDS", "Transparency", "films_first", "stills_beside", "transparency_of"]

STILL_BRANDS = frozenset({"avif", "heic", "heix", "mif1"})
"""Major brands of files whose first content is a picture."""
FILM_BRANDS = frozenset({"avis", "hevc", "hevx", "msf1"})
"""Major brands of files whose first content is a film; what it begins with may be there as a picture too."""


def _brand(container: InputContainer) -> str:
    return container.metadata.get("major_brand", "").strip()


def films_first(container: InputContainer, videos: Sequence[VideoStream]) -> list[VideoStream]:
    """Video tracks in the order in which they are wanted: of an animated picture the film before its still."""
    if _brand(container) not in FILM_BRANDS:
        return list(videos)
    return sorted(videos, key=lambda video: video.duration is None)


def stills_beside(container: InputContainer, video: VideoStream) -> list[VideoStream]:
    """Tracks of an animated picture that are the still of its film, which shows the same."""
    if _brand(container) not in FILM_BRANDS or video.duration is None:
        return []
    return [other for other in container.streams.video if other.duration is None]


def transparency_of(container: InputContainer, video: VideoStream) -> VideoStream | None:
    """Track that tells how transparent another is: grey, of the same size, and of the same kind."""
    if _brand(container) not in STILL_BRANDS | FILM_BRANDS:
        return None

    def is_alike(other: VideoStream) -> bool:
        sizes = {(v.codec_context.width, v.codec_context.height) for v in (video, other)}
        return len(sizes) == 1 and (other.duration is None) == (video.duration is None)

    later = (other for other in container.streams.video if other.index > video.index and other.codec_context)
    return next((other for other in later if is_grey(other.codec_context.format) and is_alike(other)), None)


class Transparency:
    """Frames of a track of transparency, taken in step with those of the pictures."""

    def __init__(self, path: Path, track: VideoStream) -> None:
        self.codec = track.codec_context.codec.canonical_name
        """FFmpeg's name of their compression."""
        self._frames = self._decoded(path, track.index)
        self._last: VideoFrame | None = None
        self._next: VideoFrame | None = None

    @staticmethod
    def _decoded(path: Path, index: int) -> Generator[VideoFrame, None, None]:
        with av.open(f"file:{path}") as container:
            yield from (frame for frame in container.decode(container.streams[index]) if isinstance(frame, VideoFrame))

    def at(self, frame: VideoFrame) -> VideoFrame | None:
        """The frame that is shown with one of the pictures; None where there is none yet."""
        if self._next is None:
            self._next = next(self._frames, None)
        while self._next is not None and (self._last is None or _seconds(self._next) <= _seconds(frame)):
            self._last, self._next = self._next, next(self._frames, None)
        return self._last

    def close(self) -> None:
        self._frames.close()


def _seconds(frame: VideoFrame) -> float:
    return 0.0 if frame.pts is None or frame.time_base is None else float(frame.pts * frame.time_base)
