"""Export with its proof: a file that appears only when it has passed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from ksnet_deploy.base.errors import ConfigError
from ksnet_deploy.base.files import check_place, replacing, writing
from ksnet_deploy.base.frames import FrameSize, FrameType
from ksnet_deploy.export.memory import export_bytes, fits, in_gigabytes, verification_bytes
from ksnet_deploy.export.onnx import DYNAMIC_TRACE_SIZE, WRITABLE, exported_models, save_models
from ksnet_deploy.export.polygraphy import check_polygraphy
from ksnet_deploy.export.proof.explanation import explained, named_outputs, named_outputs_of_pair
from ksnet_deploy.export.proof.float32 import FLOAT32_TIE_GAP, SequenceReport, verify_onnx
from ksnet_deploy.export.proof.half import HALF_TIE_GAP, PSNR_FLOOR_DB, HalfReport, proof_runner, verify_half
from ksnet_deploy.export.proof.near_ties import RetakingRunner
from ksnet_deploy.export.proof.pair import compare_halves, compare_pairs
from ksnet_deploy.export.proof.recording import write_steps
from ksnet_deploy.export.proof.sequence import check_frames, proof_size
from ksnet_deploy.export.static_split import StaticSplit
from ksnet_deploy.network.bundled import CLIP
from ksnet_deploy.network.checkpoints import Checkpoint
from ksnet_deploy.network.config import KSNetConfig, Precision, StepName
from ksnet_deploy.network.model import KSNet
from ksnet_deploy.runtime.base import Runner
from ksnet_deploy.runtime.onnx import OnnxRunner
from ksnet_deploy.runtime.pair import step_files
from ksnet_deploy.runtime.step_file import frame_type, load_exported

__all__ = ["VerificationPlan", "export_verified", "float32_runner", "plan_verification", "verify"]


@dataclass(frozen=True)
class VerificationPlan:
    """Size that a file is verified at, and what memory that takes."""

    size: FrameSize
    """Size of the frames that are compared."""
    memory_bytes: int
    """Peak of the export and the verification, as estimated."""
    wanted_bytes: int | None = None
    """Bytes that the size that was asked for would have taken; None where that is the size."""

    @property
    def in_words(self) -> str:
        """Sentence for the user, before the work."""
        if self.wanted_bytes is None:
            return f"This takes about {in_gigabytes(self.memory_bytes)} of memory."
        return (
            f"To verify at the size of the file would take about {in_gigabytes(self.wanted_bytes)} of memory, which is "
            f"not free here; so the network is exported for {self.size} too, and that file is verified. This takes "
            f"about {in_gigabytes(self.memory_bytes)}."
        )


def plan_verification(
    config: KSNetConfig, size: FrameSize, *, dynamic: bool, precision: Precision, frames: int, batch: int = 1
) -> VerificationPlan:
    """The size that a file for frames of a size is verified at: that size, or a small one where it does not fit.

    What memory the export itself takes is looked at by :func:`ksnet_deploy.export.onnx.exported_model`.
    """
    exporting = export_bytes(config, DYNAMIC_TRACE_SIZE if dynamic else size, batch)
    if not frames:
        return VerificationPlan(size, exporting)
    wanted = verification_bytes(config, size, precision, batch)
    small = proof_size(size)
    if precision.startswith("int8"):  # of which many frames are compared
        return VerificationPlan(small, max(exporting, verification_bytes(config, small, precision, batch)))
    if fits(wanted) or small == size:
        return VerificationPlan(size, max(exporting, wanted))
    return VerificationPlan(small, max(exporting, verification_bytes(config, small, precision, batch)), wanted)


def export_verified(
    checkpoint: Checkpoint,
    path: Path,
    size: FrameSize,
    *,
    dynamic: bool,
    io: FrameType,
    precision: Precision,
    frames: int,
    calibrate: Path = CLIP,
    split: StaticSplit | None = None,
    inline: bool = False,
    batch: int = 1,
    record: Path | None = None,
    on_plan: Callable[[VerificationPlan], None] = lambda _plan: None,
    on_verify: Callable[[], None] = lambda: None,
    on_frame: Callable[[], None] = lambda: None,
) -> SequenceReport | HalfReport | None:
    """Export a checkpoint and verify the file against PyTorch in float32.

    Where the memory is too small to verify a file at its size, the network exported in the same way for a small size is
    verified in its place; the report says at which size. Unfinished files of killed exports to this name are removed.

    Args:
        path: of the file, or the name of the two files of a bidirectional network.
        size: of the frames; with ``dynamic``, of those of the verification only.
        frames: to verify over; 0 for none, which gives None.
        calibrate: the clip that ``int8`` is calibrated on.
        split: the channels that every frame keeps, in the file and in what it is compared with; None to choose them
            anew for each frame.
        inline, batch: as for :func:`ksnet_deploy.export.onnx.exported_model`.
        record: the JSON to write recorded steps of the file to, for Polygraphy's ``--load-inputs``; None for none.
        on_plan: told where the file will be verified and what memory that takes, before any work.
        on_verify: called when the export is done.

    Raises:
        KSNetError: the export or the verification failed, or needs more memory than there is. An older file of the name
            is still there.
    """
    files = step_files(path, checkpoint.config)
    for file in files.values():
        check_place(file)
    if record is not None:
        check_polygraphy()
        if len(files) > 1 or batch > 1:
            why = "of one frame" if batch > 1 else f"of networks that have one, and {checkpoint.path.name} has two"
            raise ConfigError(f"steps are recorded {why}; leave --record out{' or --batch' * (batch > 1)}")
        check_place(record)
    if frames:
        check_frames(frames)
    plan = plan_verification(checkpoint.config, size, dynamic=dynamic, precision=precision, frames=frames, batch=batch)

    def export(targets: Mapping[StepName, Path], target_size: FrameSize) -> None:
        exported_size = None if dynamic else target_size
        models = exported_models(
            checkpoint,
            size=exported_size,
            io=io,
            precision=precision,
            inline=inline,
            batch=batch,
            calibrate=calibrate,
            split=split,
        )
        save_models(models, targets)

    with ExitStack() as writing:
        temporary = {step: writing.enter_context(replacing(file)) for step, file in files.items()}
        for step, file in files.items():
            _check_writable(temporary[step], file)
        on_plan(plan)
        export(temporary, size)
        verified = temporary
        small = {step: file.with_name(f"{file.name}.small.onnx") for step, file in temporary.items()}
        try:
            if frames and plan.size != size and not dynamic:
                verified = small
                export(small, plan.size)
            on_verify()
            report = None
            if frames:
                model = checkpoint.model if split is None else split.model
                report = verify(model, verified, plan.size, precision=precision, frames=frames, on_frame=on_frame)
            if record is not None:
                with replacing(record) as steps:
                    write_steps(temporary["step"], size, steps)
            return report
        finally:
            for file in small.values():
                file.unlink(missing_ok=True)


def _check_writable(temporary: Path, path: Path) -> None:
    """Find out now what would else come out after the export."""
    with writing(path, WRITABLE):
        temporary.touch()


def verify(
    model: KSNet,
    path: Path | Mapping[StepName, Path],
    size: FrameSize,
    *,
    precision: Precision,
    frames: int,
    least_psnr_db: float = PSNR_FLOOR_DB,
    on_frame: Callable[[], None] = lambda: None,
) -> SequenceReport | HalfReport:
    """Compare an exported file with the float32 network by the measure of its precision.

    ``path`` is the file, the name of a pair, or the file of each step. ``least_psnr_db`` is for half precision.

    Raises:
        ConfigError: there are too few frames.
        VerificationError: it is not near enough.
    """
    files = step_files(path, model.config) if isinstance(path, Path) else path
    if len(files) > 1:
        return _verify_pair(model, files, size, precision, frames, least_psnr_db, on_frame)
    path = files["step"]
    sides = lambda: float32_runner(model, path, size), lambda: proof_runner(path, size, precision), precision
    with explained(lambda: named_outputs(*sides)):
        if precision == "fp32":
            return verify_onnx(model, path, size, frames=frames, on_frame=on_frame)
        return verify_half(
            *(model, path, size), precision=precision, frames=frames, least_psnr_db=least_psnr_db, on_frame=on_frame
        )


def _verify_pair(
    model: KSNet,
    files: Mapping[StepName, Path],
    size: FrameSize,
    precision: Precision,
    frames: int,
    least_psnr_db: float,
    on_frame: Callable[[], None],
) -> SequenceReport | HalfReport:
    check_frames(frames)
    gap = FLOAT32_TIE_GAP if precision == "fp32" else HALF_TIE_GAP

    def reference(step: StepName) -> RetakingRunner:
        return float32_runner(model, files[step], size, step, gap)

    def candidate(step: StepName) -> Runner:
        return proof_runner(files[step], size, precision)

    with explained(lambda: named_outputs_of_pair(reference, candidate, precision)):
        if precision != "fp32":
            return compare_halves(reference, candidate, frames, least_psnr_db=least_psnr_db, on_frame=on_frame)
        # As verify_onnx: with the function bodies of the files, then as they are run.
        compare_pairs(reference, lambda step: OnnxRunner(files[step], size, rewrite=lambda _model: None), 2)
        return compare_pairs(reference, candidate, frames, on_frame=on_frame)


def float32_runner(
    model: KSNet, path: Path, size: FrameSize, step: StepName = "step", gap: float = HALF_TIE_GAP
) -> RetakingRunner:
    """A step of the network as it was trained, in float32, with the frame type of an exported file."""
    return RetakingRunner(model, size, io=frame_type(path, load_exported(path)), gap=gap, step=step)
