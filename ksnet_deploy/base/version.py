"""The version of the package, in the one place where it stands, and those of installed packages."""

from __future__ import annotations

__all__ = ["__version__", "package_version"]

__version__ = "0.1.0"


def package_version(package: str) -> str | None:
    """Version of an installed package; None where it is not installed."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(package)
    except PackageNotFoundError:
        return None
