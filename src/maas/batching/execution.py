"""Running a batch so that every request gets an outcome of its own.

The unit of failure is the request. A batch that fails is halved until the requests that make it fail stand alone: they get
the model's error, the others their answers. A batch that does not fit in memory is halved until it does, and the size
that fits is remembered for a while; a single request over it is run in slices of its rows. What is done meanwhile, expired or
abandoned, is not run again. A process that dies or hangs over it ends the execution; its owner decides what becomes
of the requests that are left.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from math import prod
from operator import attrgetter
from typing import Protocol

import numpy as np

from maas.batching.pace import Pace
from maas.batching.request import Answer, Request, Timings
from maas.errors import ComputeTimeout, OutOfMemory, WorkerDied
from maas.tensors.check import is_finite
from maas.tensors.stack import scatter
from maas.types import Array, Signature, Tensors

# How long a size that did not fit is avoided. Memory comes back, and rows need not be of one size.
_SAFE_SECONDS = 60.0
_PASSES = 2  # of the loop, in which a batch is decided and sent
# Seconds of a batch before whose answers the next one is sent. Of models that are faster the gateway is what callers wait
# for, and it does better with batches that are larger.
_LONG = 1e-3

_rows = attrgetter("rows")
_lengths = attrgetter("lengths")
_foreseen = attrgetter("foreseen")


@dataclass(frozen=True, slots=True)
class BatchResult:
    """A batch's outputs, stacked; the seconds that the model computed; whether no output holds NaN or infinity; the seconds
    until the model had its `input`, and from its end until its `output` was here, those of waking one another included."""

    outputs: Tensors
    compute: float
    is_finite: bool
    input: float = 0.0
    output: float = 0.0


class InstanceGone(Exception):
    """The instance was gone before it was given the batch, so nothing of it was run. Never reaches a caller."""


class Instance(Protocol):
    """One loaded copy of a model; it runs one batch at a time."""

    async def run(self, requests: Sequence[Tensors], rows: int) -> BatchResult:
        """Run `requests`, stacked to `rows` rows.

        Raises `InstanceGone`; `WorkerDied` or `ComputeTimeout` where its process did not survive it; `OutOfMemory` where
        the batch did not fit; and whatever the model failed with.
        """


@dataclass(frozen=True, slots=True)
class BatchObservation:
    """What one batch that was answered tells a meter: how long each request queued, rows, the seconds of bringing inputs to
    the model, of the model, and of bringing outputs back to each request; and where the model has variable dimensions,
    the positions along them that were the requests' own, and those that were padding."""

    queued: Sequence[float]
    rows: int
    compute: float
    input: float = 0.0
    output: float = 0.0
    elements: int = 0
    padding: int = 0


def _keep() -> bool:
    """The instance is not free yet."""
    return False


