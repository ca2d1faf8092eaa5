"""Before a cluster is there: Ray itself, addresses, and versions that must be the same on every machine.

Ray is imported here, and only when a cluster is asked for.
"""

from __future__ import annotations

import os
import secrets
import socket
from pathlib import Path
from typing import Any

from ksnet_deploy.base.errors import BackendError, ConfigError
from ksnet_deploy.base.machine import cores
from ksnet_deploy.base.version import __version__, package_version
from ksnet_deploy.export.cache import code_sha256

__all__ = ["TOKEN_FILE", "check_address", "import_ray", "seen_here", "versions"]

TOKENS, TOKEN_FILE = ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"), Path.home() / ".ray" / "auth_token"
"""Places of the secret that machines of a cluster know each other by."""
COMPARED = ("av", "numpy", "torch", "onnxruntime", "onnxruntime-gpu", "openvino")
"""Packages whose versions change the pictures."""


def import_ray(*, joins: bool) -> Any:
    """Ray, quiet, and not open to everyone on the network.

    Args:
        joins: whether a cluster is joined, by the token that this machine has; else one is started, with its own.

    Raises:
        BackendError: Ray is not installed.
    """
    # All of it is read when Ray is imported.
    if not joins:
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
    if not joins or any(map(os.environ.get, TOKENS)) or TOKEN_FILE.is_file():  # 'ray start --head' makes one
        os.environ.setdefault("RAY_AUTH_MODE", "token")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    os.environ.setdefault("RAY_DEDUP_LOGS", "0")
    try:
        import ray
        import ray._private.worker as driver
    except ImportError as error:
        raise BackendError(
            f"films over many workers need Ray, which is not installed ({error}); pip install 'ksnet-deploy[cluster]', "
            "or leave --cluster out"
        ) from error
    # What it tells of lost workers goes to standard output, where results and frames go; we tell it in our own words.
    driver.print_to_stdstream = lambda *_, **__: None
    return ray


def versions() -> dict[str, str]:
    """Versions here of all that must be the same on every machine."""
    found = {name: package_version(name) for name in COMPARED}
    return {"ksnet-deploy": f"{__version__} (code {code_sha256()[:8]})"} | {k: v or "none" for k, v in found.items()}


def seen_here() -> str:
    """Cores and GPUs that Ray would see on this machine, in words."""
    import_ray(joins=False)
    from ray._private.accelerators import get_accelerator_manager_for_resource

    manager = get_accelerator_manager_for_resource("GPU")
    gpus = 0 if manager is None else manager.get_current_node_num_accelerators()
    workers = f"{gpus} workers, one for each GPU" if gpus else f"{cores()} workers, one for each core"
    return f"sees {cores()} cores and {gpus} GPUs: upscale --cluster starts {workers}"


def check_address(address: str) -> None:
    """Raise ConfigError for what is no address, BackendError where nothing answers there."""
    host, colon, port = address.rpartition(":")
    if not (colon and host and port.isdecimal() and int(port) < 65536) or "://" in address:
        raise ConfigError(f"'{address}' is no address of a cluster; give HOST:PORT, as 'ray start' prints it, or auto")
    try:
        with socket.create_connection((host, int(port)), timeout=10):
            pass
    except OSError as error:
        raise BackendError(
            f"no cluster answers at {address} ({error.strerror or error}); start one there with 'ray start --head'"
        ) from error
