"""A stand-in for a machine with an RTX 3080 on which every runtime of the ladder works, or fails as told."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import fake_onnxruntime
import fake_torch_cuda
import pytest
from fake_gpu import FakeTensorRT, fake_engine, pretend_gpu

from ksnet_deploy.base.files import sha256_of
from ksnet_deploy.export.engine import make, tiles
from ksnet_deploy.runtime.gpu import Gpu
from ksnet_deploy.runtime.tensorrt import engine as tensorrt
from ksnet_deploy.runtime.tensorrt.sidecar import Sidecar, sidecar_path
from ksnet_deploy.upscale import ladder, memory
from ksnet_deploy.upscale.ladder import Machine

__all__ = ["RTX3080", "FakeCard"]

RTX3080 = Gpu("NVIDIA GeForce RTX 3080", 86, 10_240 << 20)
VERSION = "10.16.1"


@dataclass
class FakeCard:
    """What is there, and what happens to it."""

    machine: Machine = field(default_factory=lambda: Machine(RTX3080))
    built: list[str] = field(default_factory=list)
    """Sizes that engines were built for."""
    free_bytes: int | None = 9 << 30
    """Free memory of the card."""
    likeness_db: float | None = None
    """PSNR against float32 that engines are said to have, by a test that does not compare them."""

    def install(self, monkeypatch: pytest.MonkeyPatch) -> FakeCard:
        """Let the package find the card."""
        device = pretend_gpu(monkeypatch)
        fake_torch_cuda.use_fake_cuda(monkeypatch)
        fake_onnxruntime.use_fake_cuda(monkeypatch)
        monkeypatch.setattr(tensorrt, "import_tensorrt", lambda _flavour: FakeTensorRT(device, VERSION))
        monkeypatch.setattr(make, "choose_flavour", lambda flavour: flavour)
        monkeypatch.setattr(make, "check_buildable", lambda _spec, _library: None)
        monkeypatch.setattr(make, "find_plugin_library", lambda: None)
        monkeypatch.setattr(make, "build_engine", self.build)
        monkeypatch.setattr(tiles, "choose_flavour", lambda flavour: flavour)
        monkeypatch.setattr(tiles, "check_buildable", lambda _spec, _library: None)
        monkeypatch.setattr(tiles, "installed_version", lambda _flavour: VERSION)
        monkeypatch.setattr(tiles, "build_engine", self.build)
        monkeypatch.setattr(memory, "free_memory", lambda: self.free_bytes)
        monkeypatch.setattr("ksnet_deploy.export.engine.compile.installed_version", lambda _flavour: VERSION)
        monkeypatch.setattr(ladder, "this_machine", lambda: self.machine)
        return self

    def lacking(self, *runtimes: str) -> FakeCard:
        """Without those runtimes."""
        self.machine = Machine(RTX3080, "", dict.fromkeys(runtimes, "it is not installed"))
        return self

    def build(
        self,
        onnx: Path,
        engine: Path,
        spec: Any,
        *,
        model: str,
        prove: Callable[[Path], dict[str, Any] | None] = lambda _engine: None,
        on_progress: Callable[[str, int, int], None],
        **_: Any,
    ) -> Sidecar:
        """An "engine" that is the exported file, and its sidecar, as the compiler's process leaves them."""
        self.built.append(str(spec.sizes))
        on_progress("Building", 1, 2)
        unfinished = engine.with_suffix(".unfinished")
        shutil.copyfile(onnx, unfinished)
        sidecar = Sidecar(
            spec=spec,
            engine_sha256=sha256_of(unfinished),
            onnx_sha256=sha256_of(onnx),
            version=VERSION,
            model=model,
            inputs=(),
            outputs=(),
            layers={},
            metadata={},
            build_s=1.0,
        )
        if unfinished.read_bytes()[:1] == b"\x08":  # an ONNX file, which the stand-in for TensorRT runs
            fake_engine(onnx, unfinished, (str(spec.sizes.least), str(spec.sizes.best), str(spec.sizes.most)))
            described = Sidecar.read(unfinished)
            sidecar = replace(sidecar, inputs=described.inputs, outputs=described.outputs)
        sidecar.write(unfinished)
        verified = prove(unfinished)
        unfinished.rename(engine)
        sidecar_path(unfinished).unlink()
        sidecar = replace(sidecar, verified=verified)
        sidecar.write(engine)
        return sidecar
