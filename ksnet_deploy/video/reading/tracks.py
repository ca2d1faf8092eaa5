"""Kinds of tracks beside the video."""

from __future__ import annotations

from av.stream import Discard, Disposition, Stream

from ksnet_deploy.video.timecode import TIMECODE

__all__ = ["COPIED", "is_cover", "is_text", "is_timecode", "is_unread"]

COPIED = ("audio", "subtitle", "attachment")
"""Types of tracks, as FFmpeg names them, that can be in an output beside its video."""


def is_text(track: Stream) -> bool:
    """Whether a track is of subtitles in words, whose packets say nothing themselves of when they are shown."""
    context = track.codec_context
    return track.type == "subtitle" and context is not None and context.codec.text_sub


def is_cover(track: Stream) -> bool:
    """Whether a track is a picture beside the film, such as a poster."""
    return track.type == "video" and bool(track.disposition & Disposition.attached_pic)


def is_timecode(track: Stream) -> bool:
    """Whether a track counts the frames as the recorder did, which FFmpeg says in the metadata of the video too."""
    said = any(TIMECODE in video.metadata for video in track.container.streams.video)
    return track.type == "data" and TIMECODE in track.metadata and said


def is_unread(track: Stream) -> bool:
    """Whether FFmpeg hands out none of a track's packets, as of the chapters in MP4, which it has read."""
    return track.discard == Discard.all
