"""The CUDA sources, compiled for this CPU."""

from __future__ import annotations

from pathlib import Path

import pytest
from native_kernels import ROOT, compile_for_cpu

from ksnet_deploy.ops.native import KernelLibrary


@pytest.fixture(scope="session")
def kept_objects(shared_folder: Path) -> Path:
    """Where what is compiled is kept for all tests."""
    return shared_folder / "objects"


@pytest.fixture(scope="session")
def cpu_library(tmp_path_factory: pytest.TempPathFactory, kept_objects: Path) -> Path:
    """The .cu files and the element-wise loops."""
    sources = [*sorted((ROOT / "plugins").glob("*/*.cu")), ROOT / "tests" / "native" / "functors.cpp"]
    return compile_for_cpu(tmp_path_factory.mktemp("native") / "libksnet_on_cpu.so", sources, kept_objects)


@pytest.fixture(scope="session")
def kernels(cpu_library: Path) -> KernelLibrary:
    """The Python binding of the kernels, on that library."""
    return KernelLibrary(cpu_library)
