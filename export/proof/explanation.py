"""Explanation of a failed proof: which outputs differ, over recorded states."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from ksnet_deploy.base.errors import VerificationError
from ksnet_deploy.export.polygraphy import is_installed
from ksnet_deploy.network.config import Precision, StepName
from ksnet_deploy.runtime.base import Runner
from ksnet_deploy.runtime.pair import PAIR

__all__ = ["explained", "explained_pair", "named_outputs"]

Open = Callable[[], Runner]
OpenStep = Callable[[StepName], Runner]

NAMED_WITH_POLYGRAPHY = "with polygraphy installed, the outputs that differ are named"


@contextmanager
def explained(open_reference: Open, open_candidate: Open, precision: Precision) -> Iterator[None]:
    """Let a VerificationError name the outputs that differ, as :func:`named_outputs` finds them."""
    try:
        yield
    except VerificationError as error:
        raise VerificationError(f"{error}; {named_outputs(open_reference, open_candidate, precision)}") from error


@contextmanager
def explained_pair(open_reference: OpenStep, open_candidate: OpenStep, precision: Precision) -> Iterator[None]:
    """:func:`explained` for the two steps of a bidirectional network."""
    try:
        yield
    except VerificationError as error:
        raise VerificationError(
            f"{error}; {named_outputs_of_pair(open_reference, open_candidate, precision)}"
        ) from error


def named_outputs_of_pair(open_reference: OpenStep, open_candidate: OpenStep, precision: Precision) -> str:
    """:func:`named_outputs` of both steps; the second on the features that the reference's first gives."""
    if not is_installed():
        return NAMED_WITH_POLYGRAPHY
    from ksnet_deploy.export.proof.outputs import compare_outputs
    from ksnet_deploy.export.proof.recording import recorded_features

    features = None
    found = []
    for step in PAIR:
        with open_candidate(step) as candidate, open_reference(step) as reference:
            found.append(f"{step}: {compare_outputs(reference, candidate, precision, features).in_words()}")
            features = recorded_features(reference) if features is None else None
    return "; ".join(found)


def named_outputs(open_reference: Open, open_candidate: Open, precision: Precision) -> str:
    """The outputs that differ, found by runners that are opened for it, as the end of a sentence.

    Where Polygraphy is not installed, it says that they would be named.
    """
    if not is_installed():
        return NAMED_WITH_POLYGRAPHY
    from ksnet_deploy.export.proof.outputs import compare_outputs

    with open_candidate() as candidate, open_reference() as reference:
        return compare_outputs(reference, candidate, precision).in_words()
