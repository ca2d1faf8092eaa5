"""Explanation of a failed proof: which outputs differ, over recorded states."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from ksnet_deploy.base.errors import VerificationError
from ksnet_deploy.export.polygraphy import is_installed
from ksnet_deploy.network.config import Precision
from ksnet_deploy.runtime.base import Runner

__all__ = ["explained", "named_outputs"]

Open = Callable[[], Runner]


@contextmanager
def explained(open_reference: Open, open_candidate: Open, precision: Precision) -> Iterator[None]:
    """Let a VerificationError name the outputs that differ, as :func:`named_outputs` finds them."""
    try:
        yield
    except VerificationError as error:
        raise VerificationError(f"{error}; {named_outputs(open_reference, open_candidate, precision)}") from error


def named_outputs(open_reference: Open, open_candidate: Open, precision: Precision) -> str:
    """The outputs that differ, found by runners that are opened for it, as the end of a sentence.

    Where Polygraphy is not installed, it says that they would be named.
    """
    if not is_installed():
        return "with polygraphy installed, the outputs that differ are named"
    from ksnet_deploy.export.proof.outputs import compare_outputs

    with open_candidate() as candidate, open_reference() as reference:
        return compare_outputs(reference, candidate, precision).in_words()
