"""What the choices of a training are worth at equal processor time: optimizer, rate, windows, batches, the tail.

    python benchmarks/training_choices.py DATA --validation CLIPS [--minutes 4] [--only NAMES]

Each trains ``lite`` from nothing but the bundled lite's flow, with a learning rate that falls to its end at the last
iteration. What an iteration of each costs is measured first, by turns: the least processor time of some, because what a
busy machine adds is no matter of the choice. The time is then enough for so many; ``processor_s`` is what they took in
the end. Scored is the mean Y-PSNR over bicubic of the averaged weights on the validation clips. The output is written
after each, and a choice that is in it already is not trained again, so a run can be cut off and go on. Differences at
such budgets are hints: ``base, seed 1`` shows what chance does.
"""

from __future__ import annotations

import argparse
import json
import math
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from arguments import duration, result_path
from writing import write_json

from ksnet_deploy.base.files import sha256_of
from ksnet_deploy.network.bundled import bundled_checkpoint
from ksnet_deploy.training.dataset import clips_identity
from ksnet_deploy.training.log import Progress
from ksnet_deploy.training.run import TrainingRequest, train_ksnet
from ksnet_deploy.video.clips.find import find_clips

RESULTS = Path(__file__).parent / "results"
SHAPE = "4x5x32"
CHOICES: dict[str, dict[str, Any]] = {
    "base": {},
    "base, seed 1": {"seed": 1},
    "Muon, half the rate": {"learning_rate": 2e-3},
    "Adam": {"optimizer": "adam", "learning_rate": 2e-3},
    "windows of 10 frames": {"shape": "2x10x32"},
    "patches of 44": {"shape": "2x5x44"},
    "twice the batch": {"shape": "8x5x32"},
    "enlarging in two steps": {"settings": ("upsampler=progressive",)},
}
"""What differs from the base: Muon at 4e-3, windows of :data:`SHAPE`, and one convolution that enlarges four times."""
ROUNDS, PROBES, EACH = 2, 3, 4
"""Times that the cost of an iteration is measured, each time over so many groups of so many iterations."""


def train(request: TrainingRequest, shape: str, iterations: int) -> tuple[dict[str, float], dict[int, float]]:
    """Figures of the last iteration, and the processor time at each that was logged."""
    figures: dict[str, float] = {}
    clock: dict[int, float] = {}

    def note(progress: Progress) -> None:
        clock[progress.iteration] = time.process_time()
        figures.update(progress.figures, loss=progress.loss)

    with tempfile.TemporaryDirectory() as folder:
        stages = (f"{iterations}:{shape}",)
        train_ksnet(replace(request, folder=Path(folder), stages=stages), lambda *_: None, note)
    return figures, clock


def costs(base: TrainingRequest) -> dict[str, float]:
    """Processor seconds of an iteration by the choice; of equal ones, which differ in seed or rate, the same."""
    kinds = {
        name: json.dumps(changes | {"seed": 0, "learning_rate": 0}, sort_keys=True) for name, changes in CHOICES.items()
    }
    least: dict[str, float] = {}
    for _ in range(ROUNDS):
        for kind in dict.fromkeys(kinds.values()):
            changes = dict(CHOICES[next(name for name, other in kinds.items() if other == kind)])
            shape = changes.pop("shape", SHAPE)
            # What validates without clips is logged.
            request = replace(base, validation=None, validate_every=EACH, **changes)
            _, clock = train(request, shape, (PROBES + 1) * EACH)
            times = [(clock[at + EACH] - clock[at]) / EACH for at in range(EACH, (PROBES + 1) * EACH, EACH)]
            least[kind] = min(least.get(kind, math.inf), *times)
    return {name: least[kind] for name, kind in kinds.items()}


def measure(request: TrainingRequest, shape: str, iterations: int) -> dict[str, Any]:
    figures, clock = train(request, shape, iterations)
    first, last = min(clock), max(at for at in clock if at < iterations)  # that of the end waits for the validation
    spent = (clock[last] - clock[first]) / (last - first) * iterations
    return {"iterations": iterations, "shape": shape, "processor_s": round(spent), **figures}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, nargs="+")
    parser.add_argument("--validation", type=Path, required=True)
    parser.add_argument("--minutes", type=duration, default=4, help="processor time of each choice (default: 4)")
    parser.add_argument("--only", nargs="*", choices=list(CHOICES), help="(default: all)")
    parser.add_argument("--output", type=result_path, default=RESULTS / "training-choices.json")
    options = parser.parse_args()
    flow = bundled_checkpoint("lite")
    budget = {
        "minutes": options.minutes,
        "data": clips_identity([clip for path in options.data for clip in find_clips(path)])["data"],
        "validation": clips_identity(list(find_clips(options.validation)))["data"],
        "flow_sha256": sha256_of(flow),
    }
    results: dict[str, Any] = {"budget": budget, "torch": torch.__version__, "iteration_s": {}, "choices": {}}
    if options.output.exists():
        results = json.loads(options.output.read_text())
        if results["budget"] != budget:
            raise SystemExit(f"Error: {options.output} holds results of another budget; choose another file.")
    base = TrainingRequest(
        data=tuple(options.data),
        folder=Path(),
        size="lite",
        flow=flow,
        flow_frozen=0,
        validation=options.validation,
        learning_rate=4e-3,
        threads=1,
        validate_every=10**9,
    )
    if not results["iteration_s"]:
        results["iteration_s"] = costs(base)
        write_json(options.output, results)
    for name in options.only or CHOICES:
        if name not in results["choices"]:
            changes = dict(CHOICES[name])
            shape = changes.pop("shape", SHAPE)
            results["choices"][name] = row = measure(
                replace(base, **changes), shape, round(60 * options.minutes / results["iteration_s"][name])
            )
            write_json(options.output, results)
            print(f"{name:<26}{row['iterations']:>6} x {shape:<9}{row['gain']:+.3f} dB", flush=True)


if __name__ == "__main__":
    main()
