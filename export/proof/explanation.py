"""Explanation of a failed proof: which outputs differ, over recorded states."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from ksnet_deploy.base.errors import VerificationError
from ksnet_deploy.export.polygraphy import is_installed
from ksnet_deploy.network.config import Precision
from ksnet_deploy.runtime.base import Runner

__all__ = ["explained"]


@contextmanager
def explained(
    open_reference: Callable[[], Runner], open_candidate: Callable[[], Runner], precision: Precision
) -> Iterator[None]:
    """Let a VerificationError name the outputs that differ, found by runners that are opened for it.

    Where Polygraphy is not installed, the error says that it would name them.
    """
    try:
        yield
    except VerificationError as error:
        if not is_installed():
            raise VerificationError(f"{error}; with polygraphy installed, the outputs that differ are named") from error
        from ksnet_deploy.export.proof.outputs import compare_outputs

        with open_candidate() as candidate, open_reference() as reference:
            words = compare_outputs(reference, candidate, precision).in_words()
        raise VerificationError(f"{error}; {words}") from error
