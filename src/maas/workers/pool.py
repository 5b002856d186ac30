"""The pool: keeps a version's instances alive, and tells its batcher which there are."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from maas.batching.batcher import Instance as BatcherInstance
from maas.errors import MaasError, WorkerDied
from maas.types import Signature
from maas.workers.frames import Load, Loaded
from maas.workers.instance import Instance
from maas.workers.launcher import Launcher

_FIRST_BACKOFF = 0.1  # seconds; doubles with every death in a row
_MAX_BACKOFF = 10.0
_STEADY_SECONDS = 30.0  # an instance that lived this long ends the row
_MAX_DEATHS_WHILE_LOADING = 3


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


class Pool:
    """`size` instances of one version, each supervised: what dies is started again, with exponential back-off.

    A version whose load fails by its own fault, or kills its process again and again, is not tried further; `ready`
    raises why. `attach` and `detach` tell the batcher of instances that come and go, `on_death` the log.
    """

    def __init__(
        self,
        launcher: Launcher,
        load: Load,
        signature: Signature,
        size: int,
        *,
        attach: Callable[[BatcherInstance], None],
        detach: Callable[[BatcherInstance], None],
        on_death: Callable[[int, int], None] = lambda _pid, _code: None,
    ) -> None:
        self._launcher = launcher
        self._load = load
        self._signature = signature
        self._attach = attach
        self._detach = detach
        self._on_death = on_death
        self._states = [InstanceState.STARTING] * size
        self._deaths = 0
        self._ready: asyncio.Future[Loaded] = asyncio.get_running_loop().create_future()

    async def ready(self) -> Loaded:
        """What the first instance said when it had loaded. Raises the error of our tree for which none ever will."""
        return await asyncio.shield(self._ready)

    async def serve(self) -> None:
        """Keep the instances until cancelled; their processes are gone when this returns."""
        async with asyncio.TaskGroup() as group:
            for number in range(len(self._states)):
                group.create_task(self._keep(number))

    def statistics(self) -> PoolStatistics:
        counts = Counter(self._states)
        return PoolStatistics({state: counts[state] for state in InstanceState}, self._deaths)

    async def _keep(self, number: int) -> None:
        """One instance after the other in this place, until one cannot be loaded."""
        backoff = _FIRST_BACKOFF
        deaths_while_loading = 0
        loop = asyncio.get_running_loop()
        while True:
            started = loop.time()
            self._states[number] = InstanceState.STARTING
            try:
                await self._live(number)
            except WorkerDied as error:
                deaths_while_loading += 1
                if deaths_while_loading >= _MAX_DEATHS_WHILE_LOADING:
                    self._give_up(number, error)
                    return
            except MaasError as error:
                self._give_up(number, error)
                return
            else:
                deaths_while_loading = 0
            if loop.time() - started >= _STEADY_SECONDS:
                backoff = _FIRST_BACKOFF
            self._states[number] = InstanceState.WAITING
            await asyncio.sleep(backoff)
            backoff = min(2 * backoff, _MAX_BACKOFF)

    async def _live(self, number: int) -> None:
        """Start, load and offer one instance, and return when its process has died."""
        process = await self._launcher.launch(self._load.runtime, self._load.threads)
        instance = Instance(process, self._signature)
        try:
            loaded = await instance.load(self._load)
            self._states[number] = InstanceState.READY
            if not self._ready.done():
                self._ready.set_result(loaded)
            self._attach(instance)
            await instance.gone
        finally:
            self._detach(instance)
            instance.close()
            process.kill()
            code = await process.exited
        self._deaths += 1
        self._on_death(process.pid, code)

    def _give_up(self, number: int, error: MaasError) -> None:
        self._states[number] = InstanceState.FAILED
        if not self._ready.done() and all(state is InstanceState.FAILED for state in self._states):
            self._ready.set_exception(error)
