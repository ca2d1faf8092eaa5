"""Work of ``ksnet-deploy train`` and ``train-flow``: data and weights gathered, then the loop."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import get_args

import torch

from ksnet_deploy.base.errors import BackendError, CheckpointError, ConfigError, InputError
from ksnet_deploy.base.machine import BFLOAT16_FLAGS, cores, cpu_flags
from ksnet_deploy.base.words import counted
from ksnet_deploy.measure.degradation import ClipDegradation
from ksnet_deploy.network.bundled import checkpoint_path
from ksnet_deploy.network.config import KSNetConfig
from ksnet_deploy.network.flow import SpyNet
from ksnet_deploy.network.model import new_network
from ksnet_deploy.training.dataset import clips_in_words
from ksnet_deploy.training.flow_task import FlowTask
from ksnet_deploy.training.flow_weights import load_flow_weights
from ksnet_deploy.training.ksnet_task import KSNetTask
from ksnet_deploy.training.log import Progress
from ksnet_deploy.training.loop import run_loop
from ksnet_deploy.training.loop_settings import LoopSettings, TrainingPrecision
from ksnet_deploy.training.memory import check_batch_memory, pair_bytes, window_bytes
from ksnet_deploy.training.recipe import RECIPES, OptimizerName, Recipe, Stage
from ksnet_deploy.training.run_folder import RESUME_FILE
from ksnet_deploy.training.start import initialise
from ksnet_deploy.training.world import World
from ksnet_deploy.upscale.networks import Device
from ksnet_deploy.upscale.precision import check_choice
from ksnet_deploy.video.clips.clip import Clip
from ksnet_deploy.video.clips.find import REDS4, find_clips, read_listing

__all__ = ["FlowRequest", "TrainingRequest", "train_flow_network", "train_ksnet"]

MOST_AT_ONCE = 256
"""Threads, or processes that load data, that may be asked for on any machine. OpenMP makes all at once, and ends the
process where it cannot; thousands of processes leave a machine without answer."""
REDUCED = {"bf16": ("bfloat16", BFLOAT16_FLAGS, 3.5), "fp16": ("half", {"avx512_fp16", "amx_fp16"}, 4.2)}
"""Each reduced precision in words, the extensions of x86 that compute in it, and how many times the time of float32 it
took without them: lite's iterations on a processor with AVX2 alone."""
WARM_UP = 50
"""Least iterations of warm-up from given weights: the optimizer begins anew, and Adam's first step is of the full rate
in every weight, however small its gradient is."""
VIMEO_LIST = "sep_trainlist.txt"
"""Official list of Vimeo90K's training clips, beside its ``sequences`` folder."""
FLOW_RECIPE = Recipe(
    # Large patches at the end: at 64 pixels the coarsest level is 2x2 and never uses the outer taps of its kernels.
    (Stage(5_000, 8, 1, 64), Stage(1_500, 4, 1, 128)),
    learning_rate=6e-4,
    final_learning_rate=6e-6,
    warm_up=50,
    ema_decay=0.998,
    gradient_norm=1.0,
)

OnStart = Callable[[int | None, str], None]
"""Function that is told the number of iterations, where known, and what will be trained on, in words."""
OnProgress = Callable[[Progress], None]
OnNote = Callable[[str], None]
"""Function that is told what a user should know, a sentence at a time."""


def _no_note(_sentence: str) -> None:
    pass


@dataclass(frozen=True, kw_only=True)
class _Request:
    data: tuple[Path, ...]
    folder: Path
    """Folder of the run: its checkpoint, its log, and what it needs to resume."""
    validation: Path | None = None
    stages: tuple[str, ...] = ()
    precision: TrainingPrecision = "fp32"
    device: str = "cpu"
    seed: int = 0
    workers: int = 0
    threads: int | None = None
    max_seconds: float | None = None
    hours: float | None = None
    recorded: bool = False
    validate_every: int = 500

    def __post_init__(self) -> None:
        check_choice("precision of training", self.precision, get_args(TrainingPrecision))
        check_choice("device", self.device, get_args(Device))

    @property
    def loop(self) -> LoopSettings:
        return LoopSettings(
            self.folder,
            self.precision,
            validate_every=self.validate_every,
            max_seconds=self.max_seconds,
            hours=self.hours,
            recorded=self.recorded,
        )


