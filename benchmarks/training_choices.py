"""What choices of training are worth in equal time, from the bundled weights on.

    python benchmarks/training_choices.py DATA --validation CLIPS --hours 0.25 --output benchmarks/results/NAME.json

Every choice begins with the weights of the bundled network and trains for the same time on the same processor, its rate
falling to the end just then; it is scored by the mean Y-PSNR over bicubic of its averaged weights on the validation
clips. The output is written after every choice, and one that is in it is not trained again, so a run can be cut off and
go on. ``--only`` takes some, so that two runs side by side share the choices, each with its own output.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from writing import write_json

from ksnet_deploy.base.files import sha256_of
from ksnet_deploy.network.bundled import bundled_checkpoint
from ksnet_deploy.training.dataset import clips_identity
from ksnet_deploy.training.run import TrainingRequest, train_ksnet
from ksnet_deploy.video.clips.find import find_clips

STAGE = "1:4x10x32"
"""Kind of the batches: windows x frames x pixels; their number follows from the time."""
CHOICES: dict[str, dict[str, dict[str, Any]]] = {
    "lite": {
        "Muon, 1.5e-3": {},
        "Muon, 1.5e-3, seed 1": {"seed": 1},
        "Muon, 3e-3": {"learning_rate": 3e-3},
        "Adam, 2e-4": {"optimizer": "adam", "learning_rate": 2e-4},
        "Adam, 5e-4": {"optimizer": "adam", "learning_rate": 5e-4},
        "longer windows, 2x20x32": {"stages": ("1:2x20x32",)},
        "larger patches, 1x10x64": {"stages": ("1:1x10x64",)},
        "shorter windows, 8x5x32": {"stages": ("1:8x5x32",)},
    },
    "uni": {
        "progressive upsampler": {},
        "upsampler=direct, its head new": {"settings": ("upsampler=direct",), "init_partial": True},
    },
}
"""Choices by network; the first is what the others are compared with."""
LEARNING_RATES = {"lite": 1.5e-3, "uni": 1e-3}


def train(model: str, changes: dict[str, Any], options: argparse.Namespace) -> dict[str, Any]:
    """Figures of a choice."""
    figures: dict[str, float] = {}

    def on_progress(progress: Any) -> None:
        figures.update(progress.figures, iterations=progress.iteration)

    fields = {"learning_rate": LEARNING_RATES[model], "stages": (STAGE,)} | changes
    with tempfile.TemporaryDirectory() as folder:
        request = TrainingRequest(
            data=tuple(options.data),
            folder=Path(folder),
            size=model,
            init=model,
            validation=options.validation,
            hours=options.hours,
            threads=options.threads,
            validate_every=10**9,
            **fields,
        )
        started = time.monotonic()
        train_ksnet(request, lambda *_: None, on_progress)
    return {**figures, "seconds_with_validation": round(time.monotonic() - started)}


def table(results: dict[str, Any]) -> str:
    lines = [f"{'choice':<36}{'iterations':>11}{'over bicubic':>14}{'vs the first':>14}"]
    rows = results["choices"]
    first = next(iter(rows.values()))["gain"] if rows else 0.0
    for name, row in rows.items():
        lines.append(f"{name:<36}{row['iterations']:>11}{row['gain_db']:>+14.3f}{row['gain_db'] - first:>+14.3f}")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, nargs="+")
    parser.add_argument("--validation", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--model", choices=list(CHOICES), default="lite")
    parser.add_argument("--hours", type=float, default=0.25, help="for each choice (default: 0.25)")
    parser.add_argument("--threads", type=int, default=1, help="(default: 1)")
    parser.add_argument("--only", nargs="*", help="names of choices (default: all)")
    options = parser.parse_args()
    choices = CHOICES[options.model]
    if unknown := set(options.only or ()) - set(choices):
        parser.error(f"--only: {', '.join(sorted(unknown))}: there is no such choice; there are {', '.join(choices)}")
    facts: dict[str, Any] = {
        "model": options.model,
        "hours": options.hours,
        "threads": options.threads,
        "weights_sha256": sha256_of(bundled_checkpoint(options.model)),
        "data": clips_identity([clip for path in options.data for clip in find_clips(path)])["data"],
        "validation": clips_identity(list(find_clips(options.validation)))["data"],
        "torch": torch.__version__,
    }
    results: dict[str, Any] = {**facts, "choices": {}}
    if options.output.exists():
        results = json.loads(options.output.read_text())
        if differing := [name for name in facts if results.get(name) != facts[name]]:
            raise SystemExit(f"Error: {options.output} is of other {' and '.join(differing)}; choose another file.")
    for name in options.only or choices:
        if name in results["choices"]:
            continue
        results["choices"][name] = train(options.model, choices[name], options)
        write_json(options.output, results)
        print(table(results), flush=True)


if __name__ == "__main__":
    main()
