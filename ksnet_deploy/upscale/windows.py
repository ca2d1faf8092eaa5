"""Windows that a network takes the frames of a video in, and what they cost: latency, memory, work.

A network that looks back only takes every frame by itself, a window of one. A bidirectional one takes windows of
``frames``, and looks at ``ahead`` frames after each, which hides the seam (:mod:`ksnet_deploy.runtime.windows`). Both
count frames of the video, repeated ones too, and end where a scene ends.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Self

from ksnet_deploy.base.errors import ConfigError
from ksnet_deploy.base.frames import FrameSize
from ksnet_deploy.network.config import KSNetConfig
from ksnet_deploy.upscale.networks import Network

__all__ = ["LOOK_AHEAD", "WINDOW", "Windows"]

WINDOW, LOOK_AHEAD = 32, 8
"""Frames of a window and of its look-ahead, unless told (``benchmarks/results/bi-windows.json``)."""


@dataclass(frozen=True)
class Windows:
    """Frames of a window, and frames that are looked at after it."""

    frames: int = 1
    ahead: int = 0

    @classmethod
    def of(cls, network: Network, window: int | None, look_ahead: int | None) -> Self:
        """The windows of a network; None for what was not asked for.

        Raises:
            ConfigError: a number is out of range, or the network takes frames one by one.
        """
        if not network.is_bidirectional:
            if window is not None or look_ahead is not None:
                raise ConfigError(
                    f"{network.label} takes frames one by one; leave --window and --look-ahead out, or give a "
                    "bidirectional network with --model"
                )
            return cls()
        frames, ahead = WINDOW if window is None else window, LOOK_AHEAD if look_ahead is None else look_ahead
        if frames < 1 or ahead < 0:
            raise ConfigError(
                f"a window of {frames} frames with {ahead} ahead cannot be; give --window 1 or more and --look-ahead 0 "
                "or more"
            )
        return cls(frames, ahead)

    @property
    def latency_frames(self) -> int:
        """Frames that are read before the first one comes out."""
        return self.frames + self.ahead

    def identity(self) -> dict[str, str]:
        """Windows as a part of a job's identity, by a name that a user understands; empty where each is one frame."""
        return {} if self == Windows() else {"windows": f"{self.frames} frames, {self.ahead} ahead"}

    def bytes(self, size: FrameSize, config: KSNetConfig, pixels: int | None = None) -> int:
        """Bytes that a window holds beside the network: its frames and those ahead, and a feature map for each of its
        frames, in float32.

        Args:
            size: of the LR frames.
            pixels: of a feature map (default: those of a frame; of one in tiles, those of all tiles).
        """
        if self == Windows():
            return 0
        area = size.height * size.width
        return 3 * 2 * self.latency_frames * area + 4 * config.channels * self.frames * (pixels or area)

    @property
    def work(self) -> float:
        """Work of a frame as a multiple of one in a window without look-ahead: the first of the two steps, about half
        of the work, runs over the frames ahead too."""
        return 1 + self.ahead / (2 * self.frames)

    def sentence(self, rate: Fraction, size: FrameSize, config: KSNetConfig | None, pixels: int | None = None) -> str:
        """Latency and memory, as a user should know them before the start; ``pixels`` as of :meth:`bytes`."""
        seconds = float(self.latency_frames / rate)
        memory = "" if config is None else f"; a window takes {self.bytes(size, config, pixels) / 1e6:,.0f} MB"
        return (
            f"The network sees windows of {self.frames} frames and {self.ahead} ahead: a frame comes out when "
            f"{self.latency_frames} have been read, {seconds:.1f} s of the video{memory}, however long the video is."
        )
