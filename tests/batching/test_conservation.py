"""Conservation: in whatever order requests, of whatever lengths, come, leave, expire, fail, kill and hang, and instances come and go, every
accepted request is answered exactly once, with what is its own."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.fakes import FakeInstance
from tests.virtual_clock import run_virtual

from maas.batching.backlog import Backlog
from maas.batching.batcher import Admission, Batcher
from maas.batching.permits import Permits
from maas.batching.policy import BatchPolicy
from maas.batching.priority import Priority
from maas.batching.request import Answer, Outcome, Request
from maas.errors import (
    ComputeTimeout,
    DeadlineExceeded,
    Draining,
    InvalidRequest,
    MaasError,
    ModelFailed,
    OutOfMemory,
    Refused,
    WorkerDied,
)
from maas.types import Bounds, CurvePoint, Signature, Tensors

SIGNATURE = Signature.parse(
    {"x": "float32[batch, time]"}, {"y": "float32[batch, time]"}, {"time": Bounds(max=9, pad=0.5)}
)
PERMITS = 2
SECONDS = 0.3

# What an input does, by its value; anything else is doubled.
BAD, DEADLY, HANGING = -1.0, -2.0, -3.0
MOST_ROWS_IN_MEMORY = 3

# What a request may get besides its answer, whatever it holds.
ANYBODY = (DeadlineExceeded, Draining, WorkerDied)
BY_VALUE: dict[float, tuple[type[MaasError], str]] = {
    BAD: (ModelFailed, "model_error"),
    DEADLY: (ModelFailed, "model_crashed"),
    HANGING: (ComputeTimeout, "compute_timeout"),
}


def judge(inputs: Tensors, rows: int) -> Exception | None:
    values = set(inputs["x"].ravel().tolist())
    if rows > MOST_ROWS_IN_MEMORY:
        return OutOfMemory("too large")
    if DEADLY in values:
        return WorkerDied("dead")
    if HANGING in values:
        return ComputeTimeout("hung")
    return ModelFailed("bad") if BAD in values else None


@dataclass
class Sent:
    """A request as its caller knows it."""

    value: float
    shape: tuple[int, int]
    request: Request
    outcomes: list[Outcome] = field(default_factory=list)
    has_left: bool = False


@dataclass
class World:
    """A batcher, its instances, and everything that was ever accepted by it."""

    batcher: Batcher
    sent: list[Sent] = field(default_factory=list)
    instances: list[FakeInstance] = field(default_factory=list)

    def start_instance(self) -> None:
        instance = FakeInstance(SIGNATURE, seconds=SECONDS, judge=judge, on_death=self.replace)
        self.instances.append(instance)
        self.batcher.attach(instance)

    def replace(self, instance: FakeInstance) -> None:
        self.batcher.detach(instance)
        self.start_instance()

    def submit(self, nature: float, rows: int, length: int, timeout: float, priority: Priority) -> None:
        value = nature if nature < 0 else float(len(self.sent))
        outcomes: list[Outcome] = []
        deadline = asyncio.get_running_loop().time() + timeout
        x = np.full((rows, length), value, np.float32)
        request = Request({"x": x}, rows, deadline, outcomes.append, priority)
        try:
            self.batcher.submit(request)
        except (Refused, ModelFailed, InvalidRequest):  # full, unreachable, quarantined, or too large
            return
        self.sent.append(Sent(value, x.shape, request, outcomes))

    def leave(self, index: int) -> None:
        if self.sent:
            sent = self.sent[index % len(self.sent)]
            if not sent.request.is_done:
                sent.has_left = True
                self.batcher.abandon(sent.request)

    def kill(self, index: int) -> None:
        """An instance dies for no fault of a request; what it runs ends as it may."""
        self.replace(self.instances[index % len(self.instances)])


steps = st.lists(
    st.one_of(
        st.tuples(
            st.just("submit"),
            st.sampled_from([0.0, 0.0, 0.0, BAD, DEADLY, HANGING]),
            st.integers(1, 4),
            st.sampled_from([1, 2, 3, 9]),
            st.floats(0.01, 9.0),
            st.sampled_from(Priority),
        ),
        st.tuples(st.just("leave"), st.integers(0, 99)),
        st.tuples(st.just("kill"), st.integers(0, 99)),
        st.tuples(st.just("wait"), st.sampled_from([0.0, 0.001, 0.1, 0.3, 1.0])),
    ),
    max_size=60,
)


@settings(max_examples=200, deadline=None)
@given(
    steps,
    st.integers(1, 3),
    st.booleans(),
    st.booleans(),
    st.none() | st.integers(9, 30),
    st.floats(0, 1) | st.none(),
)
def test_every_accepted_request_is_answered_exactly_once(
    plan: list[tuple[str, *tuple[float, ...]]],
    instances: int,
    drains: bool,
    refuses: bool,
    cost: int | None,
    overhead: float | None,
) -> None:
    """Who stayed gets one outcome: its own rows, its own failure, or a word that it was not to be. Who left gets none.
    Nothing is held when all is over."""

    async def scenario() -> None:
        permits, backlog = Permits(PERMITS), Backlog(100, 1 << 20)
        batcher = Batcher(
            "test",
            SIGNATURE,
            BatchPolicy(max_batch_size=4, max_batch_cost=cost),
            Admission(max_requests=8, refuses_unreachable=refuses),
            backlog=backlog,
            permits=permits,
            clock=asyncio.get_running_loop().time,
        )
        if overhead is not None:
            batcher.learn(
                [CurvePoint(rows, e, overhead + 0.01 * rows * e) for e in (1, 9) for rows in (1, 2, 4)]
            )
        world = World(batcher)
        for _ in range(instances):
            world.start_instance()
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
        check(world, permits, backlog)

    run_virtual(scenario())


def check(world: World, permits: Permits, backlog: Backlog) -> None:
    for sent in world.sent:
        assert len(sent.outcomes) == (0 if sent.has_left else 1)
        for outcome in sent.outcomes:
            check_outcome(sent, outcome)
    statistics = world.batcher.statistics()
    assert (statistics.waiting, statistics.running) == (0, 0)
    assert (backlog.requests, backlog.nbytes) == (0, 0)
    assert all(permits.acquire(lambda: None) for _ in range(PERMITS)), "every permit was given back"


def check_outcome(sent: Sent, outcome: Outcome) -> None:
    if isinstance(outcome, Answer):
        assert sent.value not in BY_VALUE
        assert outcome.outputs["y"].tolist() == np.full(sent.shape, 2 * sent.value).tolist()
    elif not isinstance(outcome, ANYBODY):
        assert isinstance(outcome, MaasError)
        assert (type(outcome), outcome.code) == BY_VALUE[sent.value]
