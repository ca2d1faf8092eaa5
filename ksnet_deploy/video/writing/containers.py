"""What fits where: which container holds which codecs, tracks and facts."""

from __future__ import annotations

import os

import av
import av.error
from av.stream import Stream

from ksnet_deploy.video.reading.reader import VideoReader
from ksnet_deploy.video.side_data import shape_of_pixels
from ksnet_deploy.video.writing.encoder import Encoder
from ksnet_deploy.video.writing.encoding import PictureFormat
from ksnet_deploy.video.writing.presets import software_presets

__all__ = ["container_problem", "facts_kept", "fitting_codecs", "fitting_suffixes"]

FORMATS = {".mp4": "mp4", ".m4v": "mp4", ".mov": "mov", ".mkv": "matroska", ".webm": "webm"}
"""Containers that are written, by the suffix of the file's name."""

ATTACHMENTS = frozenset({"matroska"})
"""Those that hold attached files, such as fonts."""

MP4_ONLY = frozenset({"av1", "flac", "opus", "truehd", "vp9"})
"""Compressions that FFmpeg lists for MOV too, and refuses there when the header is written."""

ASPECT_IN_VIDEO = frozenset({"h264", "hevc", "mpeg2video", "mpeg4"})
ASPECT_IN_FILE = frozenset({"mp4", "mov"})
"""Where the shape of pixels is told. Matroska could, but PyAV does not let FFmpeg know it for a container."""


def container_problem(reader: VideoReader, suffix: str, codec: str) -> str | None:
    """Why a container cannot hold the encoded video and the copied tracks of a source; None when it can."""
    name = FORMATS.get(suffix.lower())
    if name is None:
        return f"'{suffix}' is not a container that can be written"
    with av.open(os.devnull, "w", format=name) as probe:
        supported = probe.supported_codecs
    tracks = [("video", av.Codec(codec, "w").canonical_name), *((t.type, _codec_name(t)) for t in reader.tracks)]
    for kind, track_codec in tracks:
        fits = name in ATTACHMENTS if kind == "attachment" else track_codec in supported
        fits &= not (name == "mov" and track_codec in MP4_ONLY)
        if not fits:
            return f"a {suffix} file cannot hold the {kind} track ({track_codec})"
    return None


def fitting_suffixes(reader: VideoReader, encoder: Encoder) -> list[str]:
    """The containers that can hold everything: the source's own first, then the encoder's, then Matroska."""
    own = reader.path.suffix.lower()
    order = dict.fromkeys([own] * (own in encoder.containers) + [".mkv", *encoder.containers, own, *FORMATS])
    return [suffix for suffix in order if container_problem(reader, suffix, encoder.codec) is None]


def fitting_codecs(reader: VideoReader, suffix: str) -> list[str]:
    """The presets in software whose video a container can hold beside the copied tracks."""
    return [name for name, codec in software_presets().items() if container_problem(reader, suffix, codec) is None]


def facts_kept(reader: VideoReader, picture: PictureFormat, suffix: str, codec: str) -> list[str]:
    """Of what the source's frames carry beside their pictures, the names of what the output will say too."""
    kept = picture.hdr.kept_by(codec)
    in_video = av.Codec(codec, "w").canonical_name in ASPECT_IN_VIDEO
    if in_video or FORMATS[suffix.lower()] in ASPECT_IN_FILE:
        kept.append(shape_of_pixels(reader.pixel_aspect))
    return kept


def _codec_name(track: Stream) -> str:
    context = track.codec_context
    return context.codec.canonical_name if context is not None else "unknown"
