"""The gateway's side of the fork servers: starts them as they are needed, and model processes from them."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections import deque
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

from maas.errors import WorkerDied
from maas.runtimes import PRELOADS
from maas.workers.channel import Channel, close_all, socket_pair
from maas.workers.frames import AnyFrame, Exited, Fork, Forked, ForkFailed, Kill
from maas.workers.standard_output import OnLine, StandardOutput

# Every engine and numeric library reads one of these when it is loaded, which in a fork server is before any fork.
_THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
# glibc reads it as a process begins: tensors that are too large to stay in its heap (see `maas.workers.heap`) come in pages of
# 2 MB, so that a batch does not pay for each 4 KB of them anew. An operator's own setting stands.
_LARGE_PAGES = {"GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"}
_MODEL_PROCESS = "maas.workers.child"
_STDERR = 2
_STOP_SECONDS = 5.0


class Launcher:
    """Processes for the whole server; one fork server for each set of modules to import ahead and number of threads.

    `on_line` is told what fork servers print; without it that goes to our own standard error.
    """

    def __init__(self, on_line: OnLine | None = None) -> None:
        self._on_line = on_line
        self._servers: dict[tuple[tuple[str, ...], int], ForkServer] = {}

    async def launch(self, runtime: str, threads: int, on_line: OnLine | None = None) -> ModelProcess:
        """A new model process that has the engine imported. Raises `WorkerDied` where it cannot be had."""
        return await self.fork(_MODEL_PROCESS, PRELOADS.get(runtime, ()), threads, on_line)

    async def fork(
        self, entry: str, preload: tuple[str, ...], threads: int = 1, on_line: OnLine | None = None
    ) -> ModelProcess:
        """A new process that runs `serve` of the module `entry`. Raises `WorkerDied` where it cannot be had.

        `on_line` is told what it prints; without it that goes where the fork server's goes.
        """
        try:
            server = self._servers.get((preload, threads))
            if server is None or server.is_closed:
                dead = server
                server = self._servers[preload, threads] = ForkServer(preload, threads, self._on_line)
                if dead is not None:
                    await dead.close()
            return await server.fork(entry, on_line)
        except OSError as error:
            raise WorkerDied(f"no process can be started: {error.strerror}") from error

    async def close(self) -> None:
        """End all fork servers, and with them every model process that is left."""
        await asyncio.gather(*(server.close() for server in self._servers.values()))
        self._servers.clear()


class ModelProcess:
    """A started process: our end of its socket pair, and a future that holds its exit code when it has ended."""

    def __init__(
        self, server: ForkServer, pid: int, sock: socket.socket, output: StandardOutput | None
    ) -> None:
        self.pid = pid
        self.sock = sock
        self.exited: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self.on_exit: Callable[[], None] = lambda: None
        """Called at the process's end; its socket may be held open yet by a child of its own."""
        self._server = server
        self._output = output
        if output is not None:
            output.listen(pid)

    def end(self, code: int) -> None:
        """The process has ended."""
        if not self.exited.done():
            if self._output is not None:
                self._output.close()
            self.exited.set_result(code)
            self.on_exit()

    def is_stopped(self) -> bool:
        """Whether the kernel has stopped it (SIGSTOP, a debugger)."""
        try:
            stat = Path(f"/proc/{self.pid}/stat").read_bytes()
        except OSError:
            return False
        return stat.rpartition(b")")[2].split()[0] in (b"T", b"t")

    def kill(self) -> None:
        """Have it killed, unless it has ended."""
        if not self.exited.done():
            self._server.kill(self.pid)


@dataclass(frozen=True, slots=True)
class _Asked:
    """A model process that is to come, and our ends of what it will have."""

    answer: asyncio.Future[ModelProcess]
    sock: socket.socket
    output: StandardOutput | None

    def fail(self, reason: str) -> None:
        self.close()
        if not self.answer.done():
            self.answer.set_exception(WorkerDied(reason))

    def close(self) -> None:
        self.sock.close()
        if self.output is not None:
            self.output.close()


class ForkServer:
    """One `maas.workers.forkserver` process and its children."""

    def __init__(self, preload: tuple[str, ...], threads: int, on_line: OnLine | None = None) -> None:
        ours, theirs = socket_pair()
        self._asked: deque[_Asked] = deque()
        self._children: dict[int, ModelProcess] = {}
        self._channel = Channel(ours, self._hear, self._lose)
        self.is_closed = False
        with theirs, ExitStack() as undo:
            undo.callback(self._channel.close)
            self._output = StandardOutput(on_line) if on_line is not None else None
            if self._output is not None:
                undo.callback(self._output.close)
            # A model that prints does not write into a command's output.
            stream = self._output.writer if self._output is not None else _STDERR
            self._process = subprocess.Popen(  # noqa: S603 - our own interpreter and module
                [sys.executable, "-P", "-m", "maas.workers.forkserver", str(theirs.fileno()), *preload],
                pass_fds=(theirs.fileno(),),
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=stream,
                env=_LARGE_PAGES | os.environ | dict.fromkeys(_THREAD_VARIABLES, str(threads)),
            )
            undo.pop_all()
        if self._output is not None:
            self._output.listen(self._process.pid)

    async def fork(self, entry: str, on_line: OnLine | None = None) -> ModelProcess:
        """Raises `OSError` where the fork server is gone, `WorkerDied` where it goes before it has answered."""
        ours, theirs = socket_pair()
        with theirs, ExitStack() as undo:
            undo.callback(ours.close)
            output = StandardOutput(on_line) if on_line is not None else None
            asked = _Asked(asyncio.get_running_loop().create_future(), ours, output)
            undo.callback(asked.close)
            printing = [output.writer] if output is not None else []
            self._channel.send(Fork(entry), [theirs.fileno(), *printing])
            undo.pop_all()
        self._asked.append(asked)
        try:
            return await asked.answer
        except asyncio.CancelledError:
            ours.close()  # the process, when it comes, finds its gateway gone and leaves
            raise

    def kill(self, pid: int) -> None:
        if not self.is_closed:
            with suppress(OSError):  # the fork server is gone, and its children with it
                self._channel.send(Kill(pid))

    async def close(self) -> None:
        if not self.is_closed:
            self._channel.close()
            self._lose()
        await asyncio.to_thread(self._wait)
        if self._output is not None:
            self._output.close()

    def _hear(self, frame: AnyFrame, descriptors: list[int]) -> None:
        close_all(descriptors)
        if isinstance(frame, Forked):
            asked = self._asked.popleft()
            if asked.answer.done():
                asked.close()
            else:
                process = self._children[frame.pid] = ModelProcess(self, frame.pid, asked.sock, asked.output)
                asked.answer.set_result(process)
        elif isinstance(frame, ForkFailed):
            self._asked.popleft().fail(f"no process can be started: {frame.reason}")
        elif isinstance(frame, Exited) and frame.pid in self._children:
            self._children.pop(frame.pid).end(frame.code)

    def _lose(self) -> None:
        """The fork server is gone; the kernel has killed its children, or is about to."""
        self.is_closed = True
        for asked in self._asked:
            asked.fail("the fork server ended before it had started a process")
        self._asked.clear()
        children, self._children = self._children, {}
        for process in children.values():
            process.end(-signal.SIGKILL)

    def _wait(self) -> None:
        try:
            self._process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
