"""Explanation of a failed proof: which outputs differ, over recorded states."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from ksnet_deploy.base.errors import VerificationError
from ksnet_deploy.export.polygraphy import is_installed
from ksnet_deploy.network.config import Precision, StepName
from ksnet_deploy.runtime.base import Runner
from ksnet_deploy.runtime.pair import PAIR

__all__ = ["explained", "named_outputs", "named_outputs_of_pair"]

Open = Callable[[], Runner]
OpenStep = Callable[[StepName], Runner]

NAMED_WITH_POLYGRAPHY = "with polygraphy installed, the outputs that differ are named"


@contextmanager
def explained(name: Callable[[], str]) -> Iterator[None]:
    """A proof; one that fails ends with the outputs that differ, which ``name`` finds."""
    try:
        yield
    except VerificationError as error:
        raise VerificationError(f"{error}; {name()}") from error


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
