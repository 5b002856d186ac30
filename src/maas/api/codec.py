"""Bodies to calls and answers to bodies: small ones here and now, the others in processes of their own.

Parsing holds the interpreter for as long as it takes, on a thread as on the loop, and how long is up to whoever wrote the
body: 8 MB of `[],` take a second and the memory of millions of objects. So what is large, or small but dense, goes to a codec
process (`maas.api.codec_process`), and what comes back are arrays in shared memory. The process is forked in milliseconds,
and killed when the request's deadline is over or its caller has left.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import TypeVar

import msgspec

from maas.api.body import Body
from maas.api.codings import Accepted
from maas.api.compression import Compressor
from maas.api.operation import Call, F, Operation, Payload, Subject
from maas.batching.backlog import Backlog
from maas.batching.request import Answer
from maas.errors import DeadlineExceeded, MaasError, ModelFailed, TooLarge, WorkerDied
from maas.tensors.check import given_inputs
from maas.tensors.packing import Column, nbytes_of, plan, read, write
from maas.workers.channel import close_all
from maas.workers.dialogue import Dialogue, ProcessGone
from maas.workers.failures import restore
from maas.workers.frames import AnyFrame, Described, Failed, Parse, Parsed, Render, Rendered
from maas.workers.launcher import Launcher
from maas.workers.slab import Slab

LARGE = 256 << 10  # bytes of a body that is not parsed here, and of outputs that are not rendered here
SMALL = 16 << 10  # bytes that are parsed here however dense they are
_DENSE = 4096  # lists and objects in a body between the two
_COPIED_AT_ONCE = 4 << 20  # bytes
_PROCESS = "maas.api.codec_process"
_TRIES = 2  # a process may die by another's hand

T = TypeVar("T")


class Codec:
    """At most `most_processes` bodies are read or written elsewhere at once; the others wait in their order. `compressor` is for
    those that come compressed, or are to leave so."""

    def __init__(
        self, launcher: Launcher, backlog: Backlog, most_processes: int, compressor: Compressor
    ) -> None:
        self.compressor = compressor
        self._launcher = launcher
        self._backlog = backlog
        self._slots = _Slots(most_processes)
        self._idle: set[Dialogue] = set()

    def new_body(self) -> Body:
        """A body that is yet to be read."""
        return Body(self._backlog)

    def resize(self, most_processes: int) -> None:
        """Read and write as many at once from now on; where more do just now, as they end."""
        self._slots.resize(most_processes)

    async def prepare(self) -> None:
        """Have a process ready before somebody waits for it. Raises `WorkerDied` where there can be none."""
        self._idle.add(await self._acquire())

    async def parse(
        self,
        operation: Operation[F],
        subject: Subject,
        body: Body,
        json_size: int | None,
        deadline: float,
    ) -> Call[F]:
        """Raises what `operation.parse` does, and `DeadlineExceeded` (`deadline` is in monotonic seconds)."""
        if not _is_heavy(body, json_size):
            return operation.parse(subject, Payload(body.whole(), json_size))
        slab = await _copy(body)
        frame = Parse(operation.name, _describe(subject), body.size, json_size)
        unreadable = TooLarge(f"the body has {body.size} bytes, and its reader did not survive them")
        return await self._ask(
            frame,
            slab,
            deadline,
            lambda answer, found: _to_call(operation, subject, answer, found),
            unreadable,
        )

    async def render(
        self, operation: Operation[F], subject: Subject, form: F, answer: Answer, deadline: float
    ) -> Payload:
        """Raises what `operation.render` does, and `DeadlineExceeded`."""
        if operation.gives_raw(form) or not is_large(answer):
            return operation.render(subject, form, answer)
        columns = [Column([answer.outputs[spec.name]], None) for spec in subject.signature.outputs]
        places, nbytes = plan(columns)
        slab = Slab.allocate(nbytes)
        buffer = slab.buffer
        for column, place in zip(columns, places, strict=True):
            await asyncio.to_thread(write, buffer, place, column)
        raw = msgspec.Raw(msgspec.msgpack.encode(form))
        frame = Render(operation.name, _describe(subject), raw, places, answer.is_finite)
        unspeakable = ModelFailed(f"the answer has {nbytes} bytes, and its writer did not survive them")
        return await self._ask(frame, slab, deadline, _to_body, unspeakable)

    async def inflate(self, body: Body, codings: tuple[str, ...], limit: int, deadline: float) -> None:
        """Raises what `Compressor.inflate` does, and `DeadlineExceeded`."""
        try:
            async with asyncio.timeout(deadline - time.monotonic()):
                await self.compressor.inflate(body, codings, limit)
        except TimeoutError:
            raise DeadlineExceeded("the request's deadline came while its body was inflated") from None

    async def compress(self, payload: Payload, accepted: Accepted | None) -> Payload:
        """`payload`, compressed where the caller is to have it so."""
        if accepted is None or not self.compressor.suits(accepted, payload):
            return payload
        return await self.compressor.compress(payload, accepted.coding)

    def close(self) -> None:
        """Leave the processes, which end when they notice, and the threads."""
        self.compressor.close()
        for process in list(self._idle):
            process.close()

    async def _ask(
        self,
        frame: Parse | Render,
        slab: Slab,
        deadline: float,
        use: Callable[[AnyFrame, Slab], T],
        fatal: MaasError,
    ) -> T:
        """What `use` makes of the answer and of the slab beside it; `fatal` where it ends one process after the other."""
        try:
            async with asyncio.timeout(deadline - time.monotonic()), self._slots:
                for _ in range(_TRIES):
                    process = await self._acquire()
                    try:
                        answer, descriptors = await process.ask(frame, [slab.descriptor])
                    except (ProcessGone, WorkerDied):
                        process.close()
                        continue
                    self._idle.add(process)
                    return _use(answer, descriptors, use)
                raise fatal
        except TimeoutError:
            raise DeadlineExceeded("the request's deadline came while its body was read or written") from None
        finally:
            slab.free()

    async def _acquire(self) -> Dialogue:
        if self._idle:
            return self._idle.pop()
        started = await self._launcher.fork(_PROCESS, (_PROCESS,))
        process = Dialogue(started, on_gone=lambda: self._idle.discard(process))
        return process


class _Slots(asyncio.Semaphore):
    """A semaphore whose number may change: what is to go is kept when it comes back."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self._number = number
        self._surplus = 0

    def resize(self, number: int) -> None:
        self._surplus += self._number - number
        self._number = number
        while self._surplus < 0:
            self._surplus += 1
            super().release()

    def release(self) -> None:
        if self._surplus:
            self._surplus -= 1
        else:
            super().release()


