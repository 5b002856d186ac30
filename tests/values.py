"""Values of arrays, for tests that draw them."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import strategies as st


def values_of(dtype: np.dtype[Any]) -> st.SearchStrategy[Any]:
    """Every value that there is of `dtype`. Hypothesis' own `from_dtype` draws float16 as wider numbers, throws most of them
    away, and gives up now and then."""
    if dtype == np.bool_:
        return st.booleans()
    size = dtype.itemsize
    return st.binary(min_size=size, max_size=size).map(lambda raw: np.frombuffer(raw, dtype)[0])