class Execution:
    """Runs batches of one version; one call of `run` for each instance at a time."""

    def __init__(
        self,
        signature: Signature,
        pace: Pace,
        observe: Callable[[BatchObservation], None],
        clock: Callable[[], float],
    ) -> None:
        self._signature = signature
        self._pace = pace
        self._observe = observe
        self._clock = clock
        self._safe_rows = 0  # the most rows that are known to fit, until `_safe_until`; 0 while all did
        self._safe_until = 0.0

    async def run(self, instance: Instance, requests: Sequence[Request], free: Callable[[], bool]) -> None:
        """Complete every request, unless `InstanceGone`, `WorkerDied` or `ComputeTimeout` is raised; the requests over
        which a process ended have one more on their `deaths`.

        `free` is called where `instance` has no more to do before the requests are completed, and says whether others wait
        for it: their batch is sent off first, so that it is run while these are answered.
        """
        for portion in self._portions(requests):
            await self._run(instance, portion, free if len(portion) == len(requests) else _keep)

    async def _run(
        self, instance: Instance, requests: Sequence[Request], free: Callable[[], bool] = _keep
    ) -> None:
        pending = [request for request in requests if not request.is_done]
        if not pending:
            return
        if len(pending) == 1 and self._is_over(pending[0].rows) and self._can_slice():
            await self._run_in_slices(instance, pending[0])
            return
        rows = sum(map(_rows, pending))
        started = self._clock()
        try:
            result = await instance.run([request.inputs for request in pending], rows)
        except InstanceGone:
            raise
        except (WorkerDied, ComputeTimeout):
            for request in pending:
                request.deaths += 1
            raise
        except Exception as error:
            if isinstance(error, OutOfMemory):
                self._note_out_of_memory(rows)
            await self._split_up(instance, pending, error)
            return
        self._observe_pace(pending, rows, started)
        if result.compute >= _LONG and free():
            for _ in range(_PASSES):
                await asyncio.sleep(0)
        self._answer(pending, result)

    def _answer(self, requests: Sequence[Request], result: BatchResult) -> None:
        """The instance may be busy with others by now, so nothing is run again: an answer that is none fails them all."""
        try:
            self._scatter(requests, result)
        except Exception as error:
            for request in requests:
                request.finish(error)

    def _observe_pace(self, requests: Sequence[Request], rows: int, started: float) -> None:
        now = self._clock()
        self._pace.observe(rows, now - started, padded_elements(requests))
        if foreseen := [*filter(None, map(_foreseen, requests))]:
            self._pace.observe_lateness(now - min(foreseen))

    async def _split_up(self, instance: Instance, pending: Sequence[Request], error: Exception) -> None:
        """Run the halves; of a single request, its slices where it is too large, else it has failed."""
        if len(pending) > 1:
            middle = len(pending) // 2
            await self._run(instance, pending[:middle])
            await self._run(instance, pending[middle:])
        elif isinstance(error, OutOfMemory) and pending[0].rows > 1 and self._can_slice():
            await self._run_in_slices(instance, pending[0])
        else:
            pending[0].finish(error)

    async def _run_in_slices(self, instance: Instance, request: Request) -> None:
        """Answer one large request in pieces that fit."""
        results: list[BatchResult] = []
        start = 0
        try:
            while start < request.rows and not request.is_done:
                rows = min(self._safe_rows or request.rows, request.rows - start)
                try:
                    results.append(await instance.run([self._slice(request, start, rows)], rows))
                except OutOfMemory:
                    if rows == 1:
                        raise
                    self._note_out_of_memory(rows)
                else:
                    start += rows
        except InstanceGone:
            raise
        except (WorkerDied, ComputeTimeout):
            request.deaths += 1
            raise
        except Exception as error:
            request.finish(error)
        else:
            if not request.is_done:
                self._scatter([request], self._join(results))

    def _portions(self, requests: Sequence[Request]) -> Iterator[list[Request]]:
        """The batch as it is, or cut to what is known to fit."""
        if not self._safe_rows:
            yield [*requests]
            return
        portion: list[Request] = []
        rows = 0
        for request in requests:
            if portion and self._is_over(rows + request.rows):
                yield portion
                portion, rows = [], 0
            portion.append(request)
            rows += request.rows
        yield portion

    def _note_out_of_memory(self, rows: int) -> None:
        if rows > 1:
            self._safe_rows = rows // 2
            self._safe_until = self._clock() + _SAFE_SECONDS

    def _is_over(self, rows: int) -> bool:
        """Whether so many rows did not fit a while ago."""
        return 0 < self._safe_rows < rows and self._clock() < self._safe_until

    def _can_slice(self) -> bool:
        return all(spec.batch_axis is not None for spec in self._signature.outputs)

    def _slice(self, request: Request, start: int, rows: int) -> dict[str, Array]:
        inputs = {}
        for spec in self._signature.inputs:
            array = request.inputs[spec.name]
            if spec.batch_axis is not None:
                array = array[(slice(None),) * spec.batch_axis + (slice(start, start + rows),)]
            inputs[spec.name] = array
        return inputs

    def _join(self, results: Sequence[BatchResult]) -> BatchResult:
        outputs = {}
        for spec in self._signature.outputs:
            assert spec.batch_axis is not None
            parts = [result.outputs[spec.name] for result in results]
            outputs[spec.name] = np.concatenate(parts, axis=spec.batch_axis)
        return BatchResult(
            outputs,
            sum(result.compute for result in results),
            all(result.is_finite for result in results),
            sum(result.input for result in results),
            sum(result.output for result in results),
        )

    def _scatter(self, requests: Sequence[Request], result: BatchResult) -> None:
        rows = [*map(_rows, requests)]
        began = self._clock()
        parts = scatter(self._signature, result.outputs, rows, [*map(_lengths, requests)])
        input_, compute, output = result.input, result.compute, result.output + self._clock() - began
        queued = [request.started - request.arrived for request in requests]
        elements, padding = _count_elements(requests) if self._signature.variable else (0, 0)
        self._observe(BatchObservation(queued, sum(rows), compute, input_, output, elements, padding))
        for request, outputs, seconds, own in zip(requests, parts, queued, rows, strict=True):
            holds = result.is_finite or all(map(is_finite, outputs.values()))
            request.finish(Answer(outputs, Timings(seconds, compute, input_, output, own), holds))


def padded_elements(requests: Sequence[Request]) -> int:
    """The elements that each row of a batch has when it is padded; 1 where there are no lengths."""
    if not requests or not requests[0].lengths:
        return 1
    return prod(map(max, zip(*(request.lengths for request in requests), strict=True)))


def _count_elements(requests: Sequence[Request]) -> tuple[int, int]:
    """The requests' own elements, rows × the lengths of the variable dimensions; and what padding adds to them."""
    own = sum(request.rows * prod(request.lengths) for request in requests)
    return own, sum(request.rows for request in requests) * padded_elements(requests) - own
