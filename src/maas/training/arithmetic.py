"""Arithmetic that gives the same numbers on one machine however many cores it has."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

TRAINING_THREADS = 1
"""The order of a sum depends on the number of threads; these models gain nothing from a second one."""


@contextmanager
def reproducible_arithmetic() -> Iterator[None]:
    """A fixed number of threads and a random state of its own inside; both are as before afterwards."""
    threads = torch.get_num_threads()
    torch.set_num_threads(TRAINING_THREADS)
    try:
        with torch.random.fork_rng(devices=[]):
            yield
    finally:
        torch.set_num_threads(threads)
