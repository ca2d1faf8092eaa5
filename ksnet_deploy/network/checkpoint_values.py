"""Numbers of NumPy, which training programs leave in a checkpoint beside the weights: a best PSNR, random states."""

from __future__ import annotations

import codecs
from functools import cache
from typing import Any

import numpy as np

__all__ = ["numpy_globals"]


@cache
def numpy_globals() -> list[Any]:
    """Types and functions that NumPy's numbers and arrays are built from, for PyTorch's ``safe_globals``.

    Building them runs nothing of the file's choice. They are named as versions 1 and 2 of NumPy write them.
    """
    named = [(np.float64(0).__reduce__()[0], "scalar"), (np.zeros(0).__reduce__()[0], "_reconstruct")]
    dtypes = [value for value in vars(np.dtypes).values() if isinstance(value, type) and issubclass(value, np.dtype)]
    return [
        *((what, f"numpy.{core}.multiarray.{name}") for what, name in named for core in ("core", "_core")),
        *(np.ndarray, np.dtype, *dtypes, codecs.encode),
    ]
