"""What tests of the cache share."""

from __future__ import annotations

import onnx

from ksnet_deploy.base.frames import FrameSize
from ksnet_deploy.export.engine.make import EngineRequest, MadeEngine, make_engine
from ksnet_deploy.network.checkpoints import Checkpoint
from ksnet_deploy.runtime.tensorrt.target import SizeRange

SIZE = FrameSize(32, 48)
FLOAT = onnx.TensorProto.FLOAT


def make_one(small: Checkpoint, precision: str, notes: list[str]) -> MadeEngine:
    request = EngineRequest(small.path, SizeRange.fixed(SIZE), precision, plugins="off", verify_frames=4)  # type: ignore[arg-type]
    return make_engine(request, say=notes.append)
