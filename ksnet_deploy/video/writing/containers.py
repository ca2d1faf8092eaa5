"""Containers: which of them holds which codecs, tracks and facts."""

from __future__ import annotations

import os

import av

from ksnet_deploy.video.reading.reader import VideoReader
from ksnet_deploy.video.side_data import shape_of_pixels
from ksnet_deploy.video.writing.encoder import Encoder
from ksnet_deploy.video.writing.encoding import PictureFormat
from ksnet_deploy.video.writing.presets import software_presets
from ksnet_deploy.video.writing.tracks import FORMATS, TrackPlanner

__all__ = ["container_problem", "facts_kept", "fitting_codecs", "fitting_suffixes", "loss"]

MP4_ONLY = frozenset({"av1", "vp9"})
"""Compressions of video that FFmpeg lists for MOV too, and refuses there when the header is written."""

ASPECT_IN_VIDEO = frozenset({"h264", "hevc", "mpeg2video", "mpeg4"})
ASPECT_IN_FILE = frozenset({"mp4", "mov"})
"""Containers that tell the shape of pixels. Matroska could, but PyAV does not let FFmpeg know it for a container."""


def container_problem(tracks: TrackPlanner, suffix: str, codec: str) -> str | None:
    """Reason why a container cannot hold the encoded video, or a track that must be copied; None when it can.

    Args:
        tracks: of the source, with what may become of them.
        suffix: of the file's name.
        codec: FFmpeg's name of the encoder.
    """
    name = FORMATS.get(suffix.lower())
    if name is None:
        return f"'{suffix}' is not a container that can be written"
    video = av.Codec(codec, "w").canonical_name
    if not _holds_video(name, video):
        return f"a {suffix} file cannot hold the video track ({video})"
    if tracks.choice == "copy":
        for plan in tracks.plan(suffix):
            if plan.done != "copied":
                return f"the {plan.name} ({plan.codec}) cannot be copied: {plan.why}"
    return None


def fitting_suffixes(tracks: TrackPlanner, encoder: Encoder) -> list[str]:
    """The containers that can be written, the best first.

    That are those in which the least is lost of the other tracks; of equals the source's own, then Matroska for what
    is not copied elsewhere, then the encoder's.
    """
    own = tracks.reader.path.suffix.lower()
    order = dict.fromkeys([own] * (own in encoder.containers) + [".mkv", *encoder.containers, own, *FORMATS])
    fitting = [suffix for suffix in order if container_problem(tracks, suffix, encoder.codec) is None]
    return sorted(fitting, key=lambda suffix: loss(tracks, suffix))


def fitting_codecs(tracks: TrackPlanner, suffix: str) -> list[str]:
    """The presets in software whose video a container can hold beside the other tracks."""
    return [name for name, codec in software_presets().items() if container_problem(tracks, suffix, codec) is None]


def loss(tracks: TrackPlanner, suffix: str) -> tuple[int, ...]:
    """Loss of the other tracks, the less the better: left out, with loss, and converted."""
    return tuple(map(sum, zip(*(plan.cost for plan in tracks.plan(suffix)), strict=True)))


def _holds_video(container: str, codec: str) -> bool:
    with av.open(os.devnull, "w", format=container) as probe:
        try:
            probe.add_mux_stream(codec)
        except ValueError:
            return False
    return not (container == "mov" and codec in MP4_ONLY)


def facts_kept(reader: VideoReader, picture: PictureFormat, suffix: str, codec: str) -> list[str]:
    """Names of the facts beside the pictures of the source that the output will say too."""
    kept = picture.hdr.kept_by(codec)
    in_video = av.Codec(codec, "w").canonical_name in ASPECT_IN_VIDEO
    if in_video or FORMATS[suffix.lower()] in ASPECT_IN_FILE:
        kept.append(shape_of_pixels(reader.pixel_aspect))
    return kept