def is_large(answer: Answer) -> bool:
    """Whether its outputs are rendered in a process of their own."""
    return sum(map(nbytes_of, answer.outputs.values())) > LARGE


def _is_heavy(body: Body, json_size: int | None) -> bool:
    """By its JSON alone: tensors behind it are not parsed but viewed."""
    size = body.size if json_size is None else json_size
    if size <= SMALL or size > LARGE:
        return size > LARGE
    whole = body.whole()[:size]
    return whole.count(b"[") + whole.count(b"{") > _DENSE


def _describe(subject: Subject) -> Described:
    signature = subject.signature
    return Described(
        subject.name,
        subject.version,
        {spec.name: spec.declaration for spec in signature.inputs},
        {spec.name: spec.declaration for spec in signature.outputs},
        dict(signature.bounds),
        subject.allow_non_finite,
    )


async def _copy(body: Body) -> Slab:
    """The body in shared memory, copied in pieces between which the loop does other things."""
    slab = Slab.allocate(body.size)
    try:
        offset = copied = 0
        for part in body.parts:
            slab.buffer[offset : offset + len(part)] = part
            offset += len(part)
            if offset - copied >= _COPIED_AT_ONCE:
                copied = offset
                await asyncio.sleep(0)
    except BaseException:
        slab.free()
        raise
    return slab


def _use(answer: AnyFrame, descriptors: list[int], use: Callable[[AnyFrame, Slab], T]) -> T:
    if isinstance(answer, Failed):
        close_all(descriptors)
        raise restore(answer)
    slab = Slab.attach(descriptors[0])
    try:
        return use(answer, slab)
    finally:
        slab.free()  # its memory stays for as long as what was made of it views it


def _to_call(operation: Operation[F], subject: Subject, answer: AnyFrame, slab: Slab) -> Call[F]:
    assert isinstance(answer, Parsed)
    inputs = {
        spec.name: read(slab.buffer, answer.inputs[spec.name], spec.numpy_dtype)
        for spec in given_inputs(subject.signature, answer.inputs)
    }
    form = msgspec.msgpack.decode(answer.form, type=operation.form)
    return Call(inputs, form, answer.timeout, answer.priority)


def _to_body(answer: AnyFrame, slab: Slab) -> Payload:
    assert isinstance(answer, Rendered)
    return Payload(slab.buffer[: answer.size], answer.json_size)