@dataclass(frozen=True, kw_only=True)
class TrainingRequest(_Request):
    """Settings of ``train``."""

    size: str | None = None
    """Name of the network's size (default: paper in a recipe of the paper, else uni)."""
    recipe: str = "short"
    settings: tuple[str, ...] = ()
    """Changes to the network's configuration, NAME=VALUE."""
    init: str | None = None
    init_partial: bool = False
    """Whether ``init`` may be built differently: what fits is taken."""
    flow: Path | None = None
    learning_rate: float | None = None
    flow_frozen: int | None = None
    optimizer: OptimizerName | None = None
    degradation: ClipDegradation = "BI"
    temporal_weight: float = 0.0
    licence: str = "not stated"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("recipe", self.recipe, tuple(RECIPES))
        check_choice("optimizer", self.optimizer, get_args(OptimizerName))
        check_choice("degradation", self.degradation, get_args(ClipDegradation))


@dataclass(frozen=True, kw_only=True)
class FlowRequest(_Request):
    """Settings of ``train-flow``."""

    channels: int = 32
    levels: int = SpyNet.LEVELS
    init: Path | None = None


def train_ksnet(
    request: TrainingRequest, on_start: OnStart, on_progress: OnProgress, on_note: OnNote = _no_note
) -> Path:
    """Train, or resume, and return the checkpoint's path.

    Raises:
        KSNetError: data, weights or settings cannot be used.
    """
    world = _prepare(request)
    model = new_network(
        KSNetConfig.named(request.size or ("uni" if request.recipe == "short" else "paper")).replace(request.settings)
    )
    new: list[str] = []
    if request.init is not None:
        new = initialise(model, checkpoint_path(request.init), partial=request.init_partial, on_note=on_note)
    elif request.init_partial:
        raise ConfigError("--init-partial needs weights to take what fits from; name them with --init")
    if request.flow is not None:
        if model.flow is None:
            raise CheckpointError(f"{request.flow} cannot be used: this network has no flow network to load it into")
        _load_flow(model.flow, request.flow, on_note)
    recipe = RECIPES[request.recipe].with_stages(tuple(map(Stage.parse, request.stages)))
    untrained_flow = request.flow is None and (request.init is None or any(n.split(".")[0] == "flow" for n in new))
    changes: dict[str, object] = {
        "learning_rate": request.learning_rate,
        "optimizer": request.optimizer,
        # A flow network that starts from nothing must learn from the beginning.
        "flow_frozen": 0 if untrained_flow and request.flow_frozen is None else request.flow_frozen,
    }
    if request.init is not None:
        changes["warm_up"] = max(recipe.warm_up, WARM_UP)
    recipe = replace(
        recipe,
        degradation=request.degradation,
        temporal_weight=request.temporal_weight,
        **{name: value for name, value in changes.items() if value is not None},  # type: ignore[arg-type]
    )
    on_cpu = world.device.type == "cpu"
    check_batch_memory(recipe.stages, world, lambda s: window_bytes(s, model.config.channels, trained=on_cpu))
    clips = [clip for path in request.data for clip in _selected(path, request.recipe)]
    target = request.folder / "ksnet.safetensors"
    task = KSNetTask(
        model,
        clips,
        _validation(request),
        recipe,
        target,
        seed=request.seed,
        licence=request.licence,
        workers=request.workers,
        note=f"recipe {request.recipe}, degradation {request.degradation}, {request.precision},",
    )
    begins = not (request.folder / RESUME_FILE).exists()  # else all is from the run itself
    note = f"; from nothing: {', '.join(new)}; all else from {request.init}" if new and begins else ""
    return _run(task, request, world, clips, lambda count, what: on_start(count, what + note), on_progress, on_note)


def train_flow_network(
    request: FlowRequest, on_start: OnStart, on_progress: OnProgress, on_note: OnNote = _no_note
) -> Path:
    """Pretrain the flow network, or resume, and return the path of its weights.

    Raises:
        KSNetError: data, weights or settings cannot be used.
    """
    world = _prepare(request)
    model = SpyNet(request.channels, request.levels)
    if request.init is not None:
        _load_flow(model, request.init, on_note)
    clips = [clip for path in request.data for clip in find_clips(path)]
    target = request.folder / "spynet.safetensors"
    recipe = FLOW_RECIPE.with_stages(tuple(map(Stage.parse, request.stages)))
    check_batch_memory(recipe.stages, world, pair_bytes)
    task = FlowTask(model, clips, _validation(request), recipe, target, seed=request.seed, workers=request.workers)
    return _run(task, request, world, clips, on_start, on_progress, on_note)


