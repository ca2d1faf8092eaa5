"""The proofs of an engine: on its own GPU or, where that is not at hand, of the file that it is built from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ksnet_deploy.base.files import sha256_of
from ksnet_deploy.base.frames import FrameSize
from ksnet_deploy.base.sealed import read_sealed, write_sealed
from ksnet_deploy.base.words import counted
from ksnet_deploy.export.cache import cached_onnx, check_cache_place, using_cache
from ksnet_deploy.export.memory import check_memory, verification_bytes
from ksnet_deploy.export.proof.explanation import explained, named_outputs
from ksnet_deploy.export.proof.half import PSNR_FLOOR_DB, compare_runners
from ksnet_deploy.export.proof.pair import compare_halves
from ksnet_deploy.export.proof.sequence import proof_frames, proof_size, reset_before
from ksnet_deploy.network.config import Precision, StepName
from ksnet_deploy.runtime.base import Runner
from ksnet_deploy.runtime.lanes import as_one
from ksnet_deploy.runtime.pair import PAIR, files_of

__all__ = ["proof_of_export", "proof_on_gpu"]


def proof_on_gpu(
    source: Path,
    onnx: Path,
    engines: Sequence[Path],
    size: FrameSize,
    frames: int,
    on_frame: Callable[[], None],
    least_psnr_db: float = PSNR_FLOOR_DB,
) -> dict[str, Any]:
    """The engine itself, or those of both steps of a network, against the checkpoint in float32 or, where they were
    built from one, the exported file."""
    from ksnet_deploy.export.engine.compare import precision_of
    from ksnet_deploy.export.verified import float32_runner
    from ksnet_deploy.network.checkpoints import load_checkpoint
    from ksnet_deploy.runtime.onnx import OnnxRunner
    from ksnet_deploy.runtime.tensorrt.runner import TensorRTRunner

    if source != onnx:
        model = load_checkpoint(source).model
        check_memory(
            f"to compare the engine with float32 at {size}",
            verification_bytes(model.config, size, "fp32"),
            "give a smaller size, or leave the comparison out with --verify-frames 0",
        )

    parts = files_of(onnx)
    against = "the exported file in ONNX Runtime" if source == onnx else "float32"
    if len(parts) > 1:
        files = dict(zip(PAIR, parts, strict=True))
        of_step = dict(zip(PAIR, engines, strict=True))

        def open_step(step: StepName) -> Runner:
            return OnnxRunner(files[step], size) if source == onnx else float32_runner(model, files[step], size, step)

        pair = compare_halves(
            *(open_step, lambda step: TensorRTRunner(of_step[step], size), frames),
            least_psnr_db=least_psnr_db,
            refuse=False,
            on_frame=on_frame,
        )
        return {"what": "the engines on the GPU", "against": against, **pair.as_dict()}
    (engine,) = engines

    def open_reference() -> Runner:
        return as_one(OnnxRunner(onnx, size)) if source == onnx else float32_runner(model, onnx, size)

    sides = open_reference, lambda: as_one(TensorRTRunner(engine, size)), precision_of(onnx)
    with (
        explained(lambda: named_outputs(*sides)),
        as_one(TensorRTRunner(engine, size)) as candidate,
        open_reference() as reference,
    ):
        images, reset_at = proof_frames(candidate, frames), reset_before(frames)
        report = compare_runners(
            *(reference, candidate, images),
            reset_at=reset_at,
            least_psnr_db=least_psnr_db,
            refuse=False,
            on_frame=on_frame,
        )
    if report.faults:
        report.faults.append(named_outputs(*sides))
    return {"what": "the engine on the GPU", "against": against, **report.as_dict()}


def proof_of_export(
    source: Path,
    size: FrameSize,
    precision: Precision,
    batch: int,
    frames: int,
    say: Callable[[str], None],
    on_verify: Callable[[int], None],
    on_frame: Callable[[], None],
    least_psnr_db: float = PSNR_FLOOR_DB,
) -> dict[str, Any]:
    """The comparison of a checkpoint's export, at a size of its own, with float32; made once, and kept beside it."""
    size = proof_size(size)
    onnx = cached_onnx(
        source,
        size,
        precision=precision,
        batch=batch,
        on_export=lambda: say(f"Exporting for frames of {size}, once."),
        on_note=say,
    )
    path = onnx.with_suffix(".proof.json")
    check_cache_place(path)
    digest = " ".join(map(sha256_of, files_of(onnx)))
    known = _known_proof(path, digest, say)
    enough = precision == "fp32" or (known or {}).get("least_psnr_db", 0) >= least_psnr_db
    if known is not None and known["frames"] >= frames and enough:
        return known
    from ksnet_deploy.export.verified import verify
    from ksnet_deploy.network.checkpoints import load_checkpoint

    say(f"Comparing the exported network with float32 over {counted(frames, 'frame')} of {size}, once.")
    on_verify(frames)
    model = load_checkpoint(source).model
    report = verify(
        *(model, onnx, size),
        precision=precision,
        frames=frames,
        least_psnr_db=least_psnr_db,
        on_frame=on_frame,
    )
    proof = {"what": f"the network exported for {size}, in ONNX Runtime", "against": "float32", **report.as_dict()}
    with using_cache():
        write_sealed(path, {"onnx_sha256": digest, "proof": proof})
    return proof


def _known_proof(path: Path, onnx_sha256: str, say: Callable[[str], None]) -> dict[str, Any] | None:
    """A comparison in the cache; None where there is none of this file, or it is damaged."""
    try:
        with using_cache():
            if not path.exists():
                return None
            values = read_sealed(path)
        proof: dict[str, Any] = values["proof"]
        fault = None if values["onnx_sha256"] == onnx_sha256 else "it is of another file"
    except (ValueError, KeyError) as error:
        fault = f"it is damaged: {error}"
    if fault is None:
        return proof
    say(f"The cached comparison {path} is not believed ({fault}); it is made anew.")
    return None
