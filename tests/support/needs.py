"""What some tests need of the machine and of what is installed, with the reason that pytest reports."""

from __future__ import annotations

import pytest

from ksnet_deploy.base.machine import has_bfloat16, has_vnni
from ksnet_deploy.runtime.openvino import is_installed

needs_bfloat16 = pytest.mark.skipif(not has_bfloat16(), reason="this processor has no bfloat16")
needs_openvino = pytest.mark.skipif(not is_installed(), reason="OpenVINO is not installed (extra 'openvino')")
needs_vnni = pytest.mark.skipif(not has_vnni(), reason="this processor has no instructions for sums of bytes (VNNI)")
