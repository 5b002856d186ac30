"""When requests are due: fixed before the first is sent, so that a slow server cannot slow its own load down."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Phase:
    """`rate` requests a second on average, for `seconds`."""

    rate: float
    seconds: float


def poisson_arrivals(phases: Sequence[Phase], seed: int) -> NDArray[np.float64]:
    """Seconds from the start at which requests are due: independent exponential gaps, phase after phase."""
    generator = np.random.default_rng(seed)
    start = 0.0
    arrivals = []
    for phase in phases:
        # Given their number, the arrivals of a Poisson process lie independently and evenly.
        count = generator.poisson(phase.rate * phase.seconds)
        arrivals.append(start + np.sort(generator.uniform(0.0, phase.seconds, count)))
        start += phase.seconds
    return np.concatenate(arrivals)
