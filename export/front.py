"""The front doors: export a network, or build an engine of it, with settings as users give them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Literal

from ksnet_deploy.base.errors import BackendError, ConfigError
from ksnet_deploy.base.files import check_new_file
from ksnet_deploy.base.frames import FrameSize, FrameType
from ksnet_deploy.base.machine import has_vnni
from ksnet_deploy.export.engine.compile import OnProgress
from ksnet_deploy.export.engine.make import EngineRequest, MadeEngine, PluginChoice, make_engine
from ksnet_deploy.export.proof.float32 import SequenceReport
from ksnet_deploy.export.proof.half import PSNR_FLOOR_DB, HalfReport
from ksnet_deploy.export.proof.sequence import PROOF_SIZE
from ksnet_deploy.export.static_split import StartsScene, StaticSplit, split_of_clip
from ksnet_deploy.export.verified import VerificationPlan, export_verified
from ksnet_deploy.network.bundled import CLIP, EXPORTED_SUFFIXES, checkpoint_path
from ksnet_deploy.network.checkpoints import load_checkpoint
from ksnet_deploy.network.config import Precision
from ksnet_deploy.runtime.pair import PAIR, named_pair, part_path, step_files
from ksnet_deploy.runtime.tensorrt.target import DEFAULT_SIZE, Flavour, SizeRange

__all__ = ["build_engine", "export_onnx", "frames_to_verify"]


def export_onnx(
    model: str | Path,
    output: Path | str,
    size: FrameSize | str | None = None,
    *,
    dynamic: bool = False,
    io: FrameType = "uint8",
    precision: Precision = "fp32",
    inline: bool = False,
    batch: int = 1,
    record: Path | str | None = None,
    calibrate: Path | str | None = None,
    static_split: Path | str | None = None,
    starts_scene: StartsScene = lambda _frame: False,
    verify_frames: int | None = None,
    overwrite: bool = False,
    on_note: Callable[[str], None] = lambda _sentence: None,
    on_choosing: Callable[[int], None] = lambda _frames: None,
    on_split: Callable[[StaticSplit], None] = lambda _split: None,
    on_plan: Callable[[VerificationPlan], None] = lambda _plan: None,
    on_verify: Callable[[], None] = lambda: None,
    on_frame: Callable[[], None] = lambda: None,
) -> SequenceReport | HalfReport | None:
    """Export a checkpoint to ONNX and prove that it computes what PyTorch computes.

    Args:
        model: a bundled checkpoint's name, or a checkpoint's path.
        output: the ``.onnx`` to write; it appears only when it has passed. Of a bidirectional network it is the name
            of two, ``name.propagate.onnx`` and ``name.refine.onnx``.
        size: of the LR frames, height before width (default: 180x320); with ``dynamic``, of those of the proof
            (default: 72x128).
        dynamic: leave height and width free.
        io: element type of the frames.
        precision: of the convolutions; ``int8`` computes most of them in whole numbers and the rest in float32,
            ``int8-fp16`` those that enlarge, and the rest in half.
        inline: write the custom operators as standard ones, for runtimes that know no ONNX functions.
        batch: frames that the step takes at once, of as many scenes.
        record: the ``.json`` to write recorded steps of the file to, for ``polygraphy run --load-inputs``.
        calibrate: the clip that ``int8`` takes the ranges of its numbers from (default: the bundled one).
        static_split: a clip of LR frames; every frame keeps the channels that the network selects most often there,
            and the file ranks none (default: each frame's channels are selected anew).
        starts_scene: asked of each frame of that clip, in order, whether a scene starts with it (default: none does
            but the first); :class:`ksnet_deploy.upscale.scenes.SceneDetector` has such a method.
        verify_frames: recurrent frames to compare; 0 for none, which gives None (default: 8; 30 in ``int8``).
        overwrite: replace an existing file.
        on_note: told what was assumed, chosen or left out on reading the checkpoint.
        on_choosing: told over how many frames a static split is chosen and compared, each of which ``on_frame`` counts;
            then ``on_split`` what came of it.
        on_plan: told where the file will be verified and what memory that takes, before any work; then ``on_verify``
            when it is exported, and ``on_frame`` after each frame that was compared.

    Raises:
        ConfigError: the model is an exported file, or a clip to calibrate on was given for another precision.
        BackendError: ``int8`` is to be verified on a processor that cannot compute in it.
        KSNetError: the network cannot be loaded or exported, the file cannot be written, or the proof failed.
    """
    if Path(model).suffix.lower() in EXPORTED_SUFFIXES:
        kind = "is an exported file" if Path(model).is_file() else "has the name of an exported file"
        raise ConfigError(
            f"{model} {kind}, and only checkpoints can be exported; give the checkpoint that it was made "
            "of with --model"
        )
    is_int8 = precision.startswith("int8")
    if calibrate is not None and not is_int8:
        raise ConfigError(f"{precision} needs no calibration; leave --calibrate out, or give --precision int8")
    frames = frames_to_verify(precision) if verify_frames is None else verify_frames
    if is_int8 and frames and not has_vnni():
        raise BackendError(
            f"{precision} cannot be verified on this processor, which has no instructions for sums of bytes (VNNI); "
            "leave --precision out, or export without a proof by --verify-frames 0"
        )
    path = Path(output)
    frame_size = _size(size) if size else PROOF_SIZE if dynamic else FrameSize.parse(DEFAULT_SIZE)
    check_new_file(path, ".onnx", overwrite=overwrite)
    if record is not None:
        check_new_file(Path(record), ".json", overwrite=overwrite)
    checkpoint = load_checkpoint(checkpoint_path(str(model)))
    for file in step_files(path, checkpoint.config).values():
        check_new_file(file, ".onnx", overwrite=overwrite)
    for note in checkpoint.notes:
        on_note(note)
    split = None
    if static_split is not None:
        split = split_of_clip(
            checkpoint.model, Path(static_split), starts_scene, on_begin=on_choosing, on_frame=on_frame
        )
        on_split(split)
    report = export_verified(
        checkpoint,
        path,
        frame_size,
        dynamic=dynamic,
        io=io,
        precision=precision,
        inline=inline,
        batch=batch,
        record=None if record is None else Path(record),
        frames=frames,
        calibrate=CLIP if calibrate is None else Path(calibrate),
        split=split,
        on_plan=on_plan,
        on_verify=on_verify,
        on_frame=on_frame,
    )
    if len(checkpoint.config.steps) > 1:  # else an older file would be taken for the two
        path.unlink(missing_ok=True)
    return report


def frames_to_verify(precision: Precision) -> int:
    """Recurrent frames that an exported file of a precision is compared over, unless told otherwise."""
    return 30 if precision.startswith("int8") else 8


def build_engine(
    model: str | Path,
    output: Path | str | None = None,
    size: FrameSize | str | tuple[FrameSize | str, FrameSize | str, FrameSize | str] | SizeRange = DEFAULT_SIZE,
    *,
    precision: Precision = "fp16",
    gpu: str | None = None,
    runtime: Flavour | Literal["auto"] = "auto",
    plugins: PluginChoice = "auto",
    effort: int | None = None,
    batch: int = 1,
    compare: bool = False,
    verify_frames: int = 30,
    least_psnr_db: float = PSNR_FLOOR_DB,
    overwrite: bool = False,
    say: Callable[[str], None] = lambda _line: None,
    on_verify: Callable[[int], None] = lambda _frames: None,
    on_frame: Callable[[], None] = lambda: None,
    on_progress: OnProgress = lambda _phase, _done, _total: None,
) -> MadeEngine:
    """Build a TensorRT engine and compare it with float32; with TensorRT-RTX also for a GPU that is not here.

    Args:
        model: a bundled checkpoint's name, a checkpoint's path, or an exported ``.onnx`` of the precision.
        output: the ``.engine`` to write, with its ``.json`` beside it (default: in the cache); two, named as of
            :func:`export_onnx`, for a bidirectional network.
        size: of the LR frames; or the least, the best and the largest of an engine for many.
        precision: of the convolutions.
        gpu: name or architecture, such as ``rtx3080`` or ``sm86`` (default: this machine's).
        runtime: ``rtx``, which can build for another machine's GPU, or ``tensorrt`` (default: what is installed).
        plugins: ``on``, ``off``, or ``auto`` for the native plugins where they are built.
        effort: builder optimization level of full TensorRT, 0 to 5 (default: TensorRT's own).
        batch: frames that a step takes at once, of as many scenes.
        compare: compare each output over recorded states too.
        verify_frames: recurrent frames to compare; 0 for none.
        least_psnr_db: of every frame; an engine below it is there all the same, and its sidecar's ``fault`` says so.
        overwrite: replace an existing engine.
        say: told what is done.
        on_verify: told the number of frames before each comparison; then ``on_frame`` after each frame.
        on_progress: told a phase of the build, and how many of its steps are done.

    Raises:
        KSNetError: it cannot be built here, or the comparison failed.
    """
    if precision.startswith("int8"):
        raise ConfigError(f"{precision} is for CPUs; build an engine in fp16, which GPUs are fastest in, or in fp32")
    path = None if output is None else Path(output)
    source = named_pair(Path(model)) if str(model).endswith(".onnx") else checkpoint_path(str(model))
    if path is not None:
        check_new_file(path, ".engine", overwrite=overwrite)
        for step in PAIR:
            check_new_file(part_path(path, step), ".engine", overwrite=overwrite)
    request = EngineRequest(
        source=source,
        sizes=_sizes(size),
        precision=precision,
        flavour=runtime,
        gpu=gpu,
        plugins=plugins,
        output=path,
        verify_frames=verify_frames,
        least_psnr_db=least_psnr_db,
        model=str(model),
        effort=effort,
        batch=batch,
        compare=compare,
    )
    made = make_engine(request, say=say, on_verify=on_verify, on_frame=on_frame, on_progress=on_progress)
    if len(made.sidecars) > 1:  # else an older engine would be taken for the two
        made.path.unlink(missing_ok=True)
    return made


def _sizes(size: FrameSize | str | tuple[FrameSize | str, ...] | SizeRange) -> SizeRange:
    if isinstance(size, SizeRange):
        return size
    sizes = tuple(map(_size, size)) if isinstance(size, tuple) else (_size(size),) * 3
    if len(sizes) != 3:
        raise ConfigError(f"{len(sizes)} sizes were given; give one, or the least, the best and the largest")
    return SizeRange(*sizes)


def _size(size: FrameSize | str) -> FrameSize:
    return size if isinstance(size, FrameSize) else FrameSize.parse(size)
