"""The stages that a small request goes through in the gateway, each called in this process: what one request pays for it.

The request is a sample of 16 floats to a perceptron, in batches of 32 where a stage has batches, 64 requests waiting.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from maas.api.native import PREDICT
from maas.api.operation import Payload
from maas.batching.backlog import Backlog
from maas.batching.batcher import Admission, Batcher
from maas.batching.execution import BatchResult
from maas.batching.permits import Permits
from maas.batching.policy import BatchPolicy
from maas.batching.request import Answer, Request, Timings
from maas.telemetry.metrics import Metrics
from maas.telemetry.requests import AccessPolicy, RequestRecorder
from maas.tensors.check import check_inputs
from maas.tensors.packing import plan, read, write
from maas.tensors.stack import stack
from maas.types import Signature, Tensors

ROWS, WAITING = 32, 64
_CALLS = 1000

SIGNATURE = Signature.parse({"x": "float32[batch, 16]"}, {"output": "float32[batch, 4]"}, {})
SAMPLE = np.random.default_rng(0).standard_normal(16).round(4)
BODY = json.dumps({"x": SAMPLE.tolist()}).encode()
INPUTS: Tensors = {"x": SAMPLE.astype(np.float32)[None]}
OUTPUTS: Tensors = {"output": np.random.default_rng(1).standard_normal((1, 4)).astype(np.float32)}


@dataclass(frozen=True)
class _Subject:
    name: str = "mlp"
    version: str = "1"
    signature: Signature = SIGNATURE
    allow_non_finite: bool = False


class _Instance:
    """Answers at once, so that what is measured is the batcher."""

    async def run(self, requests: Sequence[Tensors], rows: int) -> BatchResult:
        del requests
        return BatchResult({"output": np.broadcast_to(OUTPUTS["output"], (rows, 4))}, 0.0, True)


def stages() -> dict[str, Callable[[], float]]:
    """By name, what gives the microseconds of one request."""
    subject = _Subject()
    payload = Payload(BODY)
    form = PREDICT.parse(subject, payload).form
    answer = Answer(OUTPUTS, Timings(0.001, 0.0005))
    recorder = RequestRecorder(Metrics(lambda: ()), AccessPolicy())
    columns = stack(SIGNATURE, [INPUTS] * ROWS)
    places, nbytes = plan(columns)
    buffer = memoryview(bytearray(nbytes))

    def write_batch() -> None:
        for column, place in zip(stack(SIGNATURE, [INPUTS] * ROWS), plan(columns)[0], strict=True):
            write(buffer, place, column)

    return {
        "parse": lambda: _each(lambda: PREDICT.parse(subject, payload)),
        "check": lambda: _each(lambda: check_inputs(SIGNATURE, INPUTS)),
        "submit": lambda: asyncio.run(_submit()),
        "batch": lambda: asyncio.run(_batch()),
        "write": lambda: _each(write_batch) / ROWS,
        "read": lambda: _each(lambda: read(buffer, places[0], np.dtype(np.float32)).copy()) / ROWS,
        "render": lambda: _each(lambda: PREDICT.render(subject, form, answer)),
        "record": lambda: _each(lambda: recorder.answered(("mlp", "1"), "an-id", answer.timings, 0.002)),
    }


def _each(call: Callable[[], object], calls: int = _CALLS) -> float:
    started = time.perf_counter()
    for _ in range(calls):
        call()
    return (time.perf_counter() - started) / calls * 1e6


def _batcher() -> Batcher:
    admission = Admission(max_requests=10_000, max_bytes=1 << 30)
    return Batcher(
        "mlp",
        SIGNATURE,
        BatchPolicy(max_batch_size=ROWS),
        admission,
        backlog=Backlog(10_000, 1 << 30),
        permits=Permits(2),
    )


async def _submit() -> float:
    """Into a queue that holds up to `WAITING`."""
    spent = 0.0
    turns = _CALLS // WAITING
    for _ in range(turns):
        batcher = _batcher()
        requests = [_request(lambda _: None) for _ in range(WAITING)]
        started = time.perf_counter()
        for request in requests:
            batcher.submit(request)
        spent += time.perf_counter() - started
        for request in requests:
            batcher.abandon(request)
    return spent / (turns * WAITING) * 1e6


async def _batch() -> float:
    """From the last of `WAITING` that are submitted to the completion of all: deciding, taking, scattering, completing."""
    batcher = _batcher()
    batcher.attach(_Instance())
    serving = asyncio.ensure_future(batcher.serve())
    await asyncio.sleep(0)
    spent = 0.0
    turns = _CALLS // WAITING
    for _ in range(turns):
        left, done = WAITING, asyncio.Event()

        def complete(_: object, done: asyncio.Event = done) -> None:
            nonlocal left
            left -= 1
            if not left:
                done.set()

        for _ in range(WAITING):
            batcher.submit(_request(complete))
        started = time.perf_counter()
        await done.wait()
        spent += time.perf_counter() - started
    batcher.begin_drain()
    await serving
    return spent / (turns * WAITING) * 1e6


def _request(complete: Callable[[object], None]) -> Request:
    return Request(INPUTS, 1, time.monotonic() + 60, complete)
