"""How much faster ONNX Runtime runs the folded step than PyTorch does, on this machine.

    python benchmarks/onnxruntime_vs_torch.py [--size 180x320] [--rounds 3] [--seconds 20]

Both are measured by turns, each in a process of its own, and the medians over the rounds are compared, so that a
change of the machine's speed during the run meets both. The result goes to benchmarks/results/.
"""

from __future__ import annotations

import argparse
import json
import re
from pathlib import Path
from statistics import median

from ksnet_deploy.base.frames import FrameSize
from ksnet_deploy.measure.speed import run_benchmark
from ksnet_deploy.network.bundled import bundled_checkpoint
from ksnet_deploy.network.checkpoints import load_checkpoint

RESULTS = Path(__file__).parent / "results"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=FrameSize.parse, default=FrameSize(180, 320))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=20.0)
    arguments = parser.parse_args()

    reports = [
        run_benchmark(bundled_checkpoint("uni"), arguments.size, seconds=arguments.seconds)
        for _ in range(arguments.rounds)
    ]
    p50_ms = {
        backend: median(
            result.step.p50_ms for report in reports for result in report.results if result.backend == backend
        )
        for backend in ("torch", "onnxruntime")
    }
    ratio = p50_ms["onnxruntime"] / p50_ms["torch"]
    steps = [{result.backend: result.step.p50_ms for result in report.results} for report in reports]
    ratios = [round(step["onnxruntime"] / step["torch"], 3) for step in steps]
    machine = f"{reports[0].machine}-{reports[0].threads}-threads"
    path = RESULTS / f"{re.sub(r'[^a-z0-9]+', '-', machine.lower())}.json"
    path.parent.mkdir(exist_ok=True)
    summary = {
        "network": "uni",
        "weights_sha256": load_checkpoint(bundled_checkpoint("uni")).sha256,
        "p50_ms": p50_ms,
        "onnxruntime_over_torch": ratio,
        "of_each_round": ratios,
        "rounds": [report.as_dict() for report in reports],
    }
    path.write_text(json.dumps(summary, indent=1) + "\n")
    print(reports[-1].as_text())
    print(f"ONNX Runtime takes {ratio:.2f} of PyTorch's time (medians of {arguments.rounds} rounds; of each: {ratios})")
    print(f"Written to {path}")


if __name__ == "__main__":
    main()
