"""Work on one source: from where, to where, and how."""

from __future__ import annotations

from dataclasses import dataclass, field

from ksnet_deploy.base.frames import SCALE
from ksnet_deploy.upscale.destination import Destination
from ksnet_deploy.upscale.scenes import CutDetector, SceneDetector
from ksnet_deploy.video.kinds import Source
from ksnet_deploy.video.writing.encoder import Encoder
from ksnet_deploy.video.writing.tracks import TrackChoice

__all__ = ["Work"]


@dataclass(frozen=True, kw_only=True)
class Work:
    """Everything that is asked for beside the network."""

    source: Source
    destination: Destination
    encoder: Encoder
    """Encoder of the output video."""
    height: int | None = None
    """Height of the output's frames, which are resized to it (default: four times the source's)."""
    scale: int = SCALE
    """Scale of the output's frames against the source's, 2, 3 or 4; what is less than four is reduced from four times.
    Has no effect where a height is given."""
    detector: CutDetector = field(default_factory=SceneDetector)
    """Detector of scene cuts; it has looked at one video only."""
    tracks: TrackChoice = "convert"
    """Fate of sound, subtitles, attachments and covers: ``convert`` copies what the container holds, converts
    sound and text that it does not, and leaves out the rest; ``copy`` refuses what cannot be copied; ``drop`` leaves
    all of them out."""
    overwrite: bool = False
    """Replace an existing output."""
    resume: bool = True
    """Go on with an unfinished job, begun with the same settings, and keep this one when it fails; otherwise throw
    that away, and leave nothing."""
    keep_partial: bool = False
    """Whether to make a playable ``name.partial`` when interrupted, or when the source cannot be read to its end,
    beside the target, of the frames that are finished."""
