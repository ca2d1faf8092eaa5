"""What can use the card of this machine."""

from __future__ import annotations

import ctypes
from dataclasses import replace
from typing import Any

import pytest
import torch
from fake_card import RTX3080

from ksnet_deploy.base.errors import BackendError
from ksnet_deploy.runtime import gpu
from ksnet_deploy.upscale import ladder
from ksnet_deploy.upscale.ladder import Choices, Ladder, Machine, available_rungs, find_fastest, this_machine


class FakeDriver:
    """``libcuda``, with a card or without."""

    def __init__(self, cards: int = 1, status: int = 0) -> None:
        self.cards, self.status = cards, status

    def cuInit(self, _flags: int) -> int:  # noqa: N802
        return self.status

    def cuDeviceGetCount(self, count: Any) -> int:  # noqa: N802
        count._obj.value = self.cards
        return 0

    def cuDeviceGet(self, device: Any, index: int) -> int:  # noqa: N802
        device._obj.value = index
        return 0

    def cuDeviceGetName(self, name: Any, _size: int, _device: Any) -> int:  # noqa: N802
        name.value = b"NVIDIA GeForce RTX 3080"
        return 0

    def cuDeviceGetAttribute(self, value: Any, kind: int, _device: Any) -> int:  # noqa: N802
        value._obj.value = {75: 8, 76: 6}[kind]
        return 0

    def cuDeviceTotalMem_v2(self, value: Any, _device: Any) -> int:  # noqa: N802
        value._obj.value = 10_240 << 20
        return 0


class FakeMemory(FakeDriver):
    """And its memory, which is asked for in the primary context."""

    def __init__(self, status: int = 0) -> None:
        super().__init__(status=status)
        self.calls: list[str] = []

    def __getattr__(self, name: str) -> Any:
        def call(*arguments: Any) -> int:
            self.calls.append(name)
            if name == "cuMemGetInfo_v2":
                arguments[0]._obj.value, arguments[1]._obj.value = 7 << 30, 10 << 30
            return 2 if name == "cuMemGetInfo_v2" and self.status == 2 else 0

        return call

    def cuInit(self, _flags: int) -> int:  # noqa: N802
        return 0


@pytest.mark.parametrize(("status", "free"), [(0, 7 << 30), (2, None)])
def test_the_cards_free_memory_is_asked_in_the_primary_context_which_is_left_again(
    status: int, free: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    driver = FakeMemory(status)
    monkeypatch.setattr(gpu, "_driver", lambda: driver)
    assert gpu.free_memory() == free
    assert [call.removesuffix("_v2") for call in driver.calls] == [
        "cuDevicePrimaryCtxRetain", "cuCtxPushCurrent", "cuMemGetInfo", "cuCtxPopCurrent", "cuDevicePrimaryCtxRelease"
    ]  # fmt: skip
    monkeypatch.setattr(gpu, "_driver", lambda: ctypes.CDLL("libcuda-that-is-not.so.1"))
    assert gpu.free_memory() is None


def test_the_card_is_what_its_driver_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu, "_driver", FakeDriver)
    assert gpu.find_gpu() == RTX3080
    assert str(gpu.find_gpu()) == "RTX 3080"
    monkeypatch.setattr(gpu, "_driver", lambda: FakeDriver(cards=0))
    with pytest.raises(BackendError, match="shows no GPU to this process; see CUDA_VISIBLE_DEVICES"):
        gpu.find_gpu()
    monkeypatch.setattr(gpu, "_driver", lambda: FakeDriver(status=100))
    with pytest.raises(BackendError, match="cuInit gives 100"):
        gpu.find_gpu()
    monkeypatch.setattr(gpu, "_driver", lambda: ctypes.CDLL("libcuda-that-is-not.so.1"))
    with pytest.raises(BackendError, match="there is no NVIDIA driver here"):
        gpu.find_gpu()


def test_what_can_use_the_card_is_looked_for_only_where_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[str] = []
    monkeypatch.setattr(ladder, "lacks", lambda runtime: looked.append(runtime) or ("x" if runtime == "rtx" else None))
    monkeypatch.setattr(gpu, "_driver", lambda: FakeDriver(cards=0))
    this_machine.cache_clear()
    assert this_machine().gpu is None
    assert looked == []
    this_machine.cache_clear()
    monkeypatch.setattr(gpu, "_driver", FakeDriver)
    assert this_machine() == Machine(RTX3080, "", {"rtx": "x"})
    assert looked == ["tensorrt", "rtx", "torch", "onnxruntime"]
    this_machine.cache_clear()


def test_tensorrt_rtx_is_no_advice_for_a_card_that_it_does_not_build_for(monkeypatch: pytest.MonkeyPatch) -> None:
    card = replace(RTX3080, name="NVIDIA H200", sm=90)
    monkeypatch.setattr(ladder, "lacks", lambda runtime: None if runtime == "torch" else "it is not installed")
    monkeypatch.setattr(gpu, "find_gpu", lambda: card)
    this_machine.cache_clear()
    machine = this_machine()
    this_machine.cache_clear()
    assert machine.missing["rtx"] == "it does not build for sm90"
    found = find_fastest("lite", Choices(), machine)
    assert isinstance(found, Ladder)
    assert found._hint() == "; TensorRT would be faster: pip install 'ksnet-deploy[tensorrt]'"
    with pytest.raises(BackendError, match=r"\(TensorRT-RTX: it does not build for sm90\); or leave --runtime out"):
        available_rungs(Choices("rtx"), machine)


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_what_the_libraries_here_lack_is_known_without_trying(monkeypatch: pytest.MonkeyPatch) -> None:
    assert ladder.lacks("torch") == ladder.lacks("onnxruntime") == "it is built without CUDA"
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    assert ladder.lacks("tensorrt") == ladder.lacks("rtx") == "it is not installed"
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: object())
    assert ladder.lacks("tensorrt") is None


def test_available_rungs_are_those_without_an_obstacle() -> None:
    machine = Machine(RTX3080, "", {"tensorrt": "x", "torch": "y"})
    found = [f"{rung.runtime} {rung.device}" for rung in available_rungs(Choices(), machine)]
    assert found == ["rtx cuda", "onnxruntime cuda", "onnxruntime cpu"]
    assert [rung.device for rung in available_rungs(Choices("torch"), machine)] == ["cpu"]
    assert (
        replace(Choices(), device="cuda").settled_device(Machine(None, "there is no NVIDIA driver here")) == "cuda"
    )  # and refused when it is opened
