"""Video files in and out. The only package that imports PyAV.

Frames cross this boundary as (H, W, 3) RGB, uint8 or (more than 8 bits) uint16, with the presentation timestamp that
they had in the file.
"""

from __future__ import annotations

from ksnet_deploy.video.colour import SWSCALE, Colour
from ksnet_deploy.video.encoder import EncodedPacket, FrameEncoder, PictureFormat
from ksnet_deploy.video.encoders import Encoder, available_encoders, choose_encoder
from ksnet_deploy.video.picture import picture_size, read_picture, write_png
from ksnet_deploy.video.reader import CopiedPacket, Frame, VideoReader
from ksnet_deploy.video.sinks import PictureFolder, Y4mPipe
from ksnet_deploy.video.sources import PIPE, picture_files
from ksnet_deploy.video.writer import (
    VideoWriter,
    container_problem,
    decoding_times,
    facts_kept,
    fitting_codecs,
    fitting_suffixes,
    frame_times,
)

__all__ = [
    "PIPE",
    "SWSCALE",
    "Colour",
    "CopiedPacket",
    "EncodedPacket",
    "Encoder",
    "Frame",
    "FrameEncoder",
    "PictureFolder",
    "PictureFormat",
    "VideoReader",
    "VideoWriter",
    "Y4mPipe",
    "available_encoders",
    "choose_encoder",
    "container_problem",
    "decoding_times",
    "facts_kept",
    "fitting_codecs",
    "fitting_suffixes",
    "frame_times",
    "picture_files",
    "picture_size",
    "read_picture",
    "write_png",
]
