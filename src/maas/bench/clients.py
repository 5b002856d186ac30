"""The client's processes: one, this, or several that share a load."""

from __future__ import annotations

import asyncio
import multiprocessing
import signal
import threading
from collections.abc import Callable
from multiprocessing.connection import Connection

from maas.bench.load import Load, Tally
from maas.bench.traffic import drive
from maas.errors import ServerUnreachable

_START = 60  # seconds in which all processes must have begun


def send(load: Load, processes: int = 1) -> Tally:
    """Carry `load` out. Ctrl-C ends it early, with what was counted until then."""
    count = min(processes, load.connections)
    if count == 1:
        return _run(load)
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(count)
    ends, workers = [], []
    for index in range(count):
        end, theirs = context.Pipe()
        worker = context.Process(
            target=_work, args=(load.share(index, count), barrier.wait, theirs), daemon=True
        )
        worker.start()
        theirs.close()
        ends.append(end)
        workers.append(worker)
    kept = signal.signal(signal.SIGINT, signal.SIG_IGN)  # the terminal tells the workers too, and they end it
    try:
        return _gather(ends, load)
    finally:
        signal.signal(signal.SIGINT, kept)
        for worker in workers:
            worker.terminate()
            worker.join(10)


def _gather(ends: list[Connection], load: Load) -> Tally:
    tally = Tally()
    for end in ends:
        if not end.poll(_START + load.warm_up + load.seconds + 2 * load.timeout):
            raise ServerUnreachable("a process of the load generator hangs")
        try:
            tally.add(end.recv())
        except EOFError:
            raise ServerUnreachable("a process of the load generator died") from None
    return tally


def _work(load: Load, meet: Callable[[float], int], end: Connection) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    meet(_START)
    end.send(_run(load))


def _run(load: Load) -> Tally:
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        return runner.run(_drive(load))


async def _drive(load: Load) -> Tally:
    loop = asyncio.get_running_loop()

    def on_start(stop: Callable[[], None]) -> None:
        if threading.current_thread() is threading.main_thread():
            loop.add_signal_handler(signal.SIGINT, stop)

    return await drive(load, on_start)


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """uvloop's where it is installed: it halves what the client costs."""
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop
