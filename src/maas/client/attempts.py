"""How long a call may take, and what may be tried again.

1. The timeout of a call is for all of it: every attempt, every pause between two.
2. An attempt is repeated if the request was certainly not executed. A worker that died, a server that stopped while it ran
   the request, and a connection that broke may each come after the model has run: then only what the model's manifest calls
   `idempotent` is repeated, and the server is asked whether it does. A timeout and a failure of the model are the outcome.
3. The server knows best when to return, so its `Retry-After` is kept to; without one the pause is random, up to a
   ceiling that doubles (full jitter), so that callers who were refused together do not come back together.
4. The server is told with each attempt how many seconds are left, so that nothing runs for a caller who has gone.
5. A pause that would not leave time for another attempt is not begun.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from maas.client.calls import Call
from maas.errors import (
    ConnectionLost,
    Draining,
    InvalidRequest,
    MaasError,
    ModelNotReady,
    QueueFull,
    Refused,
    ServerUnreachable,
    Unavailable,
    WorkerDied,
)

FIRST_PAUSE = 0.1  # seconds, the ceiling of the first pause without a hint
LONGEST_PAUSE = 5.0
LONGEST_TIMEOUT = 1e6  # more than any call, less than what overflows a socket's timeout

_NOT_EXECUTED = (ServerUnreachable, QueueFull, ModelNotReady, Draining)
_MAY_HAVE_RUN = (ConnectionLost, WorkerDied)
_LEAST_LEFT = 0.001  # seconds that the server is told of; it takes no 0


@dataclass(frozen=True, slots=True)
class AttemptPolicy:
    """What holds for every call of a client. Durations are in seconds; `clock` is monotonic."""

    timeout: float
    retries: int  # attempts after the first
    connect_timeout: float
    clock: Callable[[], float]
    jitter: Callable[[], float]  # uniform in [0, 1)

    def __post_init__(self) -> None:
        _check_timeout(self.timeout)
        _check_timeout(self.connect_timeout)
        if self.retries < 0:
            raise InvalidRequest(f"retries is {self.retries}; it must be 0 or more")

    def begin(self, call: Call[object], timeout: float | None) -> Attempts:
        """Start the clock of one call, with `timeout` in place of the usual one if given."""
        seconds = self.timeout if timeout is None else _check_timeout(timeout)
        return Attempts(self, seconds, self.clock() + seconds, self.retries if call.may_repeat else 0)

    def left(self, timeout: float | None, began: float) -> float:
        """What is left of a call's timeout for its next question, where it asks several."""
        seconds = self.timeout if timeout is None else _check_timeout(timeout)
        return max(seconds - (self.clock() - began), _LEAST_LEFT)


def _check_timeout(seconds: float) -> float:
    if not 0 < seconds <= LONGEST_TIMEOUT:
        raise InvalidRequest(f"timeout is {seconds} s; it must be above 0 and at most {LONGEST_TIMEOUT:.0f}")
    return seconds


@dataclass(slots=True)
class Attempts:
    """The attempts of one call against its deadline."""

    policy: AttemptPolicy
    timeout: float
    deadline: float
    retries_left: int
    _ceiling: float = field(default=FIRST_PAUSE, init=False)

    @property
    def remaining(self) -> float:
        """Seconds until the deadline, below 0 once it has passed."""
        return self.deadline - self.policy.clock()

    def headers_of(self, call: Call[object]) -> dict[str, str]:
        """Those of `call`, and the time that is left for it."""
        return {**call.headers, "x-request-timeout": f"{max(self.remaining, _LEAST_LEFT):.3f}"}

    def is_in_doubt(self, problem: MaasError) -> bool:
        """Whether the model may have run, so that it is for the model to say if it may run again."""
        return isinstance(problem, _MAY_HAVE_RUN) and self.retries_left > 0

    def pause_after(self, problem: MaasError, *, may_run_again: bool) -> float | None:
        """Seconds to wait before the next attempt; None if `problem` is the call's outcome."""
        if self.retries_left == 0 or not (may_run_again or isinstance(problem, _NOT_EXECUTED)):
            return None
        self.retries_left -= 1
        told = problem.retry_after if isinstance(problem, Refused | Unavailable) else None
        pause = told or self._backoff()
        return pause if pause < self.remaining else None

    def _backoff(self) -> float:
        ceiling, self._ceiling = self._ceiling, min(2 * self._ceiling, LONGEST_PAUSE)
        return ceiling * self.policy.jitter()

    def in_time(self, chunks: Iterable[bytes]) -> Iterator[bytes]:
        """`chunks` as they arrive; raises TimeoutError at the first that comes after the deadline."""
        for chunk in chunks:
            if self.remaining <= 0:
                raise TimeoutError
            yield chunk
