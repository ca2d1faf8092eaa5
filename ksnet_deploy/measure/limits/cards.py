"""GPUs by the figures that their maker publishes, for estimates of cards that are not here."""

from __future__ import annotations

import re
from dataclasses import dataclass

from ksnet_deploy.base.errors import ConfigError
from ksnet_deploy.measure.limits.peaks import Peaks

__all__ = ["CARDS", "CardFigures", "find_card_figures"]

AMPERE = "NVIDIA Ampere GA102 GPU Architecture whitepaper"
ADA = "NVIDIA Ada GPU Architecture whitepaper"


@dataclass(frozen=True)
class CardFigures:
    """Dense half-precision tensor operations and memory of a card."""

    label: str
    tflops_fp32_sum: float
    """1e12 operations per second where products are summed in float32."""
    tflops_fp16_sum: float
    """Rate where they are summed in half; twice as many on GeForce cards."""
    gb_per_s: float
    source: str

    def peaks(self, *, half_sum: bool) -> Peaks:
        tflops = self.tflops_fp16_sum if half_sum else self.tflops_fp32_sum
        return Peaks(tflops * 1e12, self.gb_per_s * 1e9, self.source)


CARDS = {
    "rtx3070": CardFigures("RTX 3070", 40.6, 81.3, 448, AMPERE),
    "rtx3080": CardFigures("RTX 3080", 59.5, 119, 760, AMPERE),
    "rtx3090": CardFigures("RTX 3090", 71, 142, 936, AMPERE),
    "rtx4080": CardFigures("RTX 4080", 97.5, 194.9, 717, ADA),
    "rtx4090": CardFigures("RTX 4090", 165.2, 330.3, 1008, ADA),
    "t4": CardFigures("T4", 65, 65, 320, "NVIDIA T4 datasheet"),
    "a100": CardFigures("A100 40 GB", 312, 312, 1555, "NVIDIA A100 Tensor Core GPU Architecture whitepaper"),
    "h100": CardFigures("H100 SXM5", 989.4, 989.4, 3352, "NVIDIA H100 Tensor Core GPU Architecture whitepaper"),
}


def find_card_figures(name: str) -> CardFigures:
    """Figures of a card by a name such as ``rtx3080`` or ``RTX 3080``. Raises ConfigError for others."""
    key = re.sub(r"[\s_-]|nvidia|geforce", "", name.strip().lower())
    if key not in CARDS:
        raise ConfigError(f"the figures of '{name}' are not known here; give one of {', '.join(CARDS)}")
    return CARDS[key]
