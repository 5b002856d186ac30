"""The pool: keeps a version's instances alive, and tells its batcher which there are."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from maas.batching.execution import Instance as BatcherInstance
from maas.batching.execution import InstanceGone
from maas.errors import MaasError, ModelNotReady, WorkerDied
from maas.types import Signature
from maas.workers.frames import Load, Loaded
from maas.workers.instance import Instance
from maas.workers.launcher import Launcher
from maas.workers.standard_output import OnLine

_FIRST_BACKOFF = 0.1  # seconds; doubles with every fruitless life in a row
_MAX_BACKOFF = 10.0
_STEADY_SECONDS = 30.0  # a life of this length was not fruitless, whatever was asked of it
_MAX_FRUITLESS = 8  # lives in a row in which nothing was answered: a crash loop
_EXIT_SECONDS = 5.0  # that a killed process may take to be gone
_MAX_FRUITLESS_LOADS = 3  # of them while loading


class InstanceState(StrEnum):
    STARTING = "starting"
    READY = "ready"
    WAITING = "waiting"  # to be started again after a death
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class PoolStatistics:
    """How many instances are in each state, and how many deaths have been seen."""

    instances: dict[InstanceState, int]
    deaths: int


@dataclass(slots=True)
class _Row:
    """Lives in a row that bore nothing, and how long to wait before the next."""

    lives: int = 0
    loads: int = 0
    backoff: float = _FIRST_BACKOFF

    def is_hopeless(self) -> bool:
        return self.lives >= _MAX_FRUITLESS or self.loads >= _MAX_FRUITLESS_LOADS

    def add(self, *, was_loading: bool) -> None:
        self.lives += 1
        self.loads = self.loads + 1 if was_loading else 0
        self.backoff = min(_MAX_BACKOFF, _FIRST_BACKOFF * 2 ** (self.lives - 1))


class Pool:
    """`size` instances of one version, each supervised: what dies is started again, with exponential back-off.

    A version whose load fails by its own fault, or whose processes die again and again without having answered
    anything, is not tried further; `failed` then has why. `attach` and `detach` tell the batcher of instances that
    come and go; `on_ready` (pid), `on_death` (pid, exit code if it is known) and `on_line` (of what a process prints) tell the
    log.
    """

    def __init__(
        self,
        launcher: Launcher,
        load: Load,
        signature: Signature,
        size: int,
        *,
        compute_timeout: float,
        attach: Callable[[BatcherInstance], None],
        detach: Callable[[BatcherInstance], None],
        on_ready: Callable[[int], None] = lambda _pid: None,
        on_death: Callable[[int, int | None], None] = lambda _pid, _code: None,
        on_line: OnLine | None = None,
    ) -> None:
        self._launcher = launcher
        self._load = load
        self._signature = signature
        self._compute_timeout = compute_timeout
        self._attach = attach
        self._detach = detach
        self._on_ready = on_ready
        self._on_death = on_death
        self._on_line = on_line
        self._states = [InstanceState.STARTING] * size
        self._deaths = 0
        self._keepers: list[asyncio.Task[None]] = []
        loop = asyncio.get_running_loop()
        self.loaded: asyncio.Future[Loaded] = loop.create_future()
        """What the first instance said when it had loaded."""
        self.failed: asyncio.Future[MaasError] = loop.create_future()
        """The error for which no instance is tried any more."""

    async def serve(self) -> None:
        """Keep the instances until cancelled; their processes are gone when this returns."""
        async with asyncio.TaskGroup() as group:
            self._keepers = [group.create_task(self._keep(number)) for number in range(len(self._states))]

    def give_up(self, error: MaasError) -> None:
        """Keep no instance any more; `failed` has the error."""
        for number, keeper in enumerate(self._keepers):
            self._give_up(number, error)
            keeper.cancel()

    def statistics(self) -> PoolStatistics:
        counts = Counter(self._states)
        return PoolStatistics({state: counts[state] for state in InstanceState}, self._deaths)

    async def _keep(self, number: int) -> None:
        """One instance after the other in this place, until there is no hope for another."""
        row = _Row()
        loop = asyncio.get_running_loop()
        while True:
            self._states[number] = InstanceState.STARTING
            started = loop.time()
            was_loading = False
            try:
                answered = await self._live(number)
            except (WorkerDied, InstanceGone) as error:
                answered, was_loading, reason = 0, True, str(error)
            except MaasError as error:
                self._give_up(number, error)
                return
            else:
                reason = "its processes die without having answered anything"
            if answered or loop.time() - started >= _STEADY_SECONDS:
                row = _Row()
            else:
                row.add(was_loading=was_loading)
            if row.is_hopeless():
                self._give_up(number, ModelNotReady(f"{reason}; given up after {row.lives} in a row"))
                return
            self._states[number] = InstanceState.WAITING
            await asyncio.sleep(row.backoff)

    async def _live(self, number: int) -> int:
        """Start, load and offer one instance; return, when its process has died, how many batches it answered."""
        process = await self._launcher.launch(self._load.runtime, self._load.threads, self._on_line)
        instance = Instance(process, self._signature, self._compute_timeout, self._detach)
        try:
            loaded = await instance.load(self._load)
            self._states[number] = InstanceState.READY
            if not self.loaded.done():
                self.loaded.set_result(loaded)
            self._attach(instance)
            self._on_ready(process.pid)
            await instance.watch()
        finally:
            instance.close()
            process.kill()
            await asyncio.wait([process.exited], timeout=_EXIT_SECONDS)
        self._deaths += 1
        self._on_death(process.pid, process.exited.result() if process.exited.done() else None)
        return instance.answered

    def _give_up(self, number: int, error: MaasError) -> None:
        self._states[number] = InstanceState.FAILED
        if all(state is InstanceState.FAILED for state in self._states) and not self.failed.done():
            self.failed.set_result(error)
