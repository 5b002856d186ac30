"""An array of every datatype, at the ends of its range."""

from __future__ import annotations

import numpy as np


def _ends(name: str) -> np.ndarray:
    dtype = np.dtype(name)
    limits = np.iinfo(dtype) if dtype.kind in "iu" else np.finfo(dtype)
    return np.array([[limits.min, 1, limits.max]], dtype)


ARRAYS = {
    "bool": np.array([[True, False, True]]),
    **{f"{kind}{bits}": _ends(f"{kind}{bits}") for kind in ("uint", "int") for bits in (8, 16, 32, 64)},
    **{name: _ends(name) for name in ("float16", "float32", "float64")},
    "bytes": np.array([[b"one", b"", "zwölf".encode()]], dtype=object),
}


def with_bfloat16() -> dict[str, np.ndarray]:
    """For clients that know BF16 as NumPy knows it, by `ml_dtypes`: up to the greatest, and a number that it rounds."""
    import ml_dtypes

    most = float(ml_dtypes.finfo(ml_dtypes.bfloat16).max)
    return {**ARRAYS, "bfloat16": np.array([[-most, 0.1, most]], ml_dtypes.bfloat16)}


DATATYPES = {
    "bool": "BOOL",
    **{f"uint{bits}": f"UINT{bits}" for bits in (8, 16, 32, 64)},
    **{f"int{bits}": f"INT{bits}" for bits in (8, 16, 32, 64)},
    **{f"float{bits}": f"FP{bits}" for bits in (16, 32, 64)},
    "bytes": "BYTES",
}


def as_text(array: np.ndarray) -> np.ndarray:
    """What a client makes of BYTES that it decodes; other arrays as they are."""
    return np.vectorize(bytes.decode, otypes=[object])(array) if array.dtype == object else array
