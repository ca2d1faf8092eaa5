"""Whether H.264 video is coded without colours, which FFmpeg fills up with grey and does not tell."""

from __future__ import annotations

import re

__all__ = ["is_monochrome"]

WITH_CHROMA_FORMAT = frozenset({44, 83, 86, 100, 110, 118, 122, 128, 134, 135, 138, 139, 244})
"""Profiles whose parameter sets say how much of the colour is coded (ITU-T H.264, 7.3.2.1.1)."""


def is_monochrome(header: bytes) -> bool:
    """Whether the first sequence parameter set says so, of a header as MP4 has it (avcC) or with start codes."""
    if header[:1] == b"\x01":
        parameters = header[8:]
    else:
        start = re.search(rb"\x00\x00\x01[\x07\x27\x47\x67]", header)
        parameters = b"" if start is None else header[start.end() - 1 :]
    if len(parameters) < 6 or parameters[1] not in WITH_CHROMA_FORMAT:
        return False
    bits = "".join(f"{byte:08b}" for byte in parameters[4:16])
    _number, bits = _exp_golomb(bits)
    chroma_format, _ = _exp_golomb(bits)
    return chroma_format == 0


def _exp_golomb(bits: str) -> tuple[int, str]:
    """The first number of a string of zeros and ones, and the rest; -1 where there is none."""
    zeros = len(bits) - len(bits.lstrip("0"))
    number = bits[zeros : 2 * zeros + 1]
    return (int(number, 2) - 1 if number else -1), bits[2 * zeros + 1 :]
