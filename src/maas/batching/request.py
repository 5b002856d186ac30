"""A request on its way through the queue, and what can become of it."""

from __future__ import annotations

from collections.abc import Callable, Hashable

import msgspec

from maas.batching.priority import Priority
from maas.types import Lengths, Tensors


class Timings(msgspec.Struct, gc=False):
    """Where an answered request of so many `rows` spent its time, in seconds, from admission on: in the queue; while its batch
    was brought to the model (`input`), run (`compute`), and brought back (`output`)."""

    queue: float
    compute: float
    input: float = 0.0
    output: float = 0.0
    rows: int = 1


class Answer(msgspec.Struct):
    """What a caller gets: its own rows of every output, and where the time went.

    With `is_finite` no output holds NaN or an infinity; without it one of the batch may.
    """

    outputs: Tensors
    timings: Timings
    is_finite: bool = True


Outcome = Answer | Exception


class Request(msgspec.Struct, eq=False):
    """Completed exactly once, by `finish`, unless its caller leaves first.

    `rows` is its extent in the batch, `lengths` are those of its variable dimensions and `bucket` what they are taken for; times are monotonic seconds. `order` puts the earliest deadline first, and
    among equals who came first. `foreseen` is when its answer was expected, 0 where nobody asked. `deaths` counts the model processes that died or hung while they ran it.
    """

    inputs: Tensors
    rows: int
    deadline: float
    complete: Callable[[Outcome], None]
    priority: Priority = Priority.STANDARD
    nbytes: int = 0
    stack_key: Hashable = None
    lengths: Lengths = ()
    bucket: Lengths = ()
    order: tuple[float, int] = (0.0, 0)
    foreseen: float = 0.0
    arrived: float = 0.0
    started: float = 0.0
    deaths: int = 0
    is_done: bool = False

    def finish(self, outcome: Outcome) -> None:
        """Complete, unless the request has expired or its caller has left."""
        if not self.is_done:
            complete = self.complete
            self.abandon()
            complete(outcome)

    def abandon(self) -> None:
        """Be done, and let go of who would be told, who knows this record."""
        self.is_done = True
        self.complete = _nobody


def _nobody(_: Outcome) -> None:
    """Completes a request whose caller has left."""
