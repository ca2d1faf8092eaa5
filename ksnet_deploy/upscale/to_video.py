"""One video, from file to file: decode, upscale, encode, with the other tracks copied; a job that can go on.

The three run at the same time (``stages.py``). The encoded frames go to disk in segments (``job.py``), and when
the last is there the output file is put together from them, checked, and given its name.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from ksnet_deploy.base.errors import InputError
from ksnet_deploy.base.frames import FrameSize
from ksnet_deploy.base.words import counted
from ksnet_deploy.upscale.job import Job
from ksnet_deploy.upscale.lanes import LaneStage
from ksnet_deploy.upscale.network_stage import NetworkStage
from ksnet_deploy.upscale.output import OutputFile
from ksnet_deploy.upscale.plan import FramePlan, Planned
from ksnet_deploy.upscale.precision import precision_used
from ksnet_deploy.upscale.prepare import Means, frame_dtype, prepare, tell_windows
from ksnet_deploy.upscale.result import Events, UpscaleResult, notes_on
from ksnet_deploy.upscale.segments import SegmentEncoder, Upscaled
from ksnet_deploy.upscale.side_by_side import most_waiting
from ksnet_deploy.upscale.stages import StageTimes, run_stages
from ksnet_deploy.upscale.upscaler import Upscaler
from ksnet_deploy.upscale.values import TileChoice
from ksnet_deploy.upscale.work import Work
from ksnet_deploy.video.reading.reader import VideoReader
from ksnet_deploy.video.writing.encoding import PictureFormat

__all__ = ["Course", "Done", "write_video", "write_video_by"]


@dataclass(frozen=True)
class Course:
    """A video on its way, all checks behind it: what is to be done between its frames and the segments of its job."""

    work: Work
    reader: VideoReader
    picture: PictureFormat
    frames: Iterator[Planned]
    """Frames that are still to be upscaled."""
    resumed: int
    """Number of those that were upscaled by an earlier run."""
    job: Job
    events: Events

    @property
    def tiles(self) -> TileChoice | None:
        """The tiles that the job was begun in, ``off`` for whole frames; None where it begins now."""
        segments = self.job.segments
        return (FrameSize.parse(segments[-1].tiles) if segments[-1].tiles else "off") if segments else None

    def begin(self) -> None:
        """Tell that the first frame is on its way."""
        self.events.on_start(self.reader.size, self.reader.estimated_frames, self.resumed)


@dataclass(frozen=True)
class Done:
    """Times and counts of a video whose segments are complete."""

    times: StageTimes
    steps: int
    step_s: float
    tiles: str | None
    io: str
    """Type of the frames that the network took."""
    notes: tuple[str, ...] = ()
    """Notes for a user, one sentence each."""


def write_video(work: Work, upscaler: Upscaler, events: Events) -> UpscaleResult:
    """Upscale a video to a file; see :func:`ksnet_deploy.upscale.run.upscale_video`.

    The upscaler is a new one, and is closed in the end.
    """
    with upscaler:
        return write_video_by(work, upscaler, lambda course: _upscale_here(course, upscaler), events)


def write_video_by(work: Work, means: Means, upscale: Callable[[Course], Done], events: Events) -> UpscaleResult:
    """Upscale a video to a file by means of ``upscale``, which adds all segments that lack to the job."""
    target = work.destination.path
    with VideoReader(work.source) as reader:
        prepared = prepare(reader, work, means)
        picture, output = prepared.picture, prepared.output
        with Job(target, prepared.identity, resume=work.resume) as job:
            resumed = job.frames
            plan = FramePlan(work.detector, reader.time_base, prepared.segment, window=means.windows.frames)
            remaining = job.remaining(plan.of(prepared.frames))
            try:
                done = upscale(Course(work, reader, picture, remaining, resumed, job, events))
                output.assemble(job, target, overwrite=work.overwrite)
            except BaseException as error:
                _leave(error, work, job, output, events)
                raise
            notes = [*notes_on(reader, picture.depth, done.io), *prepared.notes, *done.notes]
            if count := output.damaged_packets:
                what = counted(count, "packet of other tracks was", "packets of other tracks were")
                notes.append(f"{what} left out: damaged, or with a time before the last one's.")
            lost = reader.frames_lost
            job.discard()
    return UpscaleResult(
        target=target,
        size=picture.size,
        frames_lost=lost,
        resumed_frames=resumed,
        steps=done.steps,
        step_s=done.step_s,
        tiles=done.tiles,
        times=done.times,
        pixel_format=picture.pixel_format,
        notes=notes,
        tracks=output.tracks,
        precision=precision_used(prepared.identity, tiled=done.tiles is not None),
        **plan.summary(),
    )


def _upscale_here(course: Course, upscaler: Upscaler) -> Done:
    """Upscale in this process, and keep what is finished of the last segment where that is wanted."""
    work, reader, job = course.work, course.reader, course.job
    if course.tiles is not None:
        upscaler.keep_tiles(course.tiles)
    runner = upscaler.open(reader.size, frame_dtype(reader))
    tell_windows(reader, upscaler.network, upscaler.windows, course.events, upscaler.tiling)
    scenes, events = upscaler.scenes_in_flight, course.events
    waiting = most_waiting(scenes)
    if scenes > 1:
        events.on_note(f"{scenes} scenes go side by side; frames that wait take {waiting / 1e6:,.0f} MB at most.")
    network = LaneStage(upscaler, events, waiting) if scenes > 1 else NetworkStage(upscaler, events)
    course.begin()
    lanes = [SegmentEncoder(work.encoder, course.picture, upscaler) for _ in range(scenes)]

    def take(upscaled: Upscaled) -> None:
        lane = lanes[upscaled.lane]
        for segment in (lane.take(upscaled), lane.end() if upscaled.ends_chain else None):
            if segment is not None:
                job.add(segment)

    def finish() -> None:
        for segment in filter(None, [lane.end() for lane in lanes]):
            job.add(segment)

    def finish_provisionally() -> None:
        follows = job.beginning[-1].end if job.beginning else 0
        for segment in filter(None, [lane.end() for lane in lanes]):
            if segment.first == follows:
                job.add(segment, provisional=True)

    try:
        times = run_stages(course.frames, network, take, flush=network.flush, finish=finish)
    except (KeyboardInterrupt, SystemExit, InputError):
        if work.keep_partial:
            finish_provisionally()
        raise
    notes = tuple(network.notes()) if isinstance(network, LaneStage) else ()
    return Done(times=times, io=runner.io, notes=notes, **upscaler.summary())


def _leave(error: BaseException, work: Work, job: Job, output: OutputFile, events: Events) -> None:
    """Keep what is finished, where that is wanted, and throw away the rest."""
    if work.keep_partial and isinstance(error, KeyboardInterrupt | SystemExit | InputError) and job.beginning:
        frames = sum(segment.frames for segment in job.beginning)
        finished = counted(frames, "frame is finished; it is", "frames are finished; they are")
        events.on_note(f"{finished} in {output.assemble_partial(job)}.")
    job.drop_provisional()
    if work.resume and job.segments:
        goes_on = "finished; the same command goes on after"
        events.on_note(f"{counted(job.frames, f'frame is {goes_on} it', f'frames are {goes_on} them')}.")
    else:  # nothing that is worth keeping, or not wanted
        job.discard()
