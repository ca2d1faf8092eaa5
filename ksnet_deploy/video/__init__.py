"""Video files in and out. The only package that imports PyAV.

Frames cross this boundary as (H, W, 3) uint8 RGB with the presentation timestamp that they had in the file.
"""

from __future__ import annotations

from ksnet_deploy.video.colour import SWSCALE, Colour
from ksnet_deploy.video.picture import picture_size, read_picture, write_png
from ksnet_deploy.video.reader import CopiedPacket, Frame, VideoReader
from ksnet_deploy.video.writer import VideoWriter, check_encoder, container_problem, fitting_suffixes

__all__ = [
    "SWSCALE",
    "Colour",
    "CopiedPacket",
    "Frame",
    "VideoReader",
    "VideoWriter",
    "check_encoder",
    "container_problem",
    "fitting_suffixes",
    "picture_size",
    "read_picture",
    "write_png",
]
