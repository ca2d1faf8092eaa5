"""Target of an engine: a flavour of TensorRT, a GPU, and a range of frame sizes."""

from __future__ import annotations

import importlib
import importlib.util
import re
from dataclasses import dataclass
from typing import Any, Literal

from ksnet_deploy.base.errors import BackendError, ConfigError
from ksnet_deploy.base.frames import FrameSize

__all__ = ["FLAVOURS", "Flavour", "GpuTarget", "SizeRange", "choose_flavour", "import_tensorrt"]

Flavour = Literal["rtx", "tensorrt"]
"""``rtx`` is TensorRT for RTX, which builds for a GPU that is not there; ``tensorrt`` builds for the one at hand."""
FLAVOURS: dict[Flavour, str] = {"rtx": "tensorrt_rtx", "tensorrt": "tensorrt"}
"""Python module of each flavour."""

_GPUS = {
    **dict.fromkeys(("gtx1650", "gtx1660", "rtx2060", "rtx2070", "rtx2080", "t4"), 75),
    **dict.fromkeys(("a100", "a30"), 80),
    **dict.fromkeys(("rtx3050", "rtx3060", "rtx3070", "rtx3080", "rtx3090", "a10", "a40", "rtxa6000"), 86),
    **dict.fromkeys(("rtx4050", "rtx4060", "rtx4070", "rtx4080", "rtx4090", "l4", "l40"), 89),
    **dict.fromkeys(("h100", "h200"), 90),
    **dict.fromkeys(("rtx5050", "rtx5060", "rtx5070", "rtx5080", "rtx5090"), 120),
}
"""Compute capability of cards, from NVIDIA's CUDA GPU list; names in lower case without spaces, 'Ti' and 'Super'."""


DEFAULT_SIZE = "180x320"
"""LR frames that an engine is for, unless another size is given."""


@dataclass(frozen=True)
class GpuTarget:
    """A compute capability, times ten: 86 is 8.6."""

    sm: int

    @classmethod
    def parse(cls, text: str) -> GpuTarget:
        """Read ``rtx3080``, ``sm86`` or ``8.6``. Raises ConfigError for anything else."""
        name = re.sub(r"[\s_-]|nvidia|geforce|(ti)?(super)?$", "", text.strip().lower())
        if name in _GPUS:
            return cls(_GPUS[name])
        match = re.fullmatch(r"(?:sm)?(\d{2,3})|(\d{1,2})\.(\d)", name)
        if match is None:
            raise ConfigError(
                f"'{text}' is no GPU that is known here; give its compute capability, for example sm86 for an RTX 3080"
            )
        return cls(int(match[1] or match[2] + match[3]))

    def __str__(self) -> str:
        return f"sm{self.sm}"


@dataclass(frozen=True)
class SizeRange:
    """LR frame sizes that an engine takes; it is fastest at ``best``."""

    least: FrameSize
    best: FrameSize
    most: FrameSize

    def __post_init__(self) -> None:
        heights = [size.height for size in (self.least, self.best, self.most)]
        widths = [size.width for size in (self.least, self.best, self.most)]
        if heights != sorted(heights) or widths != sorted(widths):
            raise ConfigError(
                f"the sizes {self.least}, {self.best}, {self.most} are not in order; give --min, --opt and --max with "
                "heights and widths that do not fall"
            )
        if self.least != self.least.padded:
            raise ConfigError(
                f"a smallest size of {self.least} is below the network's {self.least.padded}; raise --min"
            )

    @classmethod
    def fixed(cls, size: FrameSize) -> SizeRange:
        return cls(size, size, size)

    @classmethod
    def parse(cls, size: str | None, least: str | None, best: str | None, most: str | None) -> SizeRange:
        """The sizes of ``--size``, or of all of ``--min``, ``--opt`` and ``--max``; :data:`DEFAULT_SIZE` without any.

        Raises ConfigError when some are missing, or there are too many.
        """
        if least is None and best is None and most is None:
            return cls.fixed(FrameSize.parse(size or DEFAULT_SIZE))
        if size is not None:
            raise ConfigError(
                "--size is for an engine of one size, and --min, --opt and --max are for one of many; give the one or "
                "the others"
            )
        if least is None or best is None or most is None:
            raise ConfigError("an engine for many sizes needs all of --min, --opt and --max")
        return cls(FrameSize.parse(least), FrameSize.parse(best), FrameSize.parse(most))

    @property
    def is_fixed(self) -> bool:
        return self.least == self.most

    def __contains__(self, size: FrameSize) -> bool:
        return (
            self.least.height <= size.height <= self.most.height and self.least.width <= size.width <= self.most.width
        )

    def __str__(self) -> str:
        return str(self.best) if self.is_fixed else f"{self.least} to {self.most}, best {self.best}"


def choose_flavour(wanted: Flavour | Literal["auto"]) -> Flavour:
    """The wanted flavour, or the one that is installed; full TensorRT where both are.

    Raises BackendError when it is not installed.
    """
    for flavour in ("tensorrt", "rtx") if wanted == "auto" else (wanted,):
        if importlib.util.find_spec(FLAVOURS[flavour]) is not None:
            return flavour
    missing = "neither TensorRT nor TensorRT-RTX" if wanted == "auto" else f"no {FLAVOURS[wanted]}"
    raise BackendError(
        f"{missing} is installed here; install ksnet-deploy with the extra 'rtx' (builds without a GPU) or 'tensorrt'"
    )


def import_tensorrt(flavour: Flavour) -> Any:
    """The Python module of a flavour. Raises BackendError when it cannot be imported."""
    try:
        return importlib.import_module(FLAVOURS[flavour])
    except Exception as error:  # the packages raise what they like when a library is missing
        raise BackendError(
            f"{FLAVOURS[flavour]} cannot be imported ({error}); install ksnet-deploy with the extra '{flavour}'"
        ) from error
