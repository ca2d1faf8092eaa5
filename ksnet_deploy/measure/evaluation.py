"""Evaluation by the field's protocols: PSNR, SSIM and temporal consistency of a method on HR clips.

HR frames are degraded to LR (or LR comes beside them), a method enlarges them, and the result is compared with the
original. Figures are means over the frames of a clip, then over clips; a frame that is equal counts as 100 dB.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from ksnet_deploy.base.frames import SCALE, FrameSize
from ksnet_deploy.base.metrics import capped_psnr, luma, ssim
from ksnet_deploy.base.version import __version__
from ksnet_deploy.measure.degradation import ClipDegradation, degrade, enlarge_bicubic
from ksnet_deploy.measure.protocols import PROTOCOLS
from ksnet_deploy.measure.published import PUBLISHED, PUBLISHED_SOURCE
from ksnet_deploy.measure.warping import WarpingError
from ksnet_deploy.upscale.precision import precision_used
from ksnet_deploy.upscale.upscaler import Upscaler
from ksnet_deploy.video.clips.clip import Clip

if TYPE_CHECKING:
    from ksnet_deploy.video.compression import Compression

__all__ = ["BicubicMethod", "ClipScore", "EvaluationReport", "Method", "NetworkMethod", "evaluate", "frames_at_a_time"]

Frames = NDArray[np.uint8]
CHUNK = 16
CHUNK_BYTES = 1 << 26
"""Frames that are read and degraded at a time, fewer where they are large."""


class Method(Protocol):
    """Something that enlarges the frames of a clip."""

    name: str

    def begin(self, size: FrameSize) -> None:
        """A new clip of LR frames of a size follows."""

    def enlarge(self, lrs: Iterable[Frames]) -> Iterator[Frames]:
        """LR frames (H, W, 3) of the clip -> HR frames (4 H, 4 W, 3), each as soon as it is known."""


class BicubicMethod:
    """MATLAB's ``imresize(lr, 4)``, the yardstick of the field."""

    name = "bicubic"

    def begin(self, size: FrameSize) -> None:
        pass

    def enlarge(self, lrs: Iterable[Frames]) -> Iterator[Frames]:
        return map(enlarge_bicubic, lrs)


class NetworkMethod:
    """A network behind an :class:`~ksnet_deploy.upscale.upscaler.Upscaler`, as ``upscale`` runs it."""

    def __init__(self, name: str, make_upscaler: Callable[[], Upscaler]) -> None:
        """``make_upscaler`` is called for the first clip, and where a clip has another size than the one before."""
        self.name = name
        self._make_upscaler = make_upscaler
        self._upscaler: Upscaler | None = None
        self._size: FrameSize | None = None

    def begin(self, size: FrameSize) -> None:
        if self._upscaler is not None and size == self._size:
            self._upscaler.reset()
            return
        self.close()
        self._upscaler, self._size = self._make_upscaler(), size

    def enlarge(self, lrs: Iterable[Frames]) -> Iterator[Frames]:
        assert self._upscaler is not None, "begin() first"
        return self._upscaler.upscale(lrs)

    def run_by(self) -> dict[str, str | None]:
        """Hash, runtime and precision of the network, once it has enlarged something."""
        if self._upscaler is None:
            return {}
        identity = self._upscaler.identity()
        precision = precision_used(identity, tiled=self._upscaler.tiling is not None)
        return {"network": identity.get("network"), "runtime": identity.get("runtime"), "precision": precision}

    def close(self) -> None:
        if self._upscaler is not None:
            self._upscaler.close()
            self._upscaler = None


@dataclass(frozen=True)
class ClipScore:
    """Figures of one clip."""

    name: str
    frames: int
    """Number of frames that were counted."""
    psnr_db: float
    ssim: float
    warping_error: float | None
    """Warping error (:class:`~ksnet_deploy.measure.warping.WarpingError`) over all frames; None where not asked for
    or there is one frame only."""
    psnr_per_frame: list[float]
    variant: dict[str, Any] | None = None
    """Recipe of LR where it was drawn, see :mod:`ksnet_deploy.measure.variants`."""


