"""The fast lane: which requests it takes, and that its callers may leave at any time. What it answers is held by the contract
tests of the dialects, which run for both drivers."""

from __future__ import annotations

import asyncio
import gc
import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from tests.api.harness import DRIVER, Model, Service, in_loop, recorded_logs, serving
from tests.api.wire import WireTransport

from maas.api import codec, native
from maas.edge.lane import Passage
from maas.errors import ModelFailed

X = {"x": [1, 2]}
HELD = {"refuse_unreachable": False}


@pytest.fixture(autouse=True)
def _lane() -> Iterator[None]:
    token = DRIVER.set("lane")
    yield
    DRIVER.reset(token)


def wire_of(service: Service) -> WireTransport:
    transport = service.client._transport
    assert isinstance(transport, WireTransport)
    return transport


async def until_writing(service: Service) -> None:
    """Give way until the answer is being written elsewhere, which is a task."""
    for _ in range(10_000):
        if wire_of(service)._state.tasks:
            return
        await asyncio.sleep(0)
    raise AssertionError("nothing is written elsewhere")


async def _chunks(content: bytes) -> Any:
    yield content


@pytest.mark.parametrize(
    ("send", "taken", "status"),
    [
        (lambda service: service.predict(X), 1, 200),
        (lambda service: service.predict(X, headers={"X-Request-Timeout": "5"}), 1, 200),
        (lambda service: service.predict(X, headers={"Accept-Encoding": "gzip"}), 1, 200),
        (lambda service: service.predict(X, headers={"Accept-Encoding": "gzip, deflate, br"}), 1, 200),
        (lambda service: service.predict(X, headers={"Content-Encoding": "gzip"}), 0, 400),
        (lambda service: service.predict(b"{"), 1, 400),
        (lambda service: service.predict(X, model="nobody"), 1, 404),
        (lambda service: service.predict(b" " * codec.SMALL + b"{}"), 0, 400),
        (lambda service: service.predict(_chunks(b"{}")), 0, 400),
        (lambda service: service.predict(X, headers={"Expect": "100-continue"}), 0, 200),
        (lambda service: service.predict(X, headers={"X-Request-Timeout": "soon"}), 0, 400),
        (lambda service: service.predict(X, headers={"Content-Type": "image/png"}), 0, 415),
        (lambda service: service.get("/predict/double"), 0, 405),
        (lambda service: service.get("/models"), 0, 200),
    ],
)
@in_loop
async def test_small_inference_is_for_the_lane(
    send: Callable[[Service], Any], taken: int, status: int
) -> None:
    """What is large, chunked, waited for, unreadable or no inference is for the application."""
    async with serving() as service:
        answer = await send(service)
        assert (wire_of(service).taken, answer.status_code) == (taken, status)


@in_loop
async def test_caller_that_leaves_takes_its_request_along() -> None:
    """Waiting or running, it is dropped, counted once as cancelled, and nothing of it is in flight."""
    slow = Model(seconds=0.05, max_batch_size=1)
    async with serving(slow, configuration={"models": {"double": HELD}}) as service:
        calls = [asyncio.create_task(service.predict(X)) for _ in range(3)]
        await service.until_running(1)
        await service.until_waiting(2)
        for call in calls[:2]:
            call.cancel()
        answer = await calls[2]
        assert answer.json() == {"y": [2.0, 4.0]}
        await asyncio.gather(*calls, return_exceptions=True)
        assert len(service.instances["double/1"].batches) == 2
        assert wire_of(service)._lane.in_flight == 0
        told = (await service.get("/metrics")).text
        assert 'maas_requests_total{model="double",outcome="cancelled",version="1"} 2.0' in told
        assert 'maas_requests_total{model="double",outcome="ok",version="1"} 1.0' in told


@in_loop
async def test_large_answer_is_written_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """By a codec process, and it is the same; a caller that leaves meanwhile is not waited for."""
    monkeypatch.setattr(codec, "LARGE", 0)
    async with serving() as service:
        assert (await service.predict(X)).json() == {"y": [2.0, 4.0]}
        call = asyncio.create_task(service.predict(X))
        await service.until_running(1)
        await until_writing(service)
        call.cancel()
        await asyncio.gather(call, return_exceptions=True)
        assert wire_of(service)._lane.in_flight == 0
        assert (await service.predict(X)).json() == {"y": [2.0, 4.0]}


def test_bug_in_an_answer_is_that_request_s_alone() -> None:
    """Whatever goes wrong when an answer is written, its caller gets an opaque 500, the log has it, and its neighbours in the
    batch are answered."""

    @in_loop
    async def run() -> None:
        async with serving() as service:
            render, broken = native.PREDICT.render, []

            def fail_once(*arguments: Any) -> bytes:
                if not broken:
                    broken.append(True)
                    raise ZeroDivisionError
                return render(*arguments)

            object.__setattr__(native.PREDICT, "render", fail_once)
            try:
                answers = await asyncio.gather(*(service.predict(X) for _ in range(3)))
            finally:
                object.__setattr__(native.PREDICT, "render", render)
            assert sorted(answer.status_code for answer in answers) == [200, 200, 500]
            assert len(service.instances["double/1"].batches) == 1

    with recorded_logs() as lines:
        run()
    assert [line["event"] for line in lines] == ["request_met_a_bug"]


@in_loop
async def test_failure_of_the_model_is_told() -> None:
    """In the words and with the status of the application."""
    async with serving(Model(fail_with=ModelFailed("it broke"))) as service:
        answer = await service.predict(X)
        assert (answer.status_code, json.loads(answer.content)["code"]) == (500, "model_error")


@pytest.mark.parametrize("body", [X, {"x": "wrong"}], ids=["answered", "refused"])
@in_loop
async def test_answered_request_leaves_no_garbage(body: dict[str, Any]) -> None:
    """Nothing of it refers to itself: what only the collector finds would stop the loop for milliseconds, every few thousand
    requests."""
    async with serving() as service:
        gc.disable()
        try:
            before = passages()
            for _ in range(3):
                await service.predict(body)
            after = passages()
        finally:
            gc.enable()
    assert len(after) <= len(before)


def passages() -> list[Passage]:
    """All that there are, garbage or not: those of other tests too, where something holds them. Objects are not asked for
    their class: some warn of being asked."""
    return [each for each in gc.get_objects() if type(each) is Passage]
