"""Changes to a body that leave it JSON, so that fuzzing gets behind the parser: bytes alone seldom do."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from typing import Any

_LEAVES: tuple[Any, ...] = (
    0, 1, -1, 127, 128, 255, 256, 65504, 65520, 2**31, -(2**31) - 1, 2**53 + 1, 2**63, -(2**63), 2**64 - 1, 2**64,
    10**30, 10**400, 0.0, -0.0, 0.1, 1.5, 1e-320, 1e308, 65519.99, 3.4028235677973366e38, float("nan"), float("inf"),
    True, False, None, "", "a", "a:b", "\x00", "\ud800", "\u00e9", "1", "timeout", [], {}, [[]], [1, 2], [[1], [2, 3]],
)  # fmt: skip
_PLAIN_IN = 4  # of so many mutations one is of bytes


def mutate(data: bytes, most: int, seed: int, mutate_bytes: Callable[[bytes, int], bytes]) -> bytes:
    """`data` with one to four values changed, or some bytes where it is no JSON; at most `most` bytes."""
    generator = random.Random(seed)
    if generator.randrange(_PLAIN_IN):
        try:
            value = json.loads(data[1:])
            for _ in range(generator.randint(1, 4)):
                value = _change(value, generator)
            changed = data[:1] + json.dumps(value, ensure_ascii=generator.random() < 0.5).encode()
        except (ValueError, RecursionError):
            changed = b""
        if 0 < len(changed) <= most:
            return changed
    return mutate_bytes(data, most)


def _change(value: Any, generator: random.Random) -> Any:
    """`value` with something in it replaced, doubled, dropped, nested deeper or swapped for another part of it."""
    parts = list(value) if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    if not parts or generator.random() < 0.2:
        return generator.choice([generator.choice(_LEAVES), [value], value])
    at, other = generator.choice(parts), generator.choice(parts)
    match generator.randrange(8):
        case 0:
            del value[at]
        case 1 if isinstance(value, list):
            value.insert(at, value[other])
        case 2:
            value[at] = value[other]
        case 3 if isinstance(value, dict):
            value[generator.choice(["id", "timeout", "parameters", "name", "?"])] = value[at]
        case _:
            value[at] = _change(value[at], generator)
    return value