@dataclass(frozen=True)
class EvaluationReport:
    """Figures of a method on a data set."""

    protocol: str
    space: str
    degradation: str
    method: str
    clips: list[ClipScore]
    compression: Compression | None = None
    """Compression that LR went through before the method."""
    bicubic: EvaluationReport | None = None
    """Figures of bicubic enlargement on the same LR, where that is another than in the field's tables."""
    run_by: dict[str, str | None] = field(default_factory=dict)
    """Hash, runtime and precision of the network; empty of another method."""

    @property
    def input_in_words(self) -> str:
        """Input of the method: the degradation, and the compression after it."""
        return self.degradation if self.compression is None else f"{self.degradation}, {self.compression}"

    def mean(self, name: str) -> float | None:
        """Mean over clips of a figure, ``psnr_db``, ``ssim`` or ``warping_error``."""
        values = [getattr(clip, name) for clip in self.clips]
        return None if None in values else float(np.mean(values))

    def published(self) -> dict[str, tuple[float, float]]:
        """PSNR in dB and SSIM of the paper's Table 1, where this report is of the same frames by the same rules."""
        rules = PROTOCOLS.get(self.protocol)
        if rules is None or not rules.is_whole({clip.name: clip.frames for clip in self.clips}):
            return {}
        if self.degradation != "BI" or self.compression or self.space != rules.space:
            return {}
        return {name: row[self.protocol] for name, row in PUBLISHED.items() if self.protocol in row}

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "version": __version__,
            "protocol": self.protocol,
            "space": self.space,
            "degradation": self.degradation,
            "compression": None if self.compression is None else self.compression.as_dict(),
            "method": self.method,
            "run_by": self.run_by,
            "mean": self._means(),
            "bicubic_mean": None if self.bicubic is None else self.bicubic._means(),
            "clips": [asdict(clip) for clip in self.clips],
            "published": {"source": PUBLISHED_SOURCE, "rows": self.published()},
        }

    def _means(self) -> dict[str, float | None]:
        return {name: self.mean(name) for name in ("psnr_db", "ssim", "warping_error")}

    def as_text(self) -> str:
        """Plain text for people."""
        lines = [
            f"{self.method} on {self.protocol}, degradation {self.input_in_words}, {self.space.upper()}",
            f"{'clip':<32}{'frames':>8}{'PSNR dB':>10}{'SSIM':>9}{'warping':>9}",
        ]
        for clip in self.clips:
            row = _row(clip.name, str(clip.frames), clip.psnr_db, clip.ssim, clip.warping_error)
            lines.append(row if clip.variant is None else f"{row:<69}{_in_words(clip.variant)}")
        frames = str(sum(clip.frames for clip in self.clips))
        for name, report in (("mean", self), ("mean of bicubic", self.bicubic)):
            if report is not None:
                mean_psnr, mean_ssim = report.mean("psnr_db") or 0.0, report.mean("ssim") or 0.0
                lines.append(_row(name, frames, mean_psnr, mean_ssim, report.mean("warping_error")))
        if published := self.published():
            lines.append(f"As published ({PUBLISHED_SOURCE}; trained elsewhere, not measured here):")
            lines += [_row(f"  {name}", "", *figures, None) for name, figures in published.items()]
        return "\n".join(lines)


def _row(name: str, frames: str, psnr_db: float, similarity: float, warping: float | None) -> str:
    shown = "" if warping is None else f"{warping:.3f}"
    return f"{name:<32}{frames:>8}{psnr_db:>10.3f}{similarity:>9.4f}{shown:>9}"


