"""LR versions as videos have them: a random reduction, at times noise, then a real encoder.

``pack --degradation video`` makes some of each clip, once; stills get theirs when a camera has moved over them.
``evaluate --degradation video`` takes the first that it would make. What is drawn depends on the generator alone: a
version is repeated from (seed, name of the clip, number of the version) with the same version of the encoder.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from ksnet_deploy.measure.degradation import degrade
from ksnet_deploy.measure.kernels import KernelName, reduce_frames
from ksnet_deploy.video.compression import CODECS, CodecName, Compression, compress, encoder_version

__all__ = ["REFERENCE", "Variant", "encoder_versions", "make_variant", "reference_lr", "variant_in_words"]

CLEAN_SHARE = 0.2
"""Share of the versions that are reduced and nothing else, so that a clean source is still upscaled well."""
NOISY_SHARE = 0.3
"""Share of the others that get noise before they are encoded."""
NOISE_LEVELS = (0.5, 3.0)
"""Standard deviation of the noise in levels of 255, smallest and largest."""
SIGMAS_PX = (1.2, 2.0)
"""Standard deviation of the Gaussian kernel in HR pixels, smallest and largest."""
KERNEL_SHARES: dict[KernelName, float] = {
    "bicubic": 0.48,
    "bilinear": 0.13,
    "area": 0.13,
    "lanczos3": 0.13,
    "gaussian": 0.13,
}
CODEC_SHARES: dict[CodecName, float] = {"h264": 0.6, "hevc": 0.15, "vp9": 0.1, "mpeg2": 0.08, "mjpeg": 0.07}
QUALITIES: dict[CodecName, tuple[int, int]] = {
    "h264": (16, 36),
    "hevc": (18, 38),
    "vp9": (24, 60),
    "mpeg2": (2, 20),
    "mjpeg": (2, 20),
}
"""Qualities, nearly lossless to poor. On four training clips each end lies within 6 dB of that of H.264."""
PRESET_SHARES: dict[CodecName, dict[str, float]] = {
    "h264": {"ultrafast": 0.1, "veryfast": 0.25, "fast": 0.2, "medium": 0.3, "slow": 0.15},
    "hevc": {"ultrafast": 0.1, "veryfast": 0.2, "fast": 0.3, "medium": 0.4},
    "vp9": {"1": 0.2, "2": 0.4, "4": 0.4},
}
GOPS: dict[CodecName, tuple[int, ...]] = {
    "h264": (12, 30, 60, 250),
    "hevc": (12, 30, 60, 250),
    "vp9": (30, 128, 250),
    "mpeg2": (12, 15),
    "mjpeg": (1,),
}
REFERENCE = Compression.usual("h264", 23)
"""Compression of validation clips: x264 as it is used most."""

Choice = TypeVar("Choice")


@dataclass(frozen=True)
class Variant:
    """Recipe of one LR version."""

    kernel: KernelName
    sigma_px: float
    """Standard deviation of the Gaussian kernel in HR pixels; 0 for other kernels."""
    noise: float
    """Standard deviation of the noise in levels of 255; 0 for none."""
    compression: Compression | None
    """Compression; None for a clean version."""

    @classmethod
    def draw(cls, rng: np.random.Generator) -> Variant:
        """Draw one at random."""
        kernel = _choose(KERNEL_SHARES, rng)
        sigma_px = round(float(rng.uniform(*SIGMAS_PX)), 1) if kernel == "gaussian" else 0.0
        if rng.random() < CLEAN_SHARE:
            return cls(kernel, sigma_px, 0.0, None)
        noise = round(float(rng.uniform(*NOISE_LEVELS)), 3) if rng.random() < NOISY_SHARE else 0.0
        codec = _choose(CODEC_SHARES, rng)
        best, poorest = QUALITIES[codec]
        if CODECS[codec].by_quantizer:  # a step from 2 to 3 changes as much as one from 12 to 18
            quality = round(best * (poorest / best) ** rng.random())
        else:
            quality = int(rng.integers(best, poorest + 1))
        preset = _choose(PRESET_SHARES[codec], rng) if codec in PRESET_SHARES else None
        gop = int(rng.choice(GOPS[codec]))
        return cls(kernel, sigma_px, noise, Compression(codec, quality, preset, gop))

    def apply(self, hr: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
        """LR (T, H / 4, W / 4, 3) of the HR frames (T, H, W, 3) of a whole clip; ``rng`` draws the noise.

        Raises:
            OutputError: an encoder is missing or fails.
        """
        lr = reduce_frames(hr, self.kernel, self.sigma_px)
        if self.noise:
            noisy = lr + self.noise * rng.standard_normal(lr.shape, np.float32)
            lr = np.clip(np.rint(noisy), 0, 255).astype(np.uint8)
        return lr if self.compression is None else compress(lr, self.compression)


def make_variant(
    hr: NDArray[np.uint8], name: str, index: int = 0, seed: int = 0
) -> tuple[NDArray[np.uint8], dict[str, Any]]:
    """Version ``index`` of the clip of a name: its LR frames, and all about it as plain values.

    Args:
        hr: all frames of the clip, (T, H, W, 3), H and W multiples of 4.

    Raises:
        OutputError: an encoder is missing or fails.
    """
    digest = hashlib.sha256(name.encode()).digest()
    rng = np.random.default_rng((seed, index, *np.frombuffer(digest, np.uint32)))
    variant = Variant.draw(rng)
    lr = variant.apply(hr, rng)
    facts = {"seed": seed, **asdict(variant)}
    if variant.compression is not None:
        facts["encoder"] = encoder_version(variant.compression.codec)
    return lr, facts


def variant_in_words(facts: Mapping[str, Any]) -> str:
    """Version by what :func:`make_variant` tells of it: ``gaussian, noise 1.5, vp9 CRF 41``; ``bicubic, clean``."""
    made = facts["compression"]
    noise = f"noise {facts['noise']:.1f}, " if facts["noise"] else ""
    return f"{facts['kernel']}, {noise}{'clean' if made is None else Compression(**made)}"


def reference_lr(hr: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """LR of HR frames (T, H, W, 3) by bicubic and REFERENCE: the same on every run, so that runs can be compared."""
    return compress(degrade(hr, "BI"), REFERENCE)


def encoder_versions() -> Sequence[str]:
    """Versions of the encoders of all codecs that are drawn."""
    return [encoder_version(codec) for codec in CODEC_SHARES]


def _choose(shares: dict[Choice, float], rng: np.random.Generator) -> Choice:
    names = list(shares)
    return names[int(rng.choice(len(names), p=list(shares.values())))]