def _load_flow(model: SpyNet, path: Path, on_note: OnNote) -> None:
    weights, notes = load_flow_weights(path, model)
    model.load_state_dict(weights)
    for note in notes:
        on_note(note)


def _selected(path: Path, recipe: str) -> Sequence[Clip]:
    """The clips that the recipe's official split trains on."""
    clips = list(find_clips(path))
    if recipe == "paper-reds":
        clips = [clip for clip in clips if clip.name.rpartition("/")[2] not in REDS4]
    if recipe == "paper-vimeo":
        listing = path / VIMEO_LIST
        if not listing.is_file():
            raise InputError(f"{path} has no {VIMEO_LIST}; give the folder of Vimeo90K that holds it and 'sequences'")
        names = read_listing(listing)
        clips = [clip for clip in clips if clip.name in names]
    if not clips:
        raise InputError(f"{path} holds no clip of the recipe {recipe}; check that it is that data set's folder")
    return clips


def _slow_precision(precision: TrainingPrecision) -> str | None:
    """Sentence for a precision that this processor only imitates; None where it computes in it or that is not known."""
    flags = cpu_flags() or set()
    if precision not in REDUCED or "avx2" not in flags:
        return None
    name, extensions, times = REDUCED[precision]
    if extensions & flags:
        return None
    return (
        f"This processor does not compute in {name} but imitates it, which took {times:g} times as long as float32 on "
        "one with AVX2 alone; --precision fp32 is the faster."
    )


def _validation(request: _Request) -> Sequence[Clip]:
    return [] if request.validation is None else list(find_clips(request.validation))


def _prepare(request: _Request) -> World:
    _ = request.loop  # which refuses what it cannot be, before hours of reading
    if not 0 <= request.seed < 2**63:
        raise ConfigError(f"{request.seed} cannot be a seed; give --seed a number from 0 to {2**63 - 1}")
    for data in (*request.data, *filter(None, [request.validation])):
        if request.folder.resolve().is_relative_to(data.resolve()):
            raise ConfigError(
                f"the output folder {request.folder} lies in the data {data}, and what is written there would be taken "
                "for data; give another --output"
            )
    if request.device == "cuda" and not torch.cuda.is_available():
        raise BackendError("this PyTorch sees no CUDA device; train with --device cpu, or install a CUDA build")
    if request.recorded and request.device != "cuda":
        raise ConfigError("--recorded is for CUDA, where it makes one graph; leave it out, or give --device cuda")
    for option, count in (("threads", request.threads), ("workers", request.workers)):
        if count is not None and count > max(cores(), MOST_AT_ONCE):
            raise ConfigError(
                f"{count} {option} cannot be run on {counted(cores(), 'core')}; give --{option} at most as many"
            )
    if request.threads is not None:
        torch.set_num_threads(request.threads)
    torch.manual_seed(request.seed)
    return World.join(request.device)


def _run(
    task: KSNetTask | FlowTask,
    request: _Request,
    world: World,
    clips: Sequence[Clip],
    on_start: OnStart,
    on_progress: OnProgress,
    on_note: OnNote,
) -> Path:
    if world.leads:
        given = [f"--{name} {path}" for name in ("init", "flow") if (path := getattr(request, name, None)) is not None]
        if given and (request.folder / RESUME_FILE).exists():
            begun_from = " and ".join(given)
            on_note(f"The run in {request.folder} goes on from what it has learned, not from {begun_from} again.")
        if world.device.type == "cpu" and (note := _slow_precision(request.precision)) is not None:
            on_note(note)
        iterations = task.iterations if request.hours is None else None
        length = f"{request.hours:g} hours" if iterations is None else counted(iterations, "iteration")
        on_start(iterations, f"{clips_in_words(clips)}, {length}")
    run_loop(task, request.loop, world, on_progress, on_note)
    world.leave()
    return task.target
