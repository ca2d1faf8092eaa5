"""One video, from file to file: decode, upscale, encode, with the other tracks copied; a job that can go on.

The three run at the same time (``stages.py``). The encoded frames go to disk in segments (``job.py``), and when
the last is there the output file is put together from them, checked, and given its name.
"""

from __future__ import annotations

from ksnet_deploy.base.errors import InputError
from ksnet_deploy.base.frames import FrameSize
from ksnet_deploy.base.words import counted
from ksnet_deploy.runtime.base import SavedState
from ksnet_deploy.upscale.job import Job
from ksnet_deploy.upscale.network_stage import NetworkStage, Upscaled
from ksnet_deploy.upscale.output import OutputFile
from ksnet_deploy.upscale.plan import FramePlan
from ksnet_deploy.upscale.prepare import frame_dtype, prepare, tell_windows
from ksnet_deploy.upscale.result import Events, UpscaleResult, notes_on
from ksnet_deploy.upscale.stages import run_stages
from ksnet_deploy.upscale.upscaler import Upscaler
from ksnet_deploy.upscale.work import Work
from ksnet_deploy.video.reading.reader import VideoReader
from ksnet_deploy.video.writing.encoder import Encoder
from ksnet_deploy.video.writing.encoding import EncodedPacket, FrameEncoder, PictureFormat

__all__ = ["write_video"]


def write_video(work: Work, upscaler: Upscaler, events: Events) -> UpscaleResult:
    """Upscale a video to a file; see :func:`ksnet_deploy.upscale.run.upscale_video`.

    The upscaler is a new one, and is closed in the end.
    """
    target = work.destination.path
    with VideoReader(work.source) as reader, upscaler:
        prepared = prepare(reader, work, upscaler)
        picture, output = prepared.picture, prepared.output
        with Job(target, prepared.identity, resume=work.resume) as job:
            done, sink = job.frames, _SegmentSink(job, work.encoder, picture, upscaler)
            try:
                if done:  # in the tiles, or none, that it was begun with
                    tiles = job.segments[-1].tiles
                    upscaler.keep_tiles(FrameSize.parse(tiles) if tiles else "off")
                runner = upscaler.open(reader.size, frame_dtype(reader))
                tell_windows(reader, upscaler, events)
                events.on_start(reader.size, reader.estimated_frames, done)
                plan = FramePlan(work.detector, reader.time_base, prepared.segment, window=upscaler.windows.frames)
                network = NetworkStage(upscaler, job.state() if done else {}, events)
                times = run_stages(
                    plan.of(prepared.frames, done),
                    network,
                    sink.take,
                    flush=network.flush,
                    finish=sink.end,
                )
                output.assemble(job, target, overwrite=work.overwrite)
            except BaseException as error:
                _leave(error, work, job, sink, output, events)
                raise
            notes = notes_on(reader, picture.depth, runner.io) + prepared.notes
            if count := output.damaged_packets:
                what = counted(count, "packet of other tracks was", "packets of other tracks were")
                notes.append(f"{what} left out: damaged, or with a time before the last one's.")
            lost = reader.frames_lost
            job.discard()
    return UpscaleResult(
        target=target,
        size=picture.size,
        frames_lost=lost,
        resumed_frames=done,
        times=times,
        pixel_format=picture.pixel_format,
        notes=notes,
        tracks=output.tracks,
        **(plan.summary() | upscaler.summary()),
    )


def _leave(error: BaseException, work: Work, job: Job, sink: _SegmentSink, output: OutputFile, events: Events) -> None:
    """Keep what is finished, where that is wanted, and throw away the rest."""
    if work.keep_partial and isinstance(error, KeyboardInterrupt | SystemExit | InputError):
        _keep_partial(job, sink, output, events)
    if work.resume and job.segments:
        finished = counted(job.frames, "frame is", "frames are")
        events.on_note(f"{finished} finished; the same command goes on after {'it' if job.frames == 1 else 'them'}.")
    else:  # nothing that is worth keeping, or not wanted
        job.discard()


class _SegmentSink:
    """The last stage: frames into encoded segments on disk."""

    def __init__(self, job: Job, encoder: Encoder, picture: PictureFormat, upscaler: Upscaler) -> None:
        self._job, self._given_encoder, self._picture, self._upscaler = job, encoder, picture, upscaler
        self._encoder: FrameEncoder | None = None
        self._packets: list[EncodedPacket] = []
        self._frames: list[tuple[int, int]] = []

    def take(self, upscaled: Upscaled) -> None:
        if upscaled.state_before is not None:
            self._close(upscaled.state_before)
        if self._encoder is None:
            self._encoder = FrameEncoder(self._given_encoder, self._picture)
        self._packets += self._encoder.encode(upscaled.frame)
        self._frames.append((upscaled.frame.pts, upscaled.frame.duration))

    def end(self, *, provisional: bool = False) -> None:
        """Close the last segment; a provisional one is not in the journal."""
        self._close({}, provisional=provisional)

    def _close(self, state: SavedState, *, provisional: bool = False) -> None:
        if self._encoder is None:
            return
        self._packets += self._encoder.finish()
        pts, durations = (list(column) for column in zip(*self._frames, strict=True))
        tile = str(self._upscaler.tiling.tile) if self._upscaler.tiling else None
        self._job.add(self._packets, pts, durations, self._encoder.header, state, tile, provisional=provisional)
        self._encoder, self._packets, self._frames = None, [], []


def _keep_partial(job: Job, sink: _SegmentSink, output: OutputFile, events: Events) -> None:
    """Make a file of what is finished; the job itself stays as it is."""
    sink.end(provisional=True)
    if job.segments:
        finished = counted(job.frames, "frame is finished; it is", "frames are finished; they are")
        events.on_note(f"{finished} in {output.assemble_partial(job)}.")
    job.drop_provisional()
