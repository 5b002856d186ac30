"""Buckets: lengths that are taken for one, so that what waits is grouped when it comes and not when it is to run."""

from __future__ import annotations

from maas.types import Lengths

# Buckets for each doubling of a length, by how many lengths a request has. With one, those of a bucket differ by an eighth at
# most; with more they are coarser, for buckets multiply, and a decision has to look over them.
_STEPS = {1: 8, 2: 4}
_FEWEST_STEPS = 2


def bucket_of(lengths: Lengths) -> Lengths:
    """`lengths`, each rounded up to the longest of its bucket."""
    steps = _STEPS.get(len(lengths), _FEWEST_STEPS)
    return tuple([_round_up(length, steps) for length in lengths])


def _round_up(length: int, steps: int) -> int:
    step = 1 << max(0, (length - 1).bit_length() - steps.bit_length())
    return -(-length // step) * step
