"""The Python interface for frames."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import ksnet_deploy
from ksnet_deploy import Upscaler
from ksnet_deploy.benchmark import moving_frames
from ksnet_deploy.config import FrameSize
from ksnet_deploy.errors import BackendError, CheckpointError
from ksnet_deploy.runtime.torch import TorchRunner
from ksnet_deploy.weights import Checkpoint

SmallOnnx = Callable[..., Path]
SIZE = FrameSize(32, 48)


def test_frames_come_out_as_the_runtime_gives_them(small: Checkpoint, small_onnx: SmallOnnx) -> None:
    reference = TorchRunner(small.model, SIZE)
    with Upscaler(str(small_onnx("32x48"))) as upscaler:
        for index, frame in enumerate(moving_frames(SIZE, 5)):
            if index == 3:
                upscaler.reset()
                reference.reset()
            hr = upscaler.push(frame)
            assert (hr.shape, hr.dtype) == ((128, 192, 3), np.uint8)
            assert np.abs(hr.astype(int) - reference.step(frame)).max() <= 1


def test_deep_frames_keep_their_depth(small: Checkpoint) -> None:
    shallow = moving_frames(SIZE, 2)
    with Upscaler(str(small.path), backend="torch") as deep, Upscaler(str(small.path), backend="torch") as plain:
        for frame in shallow:
            hr = deep.push(frame.astype(np.uint16) * 257)
            assert hr.dtype == np.uint16
            assert np.abs(hr / 257 - plain.push(frame)).max() <= 0.51
        assert (hr % 257 != 0).any()  # more than 8 bits


@pytest.mark.parametrize("size", ["7x5", "16x16", "17x33"])
def test_any_size_comes_out_four_times_larger(small: Checkpoint, size: str) -> None:
    h, w = map(int, size.split("x"))
    with Upscaler(str(small.path), backend="torch") as upscaler:
        assert upscaler.push(np.zeros((h, w, 3), np.uint8)).shape == (4 * h, 4 * w, 3)


def test_what_is_no_frame_is_refused(small: Checkpoint) -> None:
    with Upscaler(str(small.path), backend="torch") as upscaler:
        for frame in (np.zeros((32, 48), np.uint8), np.zeros((32, 48, 4), np.uint8), np.zeros((32, 48, 3), np.float32)):
            with pytest.raises(BackendError, match="cannot be upscaled"):
                upscaler.push(frame)
        upscaler.push(np.zeros((32, 48, 3), np.uint8))
        with pytest.raises(BackendError, match="those before were 32x48"):
            upscaler.push(np.zeros((32, 64, 3), np.uint8))
    with pytest.raises(CheckpointError, match="giant"):
        Upscaler("giant").push(np.zeros((32, 48, 3), np.uint8))


def test_the_package_offers_its_interface_by_name() -> None:
    assert set(ksnet_deploy.__all__) >= {"Upscaler", "upscale_video"}
    assert all(callable(getattr(ksnet_deploy, name)) for name in ("Upscaler", "upscale_video"))
    with pytest.raises(AttributeError, match="no attribute 'downscale'"):
        _ = ksnet_deploy.downscale
