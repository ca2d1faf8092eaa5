"""Runs an exported step in an environment that knows nothing of this package, with the runtime that it has.

``python foreign_runtime.py STEP.onnx FRAMES.npy RESET_AT RESULTS.npz``: float32 frames (N, H, W, 3) in; every output of
every frame out, under ``INDEX.NAME``. Needs NumPy, and ONNX Runtime or OpenVINO.
"""

from __future__ import annotations

import sys
from collections.abc import Callable

import numpy as np

Feeds = dict[str, np.ndarray]


def onnxruntime(path: str) -> tuple[Callable[[Feeds], Feeds], dict[str, list[int]]]:
    import onnxruntime as ort

    session = ort.InferenceSession(path, providers=["CPUExecutionProvider"])
    names = [value.name for value in session.get_outputs()]
    shapes = {value.name: value.shape for value in session.get_inputs()}
    return lambda feeds: dict(zip(names, session.run(None, feeds), strict=True)), shapes


def openvino(path: str) -> tuple[Callable[[Feeds], Feeds], dict[str, list[int]]]:
    import openvino as ov

    core = ov.Core()
    # Unless told, OpenVINO computes in bfloat16 on processors that have it.
    model = core.compile_model(core.read_model(path), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    request = model.create_infer_request()

    def run(feeds: Feeds) -> Feeds:
        found = request.infer(feeds)
        return {output.any_name: np.array(found[output]) for output in model.outputs}

    return run, {value.any_name: list(value.shape) for value in model.inputs}


def main(path: str, frames: str, reset_at: str, results: str) -> None:
    try:
        run, shapes = onnxruntime(path)
    except ImportError:
        run, shapes = openvino(path)
    found: Feeds = {}
    state: Feeds = {}
    for index, lr in enumerate(np.load(frames)):
        if index in (0, int(reset_at)):
            state = {name: np.zeros(shape, np.float32) for name, shape in shapes.items() if name != "lr"}
            state["state.prev_lr"] = lr.transpose(2, 0, 1)[None].copy()
        outputs = run({"lr": lr[None], **state})
        found |= {f"{index}.{name}": array for name, array in outputs.items()}
        state = {name.replace("next.", "state."): array for name, array in outputs.items() if name != "hr"}
    np.savez(results, **found)


if __name__ == "__main__":
    main(*sys.argv[1:])
