"""What the door says of a target: only inference is refused, and only for what is known without reading."""

from __future__ import annotations

import asyncio

import pytest
from tests.api.harness import Model, Service, in_loop, recorded_logs, serving

from maas.api.door import Door
from maas.api.routes import Target, find_target
from maas.api.terms import Asked
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


def a_door(service: Service, most_requests: int = 10) -> Door:
    return Door(service.gateway, RequestRecorder(service.metrics, AccessPolicy()), most_requests)


def target(path: str) -> Target:
    found = find_target(path)
    assert found is not None
    return found


@pytest.mark.parametrize("path", PATHS)
@in_loop
async def test_inference_is_refused_when_full_or_draining(path: str) -> None:
    """By the server's bound, by the model's queue, and while draining, which comes first."""
    async with serving(configuration={"models": {"double": {"queue_size": 1}}}) as service:
        door = a_door(service)
        assert door.closed(9) is None
        assert isinstance(door.closed(10), QueueFull)
        assert door.refusal(target(path), Asked()) is None
        batcher = service.live().batcher
        batcher.refusal = lambda: QueueFull("its queue is full", retry_after=3)  # type: ignore[method-assign]
        assert str(door.refusal(target(path), Asked())) == "its queue is full"
        service.gateway.is_draining = True
        assert isinstance(door.closed(10), Draining)


@pytest.mark.parametrize("path", PATHS)
@in_loop
async def test_what_the_model_is_too_busy_for_is_refused_unread(path: str) -> None:
    """By the time that the model gives a request, or the shorter one that its head asks for, less what it has waited; terms
    that cannot be read are for the endpoint to refuse."""
    async with serving(configuration={"models": {"double": {"request_timeout": 7}}}) as service:
        door = a_door(service)
        asked = []

        def unreachable(timeout: float, priority: Priority, begun: int) -> DeadlineUnreachable:
            asked.append((timeout, priority, begun))
            return DeadlineUnreachable("too busy", retry_after=1)

        service.live().batcher.unreachable = unreachable  # type: ignore[method-assign]
        assert str(door.refusal(target(path), Asked())) == "too busy"
        door.refusal(target(path), Asked(1, Priority.BULK))
        door.refusal(target(path), Asked(9), 2.0)
        assert asked == [(7, Priority.STANDARD, 0), (1, Priority.BULK, 0), (5, Priority.STANDARD, 0)]
        assert door.refusal(target(path), None) is None


@in_loop
async def test_requests_of_one_pass_know_of_each_other() -> None:
    """Those that were let in and are not in the queue yet count as waiting; a pass later they are in it themselves."""
    async with serving() as service:
        door = a_door(service)
        begun = []
        service.live().batcher.unreachable = lambda *asked: begun.append(asked[2])  # type: ignore[method-assign]
        for _ in range(3):
            door.refusal(target("/predict/double"), Asked())
        await asyncio.sleep(0)
        door.refusal(target("/v2/models/double/infer"), Asked())
        assert begun == [0, 1, 2, 0]


def test_nothing_else_is_for_the_door() -> None:
    """Health, metrics and what is unknown are for their routes, however full the server is."""
    assert [find_target(path) for path in OTHERS] == [None] * len(OTHERS)


@in_loop
async def test_what_is_not_served_is_not_refused() -> None:
    """That it is not there, or cannot be read, is for the endpoint to say."""
    async with serving(Model(), Model("broken", broken="it was altered")) as service:
        door = a_door(service)
        assert door.refusal(target("/predict/nobody"), Asked()) is None
        assert door.refusal(target("/predict/broken"), Asked()) is None


def test_requests_turned_away_are_counted_without_a_line() -> None:
    """By version where it is served, else under `other`; what is no inference is not counted."""
    counted = []

    @in_loop
    async def count() -> None:
        async with serving() as service:
            door = a_door(service)
            for path in ("/predict/double", "/predict/nobody", "/metrics"):
                door.turned_away(find_target(path), "cancelled")
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
