"""Both ways to a GPU, on stand-ins for their packages: one interface, and the choice between them."""

from __future__ import annotations

import threading

import numpy as np
import pytest
from fake_gpu import FakeCuda
from fake_pycuda import FakePycuda

from ksnet_deploy.base.errors import BackendError
from ksnet_deploy.runtime.tensorrt import cuda, cuda_bindings, cuda_pycuda
from ksnet_deploy.runtime.tensorrt.cuda_layer import Device
from ksnet_deploy.runtime.tensorrt.target import GpuTarget

LAYERS = ("cuda-bindings", "pycuda")


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> FakeCuda:
    """A GPU with cuda-bindings installed, and without pycuda."""
    fake = FakeCuda()
    monkeypatch.setattr(cuda_bindings, "_cudart", lambda: fake)
    monkeypatch.setattr(cuda_bindings, "can_record", lambda: True)
    monkeypatch.setattr(cuda_pycuda, "can_record", lambda: True)
    monkeypatch.setattr(cuda_pycuda, "imports", lambda: False)
    return fake


@pytest.fixture
def pycuda(gpu: FakeCuda, monkeypatch: pytest.MonkeyPatch) -> FakePycuda:
    """And with pycuda."""
    driver = FakePycuda(gpu)
    monkeypatch.setattr(cuda_pycuda, "imports", lambda: True)
    monkeypatch.setattr(cuda_pycuda, "_driver", lambda: driver)
    return driver


@pytest.fixture(params=LAYERS)
def device(request: pytest.FixtureRequest, gpu: FakeCuda) -> Device:
    if request.param == "pycuda":
        request.getfixturevalue("pycuda")
    device = cuda.open_device()
    assert (device.layer, device.target) == (request.param, GpuTarget(86))
    assert gpu.memory == {}
    return device


@pytest.mark.parametrize("dtype", ["uint8", "float16", "float32"])
def test_what_is_loaded_is_what_is_stored(device: Device, gpu: FakeCuda, dtype: str) -> None:
    with device.current(), device.stream() as stream:
        sent, received = (device.pinned((2, 3), dtype) for _ in range(2))
        with device.buffer(sent.array.nbytes) as buffer, sent, received:
            assert (sent.array.shape, sent.array.dtype) == ((2, 3), np.dtype(dtype))
            sent.array[...] = np.arange(6).reshape(2, 3)
            received.array[...] = 9
            buffer.load(sent, stream)
            buffer.store(received, stream)
            assert (received.array == 9).all(), "nothing is done before the stream is waited for"
            stream.synchronize()
            np.testing.assert_array_equal(received.array, np.arange(6).reshape(2, 3))
            buffer.zero(stream)
            buffer.store(received, stream)
            stream.synchronize()
            assert not received.array.any()
    assert (gpu.memory, gpu.streams) == ({}, 0)


def test_a_recorded_work_is_done_at_every_launch_and_not_before(device: Device, gpu: FakeCuda) -> None:
    with device.current(), device.stream() as stream, device.pinned((4,), "uint8") as array:
        with device.buffer(4) as buffer:

            def work() -> None:
                buffer.load(array, stream)
                buffer.store(array, stream)

            graph = device.record(work, stream)
            assert graph is not None
            assert (gpu.pending, len(gpu.graphs)) == ([], 1)
            with graph:
                graph.launch(stream)
                graph.launch(stream)
                assert len(gpu.pending) == 4
                stream.synchronize()
        assert gpu.graphs == []


def test_a_failing_record_ends_the_capture(device: Device, gpu: FakeCuda) -> None:
    def fail() -> None:
        raise ValueError("the reason")

    with device.current(), device.stream() as stream:
        with pytest.raises(ValueError, match="the reason"):
            device.record(fail, stream)
        assert not gpu.recording
        stream.synchronize()


def test_events_measure_what_lies_between_them(device: Device, gpu: FakeCuda) -> None:
    with device.current(), device.stream() as stream, device.buffer(8) as buffer:
        with device.event() as begin, device.event() as end:
            begin.record(stream)
            buffer.zero(stream)
            end.record(stream)
            assert end.ms_since(begin) == 2  # of the stand-in's clock: the first event and the work
        assert gpu.events == {}


def test_a_stream_waits_for_an_event_of_another_as_it_was_last_recorded(device: Device, gpu: FakeCuda) -> None:
    gpu.work.eager = (1,)  # the second stream does what it can at once
    with device.current(), device.stream() as first, device.stream() as second, device.event(timed=False) as loaded:
        sent, received = (device.pinned((4,), "uint8") for _ in range(2))
        with device.buffer(4) as buffer, sent, received:
            second.wait_for(loaded)  # never recorded: nothing to wait for
            for value in (1, 2):
                sent.array[...] = value
                buffer.load(sent, first)
                loaded.record(first)
                second.wait_for(loaded)
                buffer.store(received, second)
                assert not gpu.work.queues[first.handle] or (received.array != value).all()
                loaded.wait()
                second.synchronize()
                assert (received.array == value).all()


def test_another_thread_uses_and_releases_what_one_made(device: Device, gpu: FakeCuda) -> None:
    """As the network's stage does with a runner that was opened before it began."""
    with device.current():
        stream, buffer, array = device.stream(), device.buffer(4), device.pinned((4,), "uint8")
    failures: list[BaseException] = []

    def use() -> None:
        try:
            with device.current(), device.current():
                buffer.load(array, stream)
                stream.synchronize()
            with device.current():
                for held in (array, buffer, stream):
                    held.close()
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=use)
    thread.start()
    thread.join()
    assert failures == []
    assert (gpu.memory, gpu.streams) == ({}, 0)


def test_a_full_device_is_said_in_one_sentence(device: Device, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FakeCuda, "cudaMalloc", lambda *_: (2, None))
    with device.current(), pytest.raises(BackendError, match=r"CUDA cannot go on \(cu(da)?M.*check the driver"):
        device.buffer(4)


@pytest.mark.usefixtures("pycuda")
def test_no_device_is_said_in_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FakeCuda, "cudaGetDeviceCount", lambda _self: (0, 0))
    for imports, words in ((True, "no CUDA-capable device"), (False, "CUDA finds no device here")):
        monkeypatch.setattr(cuda_pycuda, "imports", lambda imports=imports: imports)
        with pytest.raises(BackendError, match=words):
            cuda.compute_capability()


def test_pycuda_shares_the_primary_context_and_leaves_none_behind(pycuda: FakePycuda) -> None:
    device, again = cuda.open_device(), cuda.open_device()
    with device.current(), again.current():
        assert len(pycuda.contexts) == 2
    assert (pycuda.contexts, pycuda.retained) == ([], 1)
    with pytest.raises(ValueError, match="halfway"), device.current():
        raise ValueError("halfway")
    assert pycuda.contexts == []
    with pytest.raises(BackendError, match="invalid device context"):
        device.stream()


@pytest.mark.usefixtures("pycuda")
def test_pycuda_alone_records_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuda_pycuda, "can_record", lambda: False)
    device = cuda.open_device()
    done: list[int] = []
    with device.current(), device.stream() as stream:
        assert device.record(lambda: done.append(1), stream) is None
    assert done == []


def test_without_either_package_the_extras_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pycuda", None)
    monkeypatch.setitem(__import__("sys").modules, "cuda.bindings", None)
    assert not cuda_pycuda.imports()
    with pytest.raises(BackendError, match="extra 'rtx', 'tensorrt' or 'nvidia'"):
        cuda.open_device()
