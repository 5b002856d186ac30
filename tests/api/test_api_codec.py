"""Large bodies and answers: read and written in a process of their own, exactly as small ones are here."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from pathlib import Path

import httpx
import numpy as np
import orjson
import pytest
from tests.api.harness import Model, Service, in_loop, serving

from maas.api import codec
from maas.types import Tensors

WIDE = Model(
    "wide", inputs={"x": "float32[batch, n]"}, outputs={"y": "float32[batch, n]"}, manifest={"dimensions": {}}
)
TEXT = Model(
    "text",
    inputs={"t": "bytes[batch, n]"},
    outputs={"t": "bytes[batch, n]"},
    function=lambda inputs: {"t": inputs["t"]},
)
BRAIN = Model(
    "brain",
    inputs={"x": "bfloat16[batch, n]"},
    outputs={"y": "bfloat16[batch, n]"},
    function=lambda inputs: {"y": inputs["x"]},
)


def children() -> set[int]:
    """The codec processes that a fork server of this process has started."""
    found = set()
    for server in _children_of(os.getpid()):
        if b"maas.api.codec_process" in Path(f"/proc/{server}/cmdline").read_bytes():
            found.update(_children_of(server))
    return found


def _children_of(pid: int) -> list[int]:
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except FileNotFoundError:
        return []


@pytest.fixture
def everything_is_heavy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every body is read, and every answer written, in the other process."""
    monkeypatch.setattr(codec, "LARGE", -1)
    monkeypatch.setattr(codec, "SMALL", -1)


PREDICT = "/predict/wide"
INFER = "/v2/models/wide/infer"
TENSOR = {"name": "x", "shape": [1, 2], "datatype": "FP32"}
BODIES = {
    "single": (PREDICT, b'{"x": [1, 2.5, -3e-7]}'),
    "batch": (PREDICT, b'{"x": [[1, 2], [3, 4]]}'),
    "ragged": (PREDICT, b'{"x": [[1, 2], [3]]}'),
    "of another name": (PREDICT, b'{"z": [1]}'),
    "name given twice": (PREDICT, b'{"x": [1], "x": [2]}'),
    "NaN": (PREDICT, b'{"x": [NaN]}'),
    "overflow": (PREDICT, b'{"x": [1e39]}'),
    "no JSON": (PREDICT, b'{"x": [1,'),
    "no UTF-8": (PREDICT, b'{"x": "\xff"}'),
    "no object": (PREDICT, b"[1]"),
    "too many rows": (PREDICT, b'{"x": [[1], [2], [3], [4], [5]]}'),
    "bfloat16": ("/predict/brain", b'{"x": [0.1, -2.5, 3e38]}'),
    "bfloat16 overflow": ("/predict/brain", b'{"x": [1, 3.4e38]}'),
    "text": ("/predict/text", '{"t": ["ä", "", "\\u0000"]}'.encode()),
    "infer": (INFER, orjson.dumps({"id": "a", "inputs": [{**TENSOR, "data": [1, 2]}]})),
    "infer some": (
        INFER,
        orjson.dumps({"inputs": [{**TENSOR, "data": [[1, 2]]}], "outputs": [{"name": "y"}]}),
    ),
    "infer with NaN": (INFER, b'{"inputs": [{"name":"x","shape":[1,1],"datatype":"FP32","data":[NaN]}]}'),
    "infer with timeout": (
        INFER,
        orjson.dumps({"parameters": {"timeout": "never"}, "inputs": [{**TENSOR, "data": [1, 2]}]}),
    ),
    "infer of another type": (
        INFER,
        orjson.dumps({"inputs": [{**TENSOR, "datatype": "INT8", "data": [1, 2]}]}),
    ),
    "infer with a long id": (INFER, orjson.dumps({"id": "a" * 5000, "inputs": [{**TENSOR, "data": [1, 2]}]})),
}


async def _post_all(service: Service) -> dict[str, tuple[int, object]]:
    headers = {"x-request-id": "same"}
    answers = {name: await service.post(path, body, headers=headers) for name, (path, body) in BODIES.items()}
    return {name: (answer.status_code, answer.content) for name, answer in answers.items()}


@in_loop
async def test_codec_process_answers_as_the_gateway_does(everything_is_heavy: None) -> None:
    """Whatever the body, status and content are byte for byte those of the same body read and written here."""
    async with serving(WIDE, TEXT, BRAIN) as service:
        there = await _post_all(service)
        assert children()
        codec.LARGE = 1 << 30
        here = await _post_all(service)
    assert there == here
    assert {status for status, _ in here.values()} == {200, 400}


@in_loop
async def test_large_sample_goes_there_and_back() -> None:
    """A body and an answer over the limit come out as the numbers they are, and the process is kept for the next."""
    values = np.random.default_rng(0).normal(size=(3, 40_000)).astype(np.float32)
    async with serving(WIDE) as service:
        for _ in range(2):
            answer = await service.predict({"x": values.tolist()}, "wide")
            np.testing.assert_array_equal(np.array(answer.json()["y"], np.float32), values * 2)
        assert len(children()) == 1


@in_loop
async def test_dense_body_goes_there_though_it_is_small() -> None:
    """Thousands of lists in some kilobytes take longer to read than their size says."""
    async with serving(WIDE) as service:
        assert (await service.predict(b'{"x": [' + b"[]," * 1000 + b"[]]}", "wide")).status_code == 400
        assert not children()
        assert (await service.predict(b'{"x": [' + b"[]," * 10_000 + b"[]]}", "wide")).status_code == 400
        assert children()


