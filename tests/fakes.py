"""Fakes that stand in for what a test does not want to start; each passes the contract tests of the real thing."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from maas.batching.execution import BatchResult
from maas.errors import ComputeTimeout, WorkerDied
from maas.generation.job import Token
from maas.generation.scheduler import Plan
from maas.generation.slots import Copy
from maas.tensors.check import is_finite
from maas.tensors.stack import stack
from maas.types import Signature, Tensors


def double(inputs: Tensors) -> Tensors:
    """The usual model of these tests: y = 2 x."""
    return {"y": inputs["x"] * 2}


@dataclass(eq=False)
class FakeInstance:
    """An instance without a process: stacks the requests, takes `seconds` of the loop's time, applies `function`. Before and
    after it takes `input` and `output`.

    `batches` records the requests of each batch that was started. `fail_with` is raised instead of answering while it is
    set; `judge` may give an error to raise over a stacked batch. An error that means the end of a process calls `on_death`.
    """

    signature: Signature
    function: Callable[[Tensors], Tensors] = double
    seconds: float = 0.0
    fail_with: Exception | None = None
    judge: Callable[[Tensors, int], Exception | None] = lambda _inputs, _rows: None
    on_death: Callable[[FakeInstance], None] = lambda _: None
    batches: list[list[Tensors]] = field(default_factory=list)
    input: float = 0.0
    output: float = 0.0

    async def run(self, requests: Sequence[Tensors], rows: int) -> BatchResult:
        self.batches.append(list(requests))
        await asyncio.sleep(self.input + self.seconds + self.output)
        stacked = self._stack(requests, rows)
        if (error := self.fail_with or self.judge(stacked, rows)) is not None:
            if isinstance(error, WorkerDied | ComputeTimeout):
                self.on_death(self)
            raise error
        outputs = self.function(stacked)
        return BatchResult(
            outputs, self.seconds, all(map(is_finite, outputs.values())), self.input, self.output
        )

    def _stack(self, requests: Sequence[Tensors], rows: int) -> Mapping[str, np.ndarray]:
        stacked = {}
        for spec, column in zip(self.signature.inputs, stack(self.signature, requests), strict=True):
            stacked[spec.name] = column.stacked()
            assert spec.batch_axis is None or stacked[spec.name].shape[spec.batch_axis] == rows
        return stacked


def next_token(tokens: Sequence[int], vocabulary: int) -> int:
    """The usual language model of these tests: what it says depends on each token before."""
    return zlib.crc32(bytes(tokens)) % vocabulary


class FakeCache:
    """A key/value cache without tensors: what is written at a position is the token itself."""

    def __init__(self, slots: int, context: int) -> None:
        self.written: list[list[int | None]] = [[None] * context for _ in range(slots)]

    def copy(self, copies: Sequence[Copy]) -> None:
        for copy in copies:
            assert copy.source != copy.target
            assert copy.length > 0
            self.written[copy.target][: copy.length] = self.read(copy.source, copy.length)

    def write(self, slot: int, start: int, tokens: Sequence[int | None]) -> None:
        assert start >= 0
        assert start + len(tokens) <= len(self.written[slot])
        self.written[slot][start : start + len(tokens)] = tokens

    def read(self, slot: int, length: int) -> list[int]:
        """The first `length` positions, all of which must have been written."""
        tokens = [token for token in self.written[slot][:length] if token is not None]
        assert len(tokens) == length
        return tokens


class FakeEngine:
    """An engine that runs a scheduler's plans on a `FakeCache`. Each plan for which `judge` gives an error fails with it, after it
    has spoilt the positions that it should have written."""

    def __init__(self, slots: int, context: int, vocabulary: int) -> None:
        self.cache = FakeCache(slots, context)
        self._vocabulary = vocabulary
        self.judge: Callable[[Plan], Exception | None] = lambda _: None

    def run(self, plan: Plan) -> list[Token]:
        self.cache.copy(plan.copies)
        if (error := self.judge(plan)) is not None:
            for chunk in plan.chunks:
                self.cache.write(chunk.slot, chunk.start, [None] * len(chunk.tokens))
            raise error
        for chunk in plan.chunks:
            self.cache.write(chunk.slot, chunk.start, chunk.tokens)
        contexts = [self.cache.read(chunk.slot, chunk.start + len(chunk.tokens)) for chunk in plan.sampled]
        return [Token(next_token(tokens, self._vocabulary)) for tokens in contexts]
