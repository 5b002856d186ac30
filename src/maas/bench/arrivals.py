"""When requests of an open loop are due: a Poisson process, the same for the same seed."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

_AT_ONCE = 4096


def poisson_arrivals(rate: float, seconds: float, seed: int) -> Iterator[float]:
    """Seconds from the start, ascending and below `seconds`, on average `rate` of them each second."""
    generator = np.random.default_rng(seed)
    now = 0.0
    while True:
        for gap in generator.exponential(1 / rate, _AT_ONCE).tolist():
            now += gap
            if now >= seconds:
                return
            yield now
