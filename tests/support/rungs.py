"""What tests of the ladder of runtimes share."""

from __future__ import annotations

import numpy as np

from ksnet_deploy.base.frames import FrameSize

SIZE = FrameSize(16, 24)
TAKEN = {
    "tensorrt cuda": "Running small with TensorRT on the RTX 3080 in half precision.",
    "rtx cuda": "Running small with TensorRT-RTX on the RTX 3080 in half precision.",
    "torch cuda": "Running small with PyTorch on the RTX 3080 in half precision",
    "onnxruntime cuda": "Running small with ONNX Runtime on the RTX 3080 in half precision",
    "onnxruntime cpu": "Running small with ONNX Runtime on the CPU",
}


def frames(count: int, size: FrameSize = SIZE) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, size.height, size.width, 3), dtype=np.uint8)
