"""Conservation: in whatever order requests come, leave, expire and fail, and instances come and go, nothing is lost."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.fakes import FakeInstance
from tests.virtual_clock import run_virtual

from maas.batching.batcher import Batcher, Outcome, Request
from maas.batching.permits import Permits
from maas.batching.policy import BatchPolicy
from maas.errors import ModelFailed, QueueFull
from maas.types import Answer, Signature

SIGNATURE = Signature.parse({"x": "float32[batch]"}, {"y": "float32[batch]"}, {})
PERMITS = 2


@dataclass
class Sent:
    """A request as its caller knows it."""

    value: float
    rows: int
    request: Request
    outcomes: list[Outcome] = field(default_factory=list)
    has_left: bool = False


@dataclass
class World:
    """A batcher, its instances, and everything that was ever sent to it."""

    batcher: Batcher
    instances: list[FakeInstance]
    sent: list[Sent] = field(default_factory=list)

    def submit(self, rows: int, timeout: float) -> None:
        value = float(len(self.sent))
        outcomes: list[Outcome] = []
        deadline = asyncio.get_running_loop().time() + timeout
        request = Request({"x": np.full(rows, value, np.float32)}, rows, deadline, outcomes.append)
        try:
            self.batcher.submit(request)
        except QueueFull:
            return
        self.sent.append(Sent(value, rows, request, outcomes))

    def leave(self, index: int) -> None:
        if self.sent:
            sent = self.sent[index % len(self.sent)]
            if not sent.request.is_done:
                sent.has_left = True
                self.batcher.abandon(sent.request)

    def break_or_mend(self, index: int) -> None:
        instance = self.instances[index % len(self.instances)]
        instance.fail_with = None if instance.fail_with else ModelFailed("broken")

    def swap_instance(self, index: int) -> None:
        """An instance dies and another takes its place."""
        self.batcher.detach(self.instances[index % len(self.instances)])
        self.instances.append(FakeInstance(SIGNATURE, seconds=0.3))
        self.batcher.attach(self.instances[-1])


steps = st.lists(
    st.one_of(
        st.tuples(st.just("submit"), st.integers(1, 4), st.floats(0.01, 3.0)),
        st.tuples(st.just("leave"), st.integers(0, 99)),
        st.tuples(st.just("break_or_mend"), st.integers(0, 99)),
        st.tuples(st.just("swap_instance"), st.integers(0, 99)),
        st.tuples(st.just("wait"), st.sampled_from([0.0, 0.001, 0.1, 0.3, 1.0])),
    ),
    max_size=60,
)


@settings(max_examples=150, deadline=None)
@given(steps, st.integers(1, 3), st.booleans())
def test_every_accepted_request_is_answered_exactly_once(
    plan: list[tuple[str, *tuple[float, ...]]], instances: int, drains: bool
) -> None:
    """Each caller who stayed gets one outcome, an answer only with its own rows; who left gets none; nothing is held."""

    async def scenario() -> None:
        permits = Permits(PERMITS)
        batcher = Batcher(
            "test",
            SIGNATURE,
            BatchPolicy(max_batch_size=4),
            queue_size=8,
            permits=permits,
            clock=asyncio.get_running_loop().time,
        )
        world = World(batcher, [FakeInstance(SIGNATURE, seconds=0.3) for _ in range(instances)])
        for instance in world.instances:
            batcher.attach(instance)
        async with asyncio.TaskGroup() as group:
            owner = group.create_task(batcher.serve())
            await asyncio.sleep(0)
            for action, *arguments in plan:
                if action == "wait":
                    await asyncio.sleep(arguments[0])
                else:
                    getattr(world, action)(*arguments)
            if drains:
                await batcher.drain()
            else:
                owner.cancel()
        check(world, permits)

    run_virtual(scenario())


def check(world: World, permits: Permits) -> None:
    for sent in world.sent:
        assert len(sent.outcomes) == (0 if sent.has_left else 1)
        for outcome in sent.outcomes:
            if isinstance(outcome, Answer):
                assert outcome.outputs["y"].tolist() == [2 * sent.value] * sent.rows
    statistics = world.batcher.statistics()
    assert (statistics.waiting, statistics.running) == (0, 0)
    assert all(permits.acquire(lambda: None) for _ in range(PERMITS)), "every permit was given back"
