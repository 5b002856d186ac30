"""Memory of the cache is known before it is taken, and a slot is copied without touching another."""

from __future__ import annotations

import pytest
import torch

from maas.errors import BadArtifact
from maas.runtimes.transformers.cache import CacheSize, KvCache, largest_size


def numbers(*shape: int) -> torch.Tensor:
    return torch.arange(torch.Size(shape).numel(), dtype=torch.float32).reshape(shape)


def test_as_many_slots_are_made_as_memory_holds() -> None:
    """The limit of memory decides, up to the slots that were asked for; the size says itself how it comes about."""
    assert largest_size(1_000_000, 16, context=100, bytes_per_token=1000) == CacheSize(10, 100, 1000)
    assert largest_size(999_999, 16, context=100, bytes_per_token=1000).slots == 9
    size = largest_size(10**12, 16, context=2048, bytes_per_token=46_080)
    assert str(size) == "16 slots × 2048 tokens × 46080 bytes = 1509.9 MB"


def test_memory_for_less_than_one_sequence_is_refused() -> None:
    """Where not one sequence of the longest context fits, the message has what it needs and what there is."""
    with pytest.raises(BadArtifact, match=r"may take 0\.1 MB, and one sequence needs 1 slots .* = 0\.1 MB"):
        largest_size(99_999, 16, context=100, bytes_per_token=1000)


def test_cache_takes_what_its_size_says() -> None:
    """Layers of any widths, for keys and values apart, are made at the first write; nothing is taken before it, nor after."""
    cache = KvCache(slots=3, context=8)
    assert cache.bytes == 0
    at = torch.tensor([0, 1])
    for _ in range(2):
        cache.write(0, at, at, numbers(2, 2, 6), numbers(2, 2, 4))
        cache.write(1, at, at, numbers(1, 2, 5).bfloat16(), numbers(1, 2, 5).bfloat16())
    assert cache.bytes_per_token == 4 * 2 * (6 + 4) + 2 * 1 * (5 + 5)
    assert cache.bytes == CacheSize(3, 8, cache.bytes_per_token).bytes


def test_tokens_are_written_where_they_belong() -> None:
    """Each token's keys go to its slot and position, and all else stays nought."""
    keys, values = KvCache(3, 8).write(
        0, torch.tensor([2, 0, 2]), torch.tensor([5, 1, 6]), numbers(2, 3, 4) + 1, numbers(2, 3, 4) + 1
    )
    assert torch.equal(keys[2, :, 5:7], (numbers(2, 3, 4) + 1)[:, [0, 2]])
    assert torch.equal(keys[0, :, 1], (numbers(2, 3, 4) + 1)[:, 1])
    assert int(keys.count_nonzero()) == 2 * 3 * 4
    assert torch.equal(keys, values)


def test_copy_takes_a_prefix_and_leaves_the_rest() -> None:
    """Of the target only the first positions change, of other slots none."""
    cache = KvCache(3, 4)
    slots, positions = torch.arange(3).repeat_interleave(4), torch.arange(4).repeat(3)
    keys, values = cache.write(0, slots, positions, numbers(2, 12, 3) + 1, -numbers(2, 12, 3) - 1)
    before = keys.clone(), values.clone()
    cache.copy(source=0, target=2, length=3)
    for now, then in zip((keys, values), before, strict=True):
        assert torch.equal(now[2, :, :3], then[0, :, :3])
        assert torch.equal(now[2, :, 3:], then[2, :, 3:])
        assert torch.equal(now[:2], then[:2])
