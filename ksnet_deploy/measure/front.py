"""The front door: evaluate a network on clips, with settings as users give them."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Literal

from ksnet_deploy.base.errors import ConfigError
from ksnet_deploy.measure.degradation import Degradation
from ksnet_deploy.measure.evaluation import BicubicMethod, EvaluationReport, Method, NetworkMethod
from ksnet_deploy.measure.evaluation import evaluate as evaluate_method
from ksnet_deploy.measure.protocols import PROTOCOLS, pairs
from ksnet_deploy.upscale.ladder import Choices, find_fastest, this_machine
from ksnet_deploy.upscale.networks import default_model
from ksnet_deploy.upscale.upscaler import Upscaler
from ksnet_deploy.video.compression import CODECS, CodecName, Compression

__all__ = ["evaluate"]


def evaluate(
    hr: Path | str,
    model: Path | str | None = None,
    *,
    lr: Path | str | None = None,
    protocol: str = "folder",
    method: Literal["network", "bicubic"] = "network",
    runtime: str | None = None,
    device: str | None = None,
    backend: str | None = None,
    degradation: Degradation = "BI",
    codec: CodecName | None = None,
    crf: int | None = None,
    space: Literal["y", "rgb"] | None = None,
) -> EvaluationReport:
    """Measure PSNR and SSIM by the field's protocols.

    Args:
        hr: HR clips: folders of frames, videos or shards, or a folder of these.
        model: a bundled network's name or a file (default: lite on a CPU, uni on a GPU).
        lr: LR clips of the same names (default: made from HR).
        protocol: ``folder``, ``vid4``, ``reds4`` or ``vimeo90k``.
        method: what enlarges the frames.
        runtime, device, backend: as :class:`ksnet_deploy.Upscaler` takes them.
        degradation: how LR is made, ``BI`` or ``BD``.
        codec, crf: encoder that LR goes through first, and its quality; bicubic of the same input stands beside then.
        space: ``y`` or ``rgb`` (default: the protocol's).

    Raises:
        KSNetError: there is no such protocol, network or codec, or a clip cannot be read.
    """
    if protocol not in PROTOCOLS:
        raise ConfigError(f"there is no protocol '{protocol}'; give {', '.join(PROTOCOLS)}")
    if codec is not None and codec not in CODECS:
        raise ConfigError(f"there is no codec '{codec}' to put LR through; give {', '.join(CODECS)}")
    if crf is not None and codec is None:
        raise ConfigError(f"a quality of {crf} needs to know of which codec; give one, for example h264")
    choices = Choices.of(runtime, device, backend)
    chosen = str(model or default_model(choices.settled_device(this_machine())))
    if method == "network":
        find_fastest(chosen, choices)  # before the clips, which may be many
    compression = None if codec is None else Compression.usual(codec, crf)
    clips = pairs(Path(hr), None if lr is None else Path(lr), PROTOCOLS[protocol])

    def score(scored: Method) -> EvaluationReport:
        return evaluate_method(clips, scored, protocol, degradation=degradation, compression=compression, space=space)

    if method == "bicubic":
        return score(BicubicMethod())

    def make_upscaler() -> Upscaler:
        return Upscaler(chosen, runtime=choices.runtime, device=choices.device)

    with closing(NetworkMethod(chosen, make_upscaler)) as network:
        report = score(network)
    return report if compression is None else replace(report, bicubic=score(BicubicMethod()))
