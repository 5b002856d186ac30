"""The element types that a tensor may declare, and what NumPy makes of them.

NumPy knows no bfloat16. `ml_dtypes` brings it, which is imported when an array of it is first asked for; and NumPy counts it
among no floats: its kind is `V`, that of anything unknown. So who wants to know asks `is_float` here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

import numpy as np

BFLOAT16 = "bfloat16"

_NAMES = (
    "bool", "uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32", "int64",
    "float16", BFLOAT16, "float32", "float64", "bytes",
)  # fmt: skip


class _Dtypes(Mapping[str, np.dtype[Any]]):
    def __getitem__(self, name: str) -> np.dtype[Any]:
        return _dtype(name)

    def __contains__(self, name: object) -> bool:
        return name in _NAMES

    def __iter__(self) -> Iterator[str]:
        return iter(_NAMES)

    def __len__(self) -> int:
        return len(_NAMES)


DTYPES: Mapping[str, np.dtype[Any]] = _Dtypes()
"""By name. `bytes` elements are Python `bytes` in an array of dtype object."""


def is_float(dtype: np.dtype[Any]) -> bool:
    return dtype.kind == "f" or is_bfloat16(dtype)


def is_bfloat16(dtype: np.dtype[Any]) -> bool:
    return dtype.kind == "V" and dtype.name == BFLOAT16


def float_info(dtype: np.dtype[Any]) -> Any:
    """The limits of a dtype of floats, under the names of `np.finfo`."""
    if is_bfloat16(dtype):
        import ml_dtypes

        return ml_dtypes.finfo(dtype)  # type: ignore[no-untyped-call]
    return np.finfo(dtype)


@cache
def _dtype(name: str) -> np.dtype[Any]:
    if name not in _NAMES:
        raise KeyError(name)
    if name == BFLOAT16:
        import ml_dtypes

        found: np.dtype[Any] = np.dtype(ml_dtypes.bfloat16)
        return found
    return np.dtype("object" if name == "bytes" else name)