def evaluate(
    clips: Sequence[tuple[Clip, Clip | None]],
    method: Method,
    protocol: str,
    *,
    degradation: ClipDegradation = "BI",
    compression: Compression | None = None,
    space: Literal["y", "rgb"] | None = None,
    warping: WarpingError | None = None,
    on_frame: Callable[[], None] = lambda: None,
) -> EvaluationReport:
    """Score a method.

    Args:
        clips: from :func:`pairs`.
        protocol: a key of PROTOCOLS.
        degradation: how LR is made where it is not given; ``video`` makes that of each clip as a whole.
        compression: what LR goes through first, each clip as a whole, which is held in memory then.
        space: another than the protocol's.
        warping: measures temporal consistency where given.

    Raises:
        InputError: a frame cannot be read.
        OutputError: the encoder is missing or fails.
    """
    rules = PROTOCOLS[protocol]
    space = space or rules.space
    scores = []
    for hr, lr in clips:
        counted = {hr.frames // 2} if rules.centre_only else set(range(hr.frames))
        size = FrameSize(hr.height // SCALE, hr.width // SCALE)
        method.begin(size)
        if warping is not None:
            warping.begin()
        psnrs, ssims, errors = [], [], []
        waiting: deque[Frames] = deque()  # HR frames whose LR the method has seen, but not given back yet

        def lows(pairs: Iterator[tuple[Frames, Frames]], waiting: deque[Frames] = waiting) -> Iterator[Frames]:
            for low, high in pairs:
                waiting.append(high)
                yield low

        whole, variant = _whole_lr(hr, lr, size, degradation, compression)
        for index, found in enumerate(method.enlarge(lows(_frame_pairs(hr, lr, size, degradation, whole)))):
            high = waiting.popleft()
            if index in counted:
                planes = [(luma(found), luma(high))] if space == "y" else list(_channels(found, high))
                psnrs.append(capped_psnr(*planes[0]) if space == "y" else capped_psnr(found, high))
                ssims.append(float(np.mean([ssim(a, b) for a, b in planes])))
            error = None if warping is None else warping.add(found, high)
            if error is not None:
                errors.append(error)
            on_frame()
        hr.release()
        warping_error = float(np.mean(errors)) if errors else None
        scores.append(
            ClipScore(hr.name, len(psnrs), float(np.mean(psnrs)), float(np.mean(ssims)), warping_error, psnrs, variant)
        )
    name = degradation if all(lr is None for _, lr in clips) else "as given"
    return EvaluationReport(protocol, space, name, method.name, scores, compression)


def frames_at_a_time(clip: Clip) -> int:
    """The number of frames of a clip that are in memory at once, of one that is not decoded as a whole."""
    return max(1, min(CHUNK, clip.frames, CHUNK_BYTES // (3 * clip.height * clip.width)))


def _frame_pairs(
    hr: Clip, lr: Clip | None, size: FrameSize, degradation: ClipDegradation, whole: Frames | None
) -> Iterator[tuple[Frames, Frames]]:
    """Frames of LR and HR; of ``whole`` where LR was made at once."""
    for start, high in _parts(hr, size):
        low = _reduced(high, start, lr, degradation) if whole is None else whole[start : start + len(high)]
        yield from zip(low, high, strict=True)


def _whole_lr(
    hr: Clip, lr: Clip | None, size: FrameSize, degradation: ClipDegradation, compression: Compression | None
) -> tuple[Frames | None, dict[str, Any] | None]:
    """All LR frames of a clip where an encoder is to see them together, and what was done to them where that was drawn;
    else None, for frames that are reduced as they come."""
    if degradation == "video":
        from ksnet_deploy.measure.variants import make_variant  # needs PyAV, which shards do without

        frames = np.empty((hr.frames, size.upscaled.height, size.upscaled.width, 3), np.uint8)
        for start, high in _parts(hr, size):
            frames[start : start + len(high)] = high
        return make_variant(frames, hr.name)
    if compression is None:
        return None, None
    from ksnet_deploy.video.compression import compress

    lows = [_reduced(high, start, lr, degradation) for start, high in _parts(hr, size)]
    return compress(np.concatenate(lows), compression), None


def _parts(hr: Clip, size: FrameSize) -> Iterator[tuple[int, Frames]]:
    """HR frames as many at a time as are in memory at once, with the first's index."""
    step = frames_at_a_time(hr)
    for start in range(0, hr.frames, step):
        yield start, hr.read(start, min(step, hr.frames - start), (0, 0, size.upscaled.height, size.upscaled.width))


def _reduced(high: Frames, start: int, lr: Clip | None, degradation: ClipDegradation) -> Frames:
    assert degradation != "video", "which is made of whole clips"
    return degrade(high, degradation) if lr is None else lr.read(start, len(high))


def _in_words(variant: dict[str, Any]) -> str:
    from ksnet_deploy.measure.variants import variant_in_words

    return variant_in_words(variant)


def _channels(found: Frames, expected: Frames) -> Iterable[tuple[Frames, Frames]]:
    return ((found[..., c], expected[..., c]) for c in range(3))