@in_loop
async def test_loop_runs_on_while_a_bomb_is_read() -> None:
    """While 8 MB of empty lists are read, nothing else waits for it."""
    async with serving(WIDE) as service:
        await service.predict(b'{"x": [' + b"[]," * 10_000 + b"[]]}", "wide")  # the process is there
        bomb = asyncio.create_task(service.predict(b'{"x": [' + b"[]," * (8 << 20) + b"[]]}", "wide"))
        longest = 0.0
        while not bomb.done():
            before = time.monotonic()
            await asyncio.sleep(0.001)
            longest = max(longest, time.monotonic() - before)
        assert bomb.result().status_code == 400
    assert longest < 0.25


@in_loop
async def test_deadline_ends_a_reader() -> None:
    """A body that takes longer than its request may take is answered at the deadline, and its process is gone."""
    async with serving(WIDE) as service:
        await service.predict(b'{"x": [' + b"[]," * 10_000 + b"[]]}", "wide")
        (reader,) = children()
        started = time.monotonic()
        bomb = b'{"x": [' + b"[]," * (12 << 20) + b"[]]}"
        answer = await service.predict(bomb, "wide", headers={"x-request-timeout": "0.3"})
        assert (answer.status_code, answer.json()["code"]) == (504, "deadline_exceeded")
        assert time.monotonic() - started < 1.5
        assert (await service.predict({"x": [1.0] * 100_000}, "wide")).status_code == 200
        assert reader not in children()


@in_loop
async def test_reader_that_is_killed_costs_nobody() -> None:
    """A process that dies by another's hand is replaced, and the body is read by the next."""
    body = {"x": [0.5] * 400_000}
    async with serving(WIDE) as service:
        await service.predict(body, "wide")
        for _ in range(3):
            (reader,) = children()
            os.kill(reader, signal.SIGKILL)
            assert (await service.predict(body, "wide")).status_code == 200


@in_loop
async def test_caller_that_leaves_takes_its_body_along() -> None:
    """Its reader is ended, and what it held of the server's bound on bytes is free again."""
    async with serving(WIDE) as service:
        await service.predict(b'{"x": [' + b"[]," * 10_000 + b"[]]}", "wide")
        bomb = asyncio.create_task(service.predict(b'{"x": [' + b"[]," * (8 << 20) + b"[]]}", "wide"))
        await asyncio.sleep(0.2)
        bomb.cancel()
        await asyncio.wait([bomb])
        assert (await service.predict({"x": [1.0] * 100_000}, "wide")).status_code == 200


@in_loop
async def test_bodies_count_against_what_the_server_holds() -> None:
    """Large bodies that are being read are bounded in bytes over the whole server; what is over is refused at once."""
    part = b" " * (1 << 20)
    async with serving(WIDE, configuration={"limits": {"waiting_bytes": 4 << 20}}) as service:
        gate = asyncio.Event()

        async def slow_body() -> object:
            yield b'{"x": [1]' + part * 3
            await gate.wait()
            yield b"}"

        held = asyncio.create_task(service.post(PREDICT, slow_body()))
        await asyncio.sleep(0.1)
        refused = await service.post(PREDICT, b'{"x": [1]' + part * 2 + b"}")
        assert (refused.status_code, refused.json()["code"]) == (503, "queue_full")
        assert refused.headers["retry-after"]
        gate.set()
        assert (await held).status_code == 200
        assert (await service.post(PREDICT, b'{"x": [1]' + part * 2 + b"}")).status_code == 200


@in_loop
async def test_too_many_strings_are_refused() -> None:
    """Each is an object of its own, so their number has a limit, which the message names."""
    async with serving(TEXT) as service:
        answer = await service.predict({"t": ["a"] * 65_537}, "text")
        assert (answer.status_code, answer.json()["code"]) == (400, "invalid_request")
        assert "65537 strings" in answer.json()["error"]
        assert (await service.predict({"t": ["a"] * 65_536}, "text")).status_code == 200


@in_loop
async def test_large_answer_that_cannot_be_said_is_the_models_failure() -> None:
    """What rendering refuses is refused with the same words when it happens elsewhere."""

    def to_nan(inputs: Tensors) -> Tensors:
        return {"y": inputs["x"] * np.float32("nan")}

    model = Model("wide", inputs=WIDE.inputs, outputs=WIDE.outputs, function=to_nan)
    async with serving(model) as service:
        answer: httpx.Response = await service.predict({"x": [1.0] * 100_000}, "wide")
        assert (answer.status_code, answer.json()["code"]) == (500, "non_finite_output")


@in_loop
async def test_number_of_processes_may_change() -> None:
    """Raised, it holds at once, also for who waits; lowered, as those that are out come back."""
    slots = codec._Slots(1)
    await slots.acquire()
    waiting = asyncio.create_task(slots.acquire())
    await asyncio.sleep(0)
    assert not waiting.done()
    slots.resize(3)
    assert await waiting
    await slots.acquire()
    assert slots.locked()
    slots.resize(1)
    for is_full in (True, True, False):
        slots.release()
        assert slots.locked() == is_full
    slots.resize(2)
    await slots.acquire()
    assert not slots.locked()
