"""Videos that are upscaled one after the other, with the same settings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ksnet_deploy.base.errors import ConfigError, KSNetError
from ksnet_deploy.cli.answers import Answer, answer_of
from ksnet_deploy.cli.terminal import Progress
from ksnet_deploy.upscale.estimate import estimate_video
from ksnet_deploy.upscale.result import Events
from ksnet_deploy.upscale.scenes import CutDetector, GivenCuts, NoCuts, SceneDetector, read_cuts
from ksnet_deploy.upscale.to_frames import frames_target, is_stream, upscale_frames
from ksnet_deploy.upscale.to_video import target_of, upscale_video
from ksnet_deploy.upscale.upscaler import Upscaler
from ksnet_deploy.video.kinds import PIPE, is_folder
from ksnet_deploy.video.writing.encoder import Encoder
from ksnet_deploy.video.writing.presets import choose_encoder

if TYPE_CHECKING:
    from ksnet_deploy.upscale.memory import TileChoice
    from ksnet_deploy.video.writing.tracks import TrackChoice

__all__ = ["Batch"]

DEFAULT_CODEC, DEFAULT_RATE = "h264", Fraction(25)


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Settings as the options of ``upscale`` name them; None where an option was not given."""

    output: Path | None
    model: str
    backend: str | None
    device: str | None
    codec: str | None
    crf: int | None
    preset: str | None
    pixel_format: str | None
    height: int | None
    rate: Fraction | None
    start_s: Fraction | None
    end_s: Fraction | None
    tiles: TileChoice
    tracks: TrackChoice | None
    cuts: Path | None
    scene_reset: bool
    resume: bool
    keep_partial: bool
    overwrite: bool
    skip_existing: bool
    dry_run: bool

    def check(self, videos: Sequence[Path]) -> None:
        """What can be known to go wrong with the options, before any work.

        Raises:
            ConfigError: options contradict each other, or several videos would be written to one place.
            OutputError: there is no such encoder.
        """
        if self.cuts is not None and not self.scene_reset:
            raise ConfigError("--cuts and --no-scene-reset contradict each other; give one of them")
        if self.cuts is not None and self.start_s is not None:
            raise ConfigError("--cuts counts frames from the start of the file; leave --start out")
        if self.overwrite and self.skip_existing:
            raise ConfigError("--overwrite and --skip-existing contradict each other; give one of them")
        if len(videos) > 1 and self.output is not None and not self.output.is_dir():
            raise ConfigError(
                f"{len(videos)} videos cannot all be written to {self.output}; give an existing folder with --output"
            )
        encoder, taken = self.encoder, dict[Path, Path]()
        for video in videos if len(videos) > 1 else ():
            if is_stream(video, self.output):
                target = frames_target(video, self.output)
            else:
                try:
                    target = target_of(video, self.output, encoder, self.start_s, self.end_s, self.tracks or "convert")
                except (KSNetError, OSError):  # which is said when its turn comes
                    continue
            if target in taken:
                raise ConfigError(
                    f"{taken[target]} and {video} would both be written to {target}; upscale them one by one, with "
                    "names of their own"
                )
            taken[target] = video

    def upscale(self, video: Path, bar: Progress) -> Answer:
        """Upscale one of the videos, or estimate what it takes.

        Raises:
            KSNetError: it cannot be done.
        """
        encoder, streaming = self.encoder, is_stream(video, self.output)
        self._check_effect(video, streaming=streaming)
        if self.skip_existing:
            target = target_of(video, self.output, encoder, self.start_s, self.end_s, self.tracks or "convert")
            if target.exists():
                return {"input": str(video), "output": str(target), "skipped": True}
        detector = self._detector()
        upscaler = Upscaler(self.model, backend=self.backend, device=self.device, tiles=self.tiles, on_note=bar.say)
        common: dict[str, Any] = {
            "detector": detector,
            "start_s": self.start_s,
            "end_s": self.end_s,
            "rate": self.rate or DEFAULT_RATE,
            "overwrite": self.overwrite,
            "events": Events(
                on_start=lambda size, frames, done: bar.begin(f"{video.name}, {size} -> {size.upscaled}", frames, done),
                on_frame=bar.advance,
                on_note=bar.say,
            ),
        }
        of_files: dict[str, Any] = {"encoder": encoder, "height": self.height, "resume": self.resume}
        of_files["tracks"] = self.tracks or "convert"
        if streaming:
            answer = answer_of(upscale_frames(video, self.output, upscaler, **common))
        elif self.dry_run:
            answer = answer_of(estimate_video(video, self.output, upscaler, **common, **of_files))
        else:
            result = upscale_video(video, self.output, upscaler, keep_partial=self.keep_partial, **common, **of_files)
            answer = answer_of(result)
        if isinstance(detector, GivenCuts) and self.end_s is None and not self.dry_run:
            beyond = sum(cut >= answer["frames"] for cut in detector.cuts)
            answer["notes"] += [f"{beyond} of the given cuts lie beyond the last frame."] if beyond else []
        return {"input": str(video), "model": self.model, **answer}

    @cached_property
    def encoder(self) -> Encoder:
        """Looked for once: hardware is tried in a process of its own. Raises OutputError where there is none."""
        return choose_encoder(
            self.codec or DEFAULT_CODEC, quality=self.crf, speed=self.preset, pixel_format=self.pixel_format
        )

    def _detector(self) -> CutDetector:
        if self.cuts is not None:
            return GivenCuts(read_cuts(self.cuts))
        return SceneDetector() if self.scene_reset else NoCuts()

    def _check_effect(self, video: Path, *, streaming: bool) -> None:
        """Raise ConfigError for what cannot be, and for an option that would have no effect."""
        if self.rate is not None and not is_folder(video):
            raise ConfigError(f"--fps is for folders of frames, and {video} says its own; leave it out")
        if str(video) == PIPE and not streaming:
            raise ConfigError("frames from a pipe go to a pipe or to a folder; give - or a new folder as --output")
        given = {
            "--dry-run": self.dry_run,
            "--target": self.height is not None,
            "--codec": self.codec is not None,
            "--crf": self.crf is not None,
            "--preset": self.preset is not None,
            "--pixel-format": self.pixel_format is not None,
            "--tracks": self.tracks is not None,
            "--no-resume": not self.resume,
            "--keep-partial": self.keep_partial,
            "--skip-existing": self.skip_existing,
        }
        useless = [name for name, wanted in given.items() if wanted]
        if streaming and useless:
            raise ConfigError(
                f"{' and '.join(useless)} can be had for video files only, not for frames to a folder or a pipe; leave "
                "it out, or give a video file as --output"
            )
