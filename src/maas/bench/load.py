"""What is to be sent, and the tally of what came of it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from maas.bench.latencies import Latencies
from maas.bench.tls import Tls

TIMEOUT = "timeout"
LOST = "connection lost"
NO_CONNECTION = "no connection"
UNREADABLE = "unreadable answer"
INTERRUPTED = "interrupted"


@dataclass(frozen=True, slots=True)
class Request:
    """One HTTP request, whole, and how many rows the model is asked with it."""

    content: bytes
    rows: int = 1


@dataclass(frozen=True, slots=True)
class Load:
    """`requests`, in turn, to `host`:`port`, for `warm_up` seconds and then for `seconds` that are measured.

    Closed loop: each of `connections` asks again as soon as it has its answer. Open loop (`rate`, requests a second): they are
    sent when they are due, whatever became of those before, over up to `connections`. An answer is awaited for
    `timeout` seconds. Connections are plain without `tls`.
    """

    host: str
    port: int
    requests: tuple[Request, ...]
    connections: int
    rate: float | None = None
    seconds: float = 10.0
    warm_up: float = 1.0
    timeout: float = 30.0
    seed: int = 0
    tls: Tls | None = None

    def share(self, index: int, processes: int) -> Load:
        """What process `index` of `processes` has to send of it."""
        more = index < self.connections % processes
        start = index * len(self.requests) // processes
        return Load(
            self.host,
            self.port,
            self.requests[start:] + self.requests[:start],
            self.connections // processes + more,
            None if self.rate is None else self.rate / processes,
            self.seconds,
            self.warm_up,
            self.timeout,
            self.seed * 1000 + index,
            self.tls,
        )


@dataclass(slots=True)
class Tally:
    """`outcomes` counts the requests that were due while it was measured: by status, or by one of the words above.

    `latencies` are of those that were answered with 2xx, from the moment they were due, and of those that timed out, which were
    at least that slow. `completed` and `rows` are of the good answers that arrived while it was measured, whenever they
    were asked for. `lateness` is how much later than due the client itself was.
    """

    seconds: float = 0.0
    outcomes: Counter[str] = field(default_factory=Counter)
    latencies: Latencies = field(default_factory=Latencies)
    lateness: Latencies = field(default_factory=Latencies)
    completed: int = 0
    rows: int = 0
    opened: int = 0
    """Connections."""
    starved: int = 0
    """Requests that were due while all connections were busy."""
    cpu_shares: list[float] = field(default_factory=list)
    """Of one core, for each of the client's processes."""
    is_interrupted: bool = False

    @property
    def requests(self) -> int:
        return sum(self.outcomes.values())

    @property
    def errors(self) -> dict[str, int]:
        """By kind, the most frequent first. What was given up when somebody ended the measurement is none."""
        return {
            kind: count
            for kind, count in self.outcomes.most_common()
            if not is_good(kind) and kind != INTERRUPTED
        }

    def add(self, other: Tally) -> None:
        """Take in what another process counted of the same load."""
        self.seconds = max(self.seconds, other.seconds)
        self.outcomes += other.outcomes
        self.latencies.add(other.latencies)
        self.lateness.add(other.lateness)
        self.completed += other.completed
        self.rows += other.rows
        self.opened += other.opened
        self.starved += other.starved
        self.cpu_shares += other.cpu_shares
        self.is_interrupted |= other.is_interrupted


def is_good(outcome: str) -> bool:
    return len(outcome) == 3 and outcome[0] == "2"
