"""What it takes to compress an answer, and what that saves, by its size: from where on it pays, and on which networks.

    python -m benchmarks.compression

An answer of random floats, as a model's probabilities look, in JSON and raw. `pays below` is the speed of a network on which
compressing here and inflating there take as long as sending what they save; times are the processor's, the best of several rounds.
"""

from __future__ import annotations

import asyncio
import time
import zlib
from collections.abc import Callable

import numpy as np
import orjson

from maas.api.codings import GZIP
from maas.api.compression import compressed
from maas.api.operation import Payload

_ELEMENTS = (4, 64, 256, 1024, 4096, 6144, 16_384, 65_536, 262_144)
_ROUNDS, _SECONDS = 5, 0.02
_GZIP_WINDOW = 31


def best_of(function: Callable[[], object]) -> float:
    """Seconds of the processor that one call takes."""
    start = time.thread_time()
    function()
    times = max(1, int(_SECONDS / max(time.thread_time() - start, 1e-7)))
    rounds = []
    for _ in range(_ROUNDS):
        start = time.thread_time()
        for _ in range(times):
            function()
        rounds.append((time.thread_time() - start) / times)
    return min(rounds)


def row(kind: str, content: bytes) -> str:
    payload = Payload(content)
    small = bytes(compressed(payload, GZIP).data)
    writing = best_of(lambda: compressed(payload, GZIP))
    reading = best_of(lambda: zlib.decompress(small, _GZIP_WINDOW))
    saved = len(content) - len(small)
    pays = f"{saved * 8 / (writing + reading) / 1e6:6.0f} Mbit/s" if saved > 0 else "   nowhere"
    share = len(small) / len(content)
    return f"{kind:5} {len(content):9,} {share:6.2f} {writing * 1e6:10.1f} {reading * 1e6:10.1f}  {pays}"


async def hop() -> float:
    """Seconds that handing nothing to an idle thread and back takes."""
    start = time.perf_counter()
    for _ in range(500):
        await asyncio.to_thread(time.monotonic)
    return (time.perf_counter() - start) / 500


def main() -> None:
    rng = np.random.default_rng(0)
    print("kind      bytes  share  compress µs  inflate µs  pays below")
    for elements in _ELEMENTS:
        values = rng.random(elements, dtype=np.float32)
        print(row("JSON", orjson.dumps({"y": values}, option=orjson.OPT_SERIALIZE_NUMPY)))
        print(row("raw", values.tobytes()))
    print(f"a thread and back: {asyncio.run(hop()) * 1e6:.0f} µs")


if __name__ == "__main__":
    main()
