"""The front door: evaluate a network on clips, with settings as users give them."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal, cast, get_args

from ksnet_deploy.base.errors import ConfigError
from ksnet_deploy.measure.degradation import ClipDegradation
from ksnet_deploy.measure.evaluation import BicubicMethod, EvaluationReport, Method, NetworkMethod
from ksnet_deploy.measure.evaluation import evaluate as evaluate_method
from ksnet_deploy.measure.memory import Held, plan_evaluation
from ksnet_deploy.measure.protocols import PROTOCOLS, pairs
from ksnet_deploy.measure.warping import WarpingError
from ksnet_deploy.network.bundled import bundled_checkpoint
from ksnet_deploy.upscale.ladder import Choices, find_fastest, this_machine
from ksnet_deploy.upscale.networks import default_model
from ksnet_deploy.upscale.precision import check_choice
from ksnet_deploy.upscale.upscaler import Upscaler
from ksnet_deploy.upscale.values import TileChoice, parse_tiles

if TYPE_CHECKING:
    from ksnet_deploy.video.compression import CodecName

__all__ = ["evaluate"]

MethodKind = Literal["network", "bicubic"]
Space = Literal["y", "rgb"]


def evaluate(
    hr: Path | str,
    model: Path | str | None = None,
    *,
    lr: Path | str | None = None,
    protocol: str = "folder",
    method: MethodKind = "network",
    runtime: str | None = None,
    device: str | None = None,
    backend: str | None = None,
    precision: str | None = None,
    tiles: TileChoice | str = "auto",
    degradation: ClipDegradation = "BI",
    codec: str | None = None,
    crf: int | None = None,
    space: Space | None = None,
    crop: bool = False,
    warping: bool = False,
    on_note: Callable[[str], None] = lambda _sentence: None,
    on_memory: Callable[[int], None] = lambda _bytes: None,
    on_begin: Callable[[int, int], None] = lambda _clips, _frames: None,
    on_frame: Callable[[], None] = lambda: None,
) -> EvaluationReport:
    """Measure PSNR and SSIM by the field's protocols.

    Args:
        hr: HR clips: folders of frames, videos or shards, or a folder of these.
        model: a bundled network's name or a file (default: lite on a CPU, uni on a GPU).
        lr: LR clips of the same names (default: made from HR).
        protocol: ``folder``, ``vid4``, ``reds4`` or ``vimeo90k``.
        method: what enlarges the frames.
        runtime, device, backend, precision, tiles: as :class:`ksnet_deploy.Upscaler` takes them.
        degradation: how LR is made, ``BI``, ``BD`` or ``video``: a reduction, noise and an encoder that are drawn for
            each clip, as ``pack`` draws its first version.
        codec, crf: encoder that LR goes through first, and its quality. Where LR is encoded, so or by ``video``,
            bicubic of the same input stands beside.
        space: ``y`` or ``rgb`` (default: the protocol's).
        crop: leave out rows and columns that 4 does not divide.
        warping: measure temporal consistency too, which is slow.
        on_note: told what a user should know: which clips were taken, an export, tiles.
        on_memory: told the bytes of memory that this takes, as estimated, before the first frame; not on a GPU.
        on_begin: told the numbers of clips and of frames that will be enlarged, then ``on_frame`` after each of those.

    Raises:
        KSNetError: there is no such protocol, method, degradation, space, network, codec or quality, the memory is too
            small, or a clip cannot be read.
    """
    if protocol not in PROTOCOLS:
        raise ConfigError(f"there is no protocol '{protocol}'; give {', '.join(PROTOCOLS)}")
    check_choice("method", method, get_args(MethodKind))
    check_choice("degradation to measure", degradation, get_args(ClipDegradation))
    check_choice("space", space, get_args(Space))
    if crf is not None and codec is None:
        raise ConfigError(f"a quality of {crf} needs to know of which codec; add --codec h264, or leave it out")
    if lr is not None and degradation != "BI":
        raise ConfigError(f"LR is given by --lr, so --degradation {degradation} has no effect; leave one of them out")
    if codec is not None and degradation == "video":
        raise ConfigError(
            f"--degradation video draws an encoder for each clip, so --codec {codec} has no effect; leave one of them "
            "out"
        )
    tile_choice, choices = parse_tiles(tiles), Choices.of(runtime, device, backend, precision)
    if method == "bicubic":
        named = {"--model": model, "--runtime": runtime or backend, "--device": device, "--precision": precision}
        given = {**named, "--tiles": None if tile_choice == "auto" else tiles}
        if useless := [name for name, value in given.items() if value is not None]:
            raise ConfigError(f"bicubic has no network, so leave {' and '.join(useless)} out, or --method bicubic")
    chosen = default_model(choices.settled_device(this_machine())) if model is None else str(model)
    compression = None
    if codec is not None:
        from ksnet_deploy.video.compression import CODECS, Compression  # needs PyAV, which shards do without
        from ksnet_deploy.video.writing.presets import ALIASES

        name = ALIASES.get(codec, codec)
        if name not in CODECS:
            raise ConfigError(f"there is no codec '{codec}' to put LR through; give {', '.join(CODECS)}")
        compression = Compression.usual(cast("CodecName", name), crf)
    # Before the clips, which may be many.
    network = find_fastest(chosen, choices) if method == "network" else None
    clips = pairs(Path(hr), None if lr is None else Path(lr), PROTOCOLS[protocol], mod_crop=crop, on_note=on_note)
    held: Held = "hr" if degradation == "video" else "lr" if compression is not None else None
    needed = plan_evaluation(clips, network, tile_choice, held=held, warping=warping)
    if needed is not None:
        on_memory(needed)
    beside = network is not None and held is not None
    on_begin(len(clips), sum(high.frames for high, _ in clips) * (1 + beside))

    def score(scored: Method) -> EvaluationReport:
        return evaluate_method(
            clips,
            scored,
            protocol,
            degradation=degradation,
            compression=compression,
            space=space,
            warping=WarpingError(bundled_checkpoint("uni")) if warping else None,
            on_frame=on_frame,
        )

    if network is None:
        return score(BicubicMethod())
    with closing(NetworkMethod(chosen, lambda: Upscaler(network, tiles=tile_choice, on_note=on_note))) as networked:
        report = replace(score(networked), run_by=networked.run_by())
    return replace(report, bicubic=score(BicubicMethod())) if beside else report
