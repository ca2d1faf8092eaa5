"""Videos that are upscaled with the same settings, each by itself; a part of the command ``upscale``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING

from ksnet_deploy.base.errors import ConfigError, KSNetError
from ksnet_deploy.base.frames import SCALE
from ksnet_deploy.base.memory import is_out_of_memory
from ksnet_deploy.base.words import counted, without_effect
from ksnet_deploy.cli.answers import Answer, Failed, Skipped
from ksnet_deploy.cli.terminal import Progress, build_progress, out_of_memory_sentence
from ksnet_deploy.upscale.choice import choose_network
from ksnet_deploy.upscale.destination import Destination, choose_destination, is_for_frames
from ksnet_deploy.upscale.estimate import Estimate, estimate
from ksnet_deploy.upscale.ladder import Choices, this_machine
from ksnet_deploy.upscale.prepare import output_size
from ksnet_deploy.upscale.result import Events, UpscaleResult
from ksnet_deploy.upscale.run import carry_out
from ksnet_deploy.upscale.scenes import CutDetector, GivenCuts, NoCuts, SceneDetector, is_one_scene, read_cuts
from ksnet_deploy.upscale.upscaler import Upscaler
from ksnet_deploy.upscale.values import TileChoice
from ksnet_deploy.upscale.work import Work
from ksnet_deploy.video.kinds import Source
from ksnet_deploy.video.writing.encoder import Encoder
from ksnet_deploy.video.writing.presets import DEFAULT_ENCODER, choose_encoder
from ksnet_deploy.video.writing.tracks import TrackChoice

if TYPE_CHECKING:
    from ksnet_deploy.cluster.front import Cluster

__all__ = ["Batch"]

WHAT = {"picture": "a picture", "pictures": "a folder of pictures", "pipe": "a pipe"}
"""Kinds of destinations that are no video, in words."""


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Settings as the options of ``upscale`` name them; None where an option was not given."""

    output: Path | None
    model: str | None
    """Name or path of the network; None for the one that suits each source."""
    choices: Choices
    """Runtime and device."""
    codec: str | None
    crf: int | None
    preset: str | None
    pixel_format: str | None
    height: int | None
    scale: int | None
    rate_given: bool
    """Whether frames per second were given, which only a folder of frames takes."""
    tiles: TileChoice
    window: int | None
    look_ahead: int | None
    tracks: TrackChoice | None
    cuts: Path | None
    scene_reset: bool
    resume: bool
    keep_partial: bool
    overwrite: bool
    skip_existing: bool
    dry_run: bool
    scenes_in_flight: int = 1
    """Scenes that go through the network side by side."""
    shared_source: bool = False
    """Whether the workers of a cluster open the sources themselves."""

    def check(self, sources: Sequence[Source]) -> None:
        """Refuse what can be known to go wrong with the options, before any work.

        Raises:
            ConfigError: options contradict each other, or several videos would be written to one place.
            OutputError: there is no such encoder.
        """
        if self.cuts is not None and not self.scene_reset:
            raise ConfigError("--cuts and --no-scene-reset contradict each other; give one of them")
        if self.cuts is not None and any(source.start_s is not None for source in sources):
            raise ConfigError("--cuts counts frames from the start of the file; leave --start out")
        if self.height is not None and self.scale is not None:
            raise ConfigError("--target and --scale contradict each other; give one of them")
        if self.scenes_in_flight != 1 and self.dry_run:
            raise ConfigError("--dry-run measures one scene at a time; leave --scenes-in-flight out")
        if self.overwrite and self.skip_existing:
            raise ConfigError("--overwrite and --skip-existing contradict each other; give one of them")
        if len(sources) > 1 and self.output is not None and not self.output.is_dir():
            raise ConfigError(
                f"{len(sources)} inputs cannot all be written to {self.output}; give an existing folder with --output"
            )
        taken: dict[Path, Path] = {}
        for source in sources if len(sources) > 1 else ():
            try:
                target = self.destination(source).path
            except (KSNetError, OSError):  # which is said when its turn comes
                continue
            if target in taken:
                raise ConfigError(
                    f"{taken[target]} and {source.path} would both be written to {target}; upscale them one by one, "
                    "with names of their own"
                )
            taken[target] = source.path

    def destination(self, source: Source) -> Destination:
        """The place of a source's output, chosen once. Raises KSNetError where there is none."""
        if source not in self._destinations:
            self._destinations[source] = choose_destination(
                source, self.output, self.encoder, self.tracks or "convert", self.scale or SCALE
            )
        return self._destinations[source]

    def attempt(
        self,
        source: Source,
        bar: Progress,
        take: Callable[[Answer], None],
        *,
        cluster: Cluster | None = None,
        raises: bool,
    ) -> None:
        """Upscale one of the videos, and give the answer to ``take``; one that fails is complained of, or ``raises``
        besides."""
        try:
            answer = self.upscale(source, bar, cluster)
        except Exception as error:
            if not isinstance(error, (KSNetError, OSError)) and not is_out_of_memory(error):
                raise
            known = isinstance(error, KSNetError) or not is_out_of_memory(error)
            words = str(error) if known else out_of_memory_sentence(error)
            answer = Answer(source.path, Failed(words))
            if raises:
                take(answer)
                raise
            bar.complain(words)
        take(answer)

    def upscale(self, source: Source, bar: Progress, cluster: Cluster | None = None) -> Answer:
        """Upscale one of the videos, here or by the workers of a cluster, or estimate what it takes.

        Raises:
            KSNetError: it cannot be done.
        """
        self._check_source(source)
        destination = self.destination(source)
        self._check_effect(source, destination)
        if self.skip_existing and destination.path.exists():
            return Answer(source.path, Skipped(destination.path))
        work = Work(
            source=source,
            destination=destination,
            encoder=self.encoder,
            height=self.height,
            scale=self.scale or SCALE,
            detector=self._detector(),
            overwrite=self.overwrite,
            resume=self.resume,
            keep_partial=self.keep_partial,
            tracks=self.tracks or "convert",
        )
        name = source.path.name
        larger = partial(output_size, work=work, even=destination.kind in ("video", "pipe"))
        events = Events(
            on_start=lambda size, frames, done: bar.begin(f"{name}, {size} -> {larger(size)}", frames, done),
            on_frame=bar.advance,
            on_note=bar.say,
        )
        model = self.model
        if model is None:
            device = self.choices.settled_device(this_machine()) if cluster is None else cluster.device
            choice = choose_network(source, device)
            model = choice.name
            bar.say(choice.sentence())
        outcome = (
            self._upscale_here(work, model, bar, events)
            if cluster is None
            else cluster.upscale(
                work,
                model,
                events,
                tiles=self.tiles,
                window=self.window,
                look_ahead=self.look_ahead,
                shared_source=self.shared_source,
            )
        )
        if isinstance(work.detector, GivenCuts) and source.end_s is None and isinstance(outcome, UpscaleResult):
            beyond = sum(cut >= outcome.frames for cut in work.detector.cuts)
            those = counted(beyond, "of the given cuts lies", "of the given cuts lie")
            outcome.notes.extend([f"{those} beyond the last frame."] if beyond else [])
        return Answer(source.path, outcome, model)

    def _upscale_here(self, work: Work, model: str, bar: Progress, events: Events) -> UpscaleResult | Estimate:
        scenes = self.scenes_in_flight
        if scenes > 1 and is_one_scene(work.detector):
            bar.say("There are no cuts, so there is one scene, which goes by itself; --scenes-in-flight has no effect.")
            scenes = 1
        upscaler = Upscaler(
            model,
            runtime=self.choices.runtime,
            device=self.choices.device,
            precision=self.choices.precision,
            tiles=self.tiles,
            window=self.window,
            look_ahead=self.look_ahead,
            scenes_in_flight=scenes,
            on_note=bar.say,
            on_build=build_progress(bar),
        )
        return estimate(work, upscaler, events) if self.dry_run else carry_out(work, upscaler, events)

    @cached_property
    def encoder(self) -> Encoder:
        """Encoder of all videos, looked for once: hardware is tried in a process of its own.

        Raises:
            OutputError: there is no such encoder.
        """
        return choose_encoder(
            self.codec or DEFAULT_ENCODER, quality=self.crf, speed=self.preset, pixel_format=self.pixel_format
        )

    @cached_property
    def _destinations(self) -> dict[Source, Destination]:
        return {}

    def _detector(self) -> CutDetector:
        if self.cuts is not None:
            return GivenCuts(read_cuts(self.cuts))
        return SceneDetector() if self.scene_reset else NoCuts()

    def _check_source(self, source: Source) -> None:
        """Raise ConfigError for what a kind of source cannot be given or become."""
        if self.rate_given and source.kind != "folder":
            raise ConfigError(f"--fps is for folders of frames, and {source.path} is none; leave it out")
        if source.kind == "pipe" and not is_for_frames(source, self.output):
            raise ConfigError("frames from a pipe go to a pipe or to a folder; give - or a new folder as --output")

    def _check_effect(self, source: Source, destination: Destination) -> None:
        """Raise ConfigError for an option that would have no effect."""
        if destination.kind == "video":
            return
        single = destination.kind == "picture"
        given = {
            "--dry-run": self.dry_run,
            "--scenes-in-flight": self.scenes_in_flight > 1,
            "--codec": self.codec is not None,
            "--crf": self.crf is not None,
            "--preset": self.preset is not None,
            "--pixel-format": self.pixel_format is not None,
            "--tracks": self.tracks is not None,
            "--no-resume": not self.resume,
            "--keep-partial": self.keep_partial,
            "--skip-existing": self.skip_existing and not single,
            "--start": source.start_s is not None and single,
            "--end": source.end_s is not None and single,
            "--cuts": self.cuts is not None and single,
            "--no-scene-reset": not self.scene_reset and single,
        }
        if useless := [name for name, wanted in given.items() if wanted]:
            other = "" if source.kind == "pipe" else ", or give a video file as --output"
            raise ConfigError(without_effect(useless, f"{WHAT[destination.kind]} as output") + other)
