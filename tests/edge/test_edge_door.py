"""What the door says of a path: only inference is refused, and only for what is known without reading."""

from __future__ import annotations

import asyncio

import pytest
from tests.api.harness import Model, in_loop, recorded_logs, serving

from maas.api.door import Door
from maas.batching.priority import Priority
from maas.errors import DeadlineUnreachable, Draining, QueueFull
from maas.telemetry.requests import AccessPolicy, RequestRecorder

PATHS = [
    "/predict/double",
    "/predict/double/versions/1",
    "/v2/models/double/infer",
    "/v2/models/double/versions/1/infer",
]
OTHERS = [
    "/",
    "/metrics",
    "/predict/double/",
    "/v2/models/double",
    "/predict/a/versions/b/c",
    "/v2/health/live",
    "/v2/health/ready",
]


@pytest.mark.parametrize("path", PATHS)
@in_loop
async def test_inference_is_refused_when_full_or_draining(path: str) -> None:
    """By the server's bound, by the model's queue, and while draining, which comes first."""
    async with serving(configuration={"models": {"double": {"queue_size": 1}}}) as service:
        door = Door(service.gateway, RequestRecorder(service.metrics, AccessPolicy()), 10)
        assert door.refusal(path, 9) is None
        assert isinstance(door.refusal(path, 10), QueueFull)
        batcher = service.live().batcher
        batcher.refusal = lambda: QueueFull("its queue is full", retry_after=3)  # type: ignore[method-assign]
        assert str(door.refusal(path, 0)) == "its queue is full"
        service.gateway.is_draining = True
        assert isinstance(door.refusal(path, 10), Draining)


@pytest.mark.parametrize("path", PATHS)
@in_loop
async def test_what_the_model_is_too_busy_for_is_refused_unread(path: str) -> None:
    """By the time that the model gives a request, or the shorter one that its head asks for, less what it has waited; terms
    that cannot be read are for the endpoint to refuse."""
    async with serving(configuration={"models": {"double": {"request_timeout": 7}}}) as service:
        door = Door(service.gateway, RequestRecorder(service.metrics, AccessPolicy()), 10)
        asked = []

        def unreachable(timeout: float, priority: Priority, begun: int) -> DeadlineUnreachable:
            asked.append((timeout, priority, begun))
            return DeadlineUnreachable("too busy", retry_after=1)

        service.live().batcher.unreachable = unreachable  # type: ignore[method-assign]
        assert str(door.refusal(path, 0, [(b"accept", b"*/*")])) == "too busy"
        door.refusal(path, 0, [(b"x-request-timeout", b"1"), (b"x-request-priority", b"Bulk")])
        door.refusal(path, 0, [(b"x-request-timeout", b"9")], 2.0)
        assert asked == [(7, Priority.STANDARD, 0), (1, Priority.BULK, 0), (5, Priority.STANDARD, 0)]
        assert door.refusal(path, 0, [(b"x-request-timeout", b"soon")]) is None
        assert door.refusal(path, 0, [(b"x-request-priority", b"mine")]) is None


@in_loop
async def test_requests_of_one_pass_know_of_each_other() -> None:
    """Those that were let in and are not in the queue yet count as waiting; a pass later they are in it themselves."""
    async with serving() as service:
        door = Door(service.gateway, RequestRecorder(service.metrics, AccessPolicy()), 10)
        begun = []
        service.live().batcher.unreachable = lambda *asked: begun.append(asked[2])  # type: ignore[method-assign]
        for _ in range(3):
            door.refusal("/predict/double", 0)
        await asyncio.sleep(0)
        door.refusal("/v2/models/double/infer", 0)
        assert begun == [0, 1, 2, 0]


@in_loop
async def test_nothing_else_is_refused() -> None:
    """Health, metrics and what is unknown are for their routes, however full the server is."""
    async with serving(Model(), Model("broken", broken="it was altered")) as service:
        door = Door(service.gateway, RequestRecorder(service.metrics, AccessPolicy()), 0)
        assert [door.refusal(path, 99) for path in OTHERS] == [None] * len(OTHERS)
        door = Door(service.gateway, RequestRecorder(service.metrics, AccessPolicy()), 100)
        assert door.refusal("/predict/nobody", 1) is None
        assert door.refusal("/predict/broken", 1) is None


def test_requests_turned_away_are_counted_without_a_line() -> None:
    """By version where it is served, else under `other`; what is no inference is not counted."""
    counted = []

    @in_loop
    async def count() -> None:
        async with serving() as service:
            door = Door(service.gateway, RequestRecorder(service.metrics, AccessPolicy()), 10)
            for path in ("/predict/double", "/predict/nobody", "/metrics"):
                door.turned_away(path, "cancelled")
            counted.extend(
                line for line in service.metrics.expose().decode().splitlines() if "cancelled" in line
            )

    with recorded_logs() as lines:
        count()
    assert counted == [
        'maas_requests_total{model="double",outcome="cancelled",version="1"} 1.0',
        'maas_requests_total{model="other",outcome="cancelled",version=""} 1.0',
    ]
    assert lines == []
