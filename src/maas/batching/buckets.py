"""Buckets: lengths that are taken for one, so that what waits is grouped when it comes and not when it is to run."""

from __future__ import annotations

from maas.types import Lengths

_STEPS = 8  # for each doubling: a bucket's requests differ by an eighth at most, a sixteenth on average


def bucket_of(lengths: Lengths) -> Lengths:
    """`lengths`, each rounded up to the longest of its bucket."""
    return tuple(map(_round_up, lengths))


def _round_up(length: int) -> int:
    step = 1 << max(0, (length - 1).bit_length() - _STEPS.bit_length())
    return -(-length // step) * step
