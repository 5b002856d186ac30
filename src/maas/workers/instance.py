"""An instance: one loaded copy of a version in a process of its own, as the gateway sees it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import ParamSpec, TypeVar

from maas.batching.execution import BatchResult, InstanceGone
from maas.errors import BadArtifact, ComputeTimeout, MaasError, ModelFailed, WorkerDied
from maas.tensors.packing import Buffer, Column, Place, plan, read, write
from maas.tensors.stack import stack
from maas.types import Array, Signature, Tensors, TensorSpec
from maas.workers.channel import close_all
from maas.workers.dialogue import Dialogue, ProcessGone, Reply
from maas.workers.failures import restore
from maas.workers.frames import AnyFrame, Failed, Frame, Load, Loaded, Ran, Release, Run
from maas.workers.launcher import ModelProcess
from maas.workers.slab import Slab

_HEARTBEAT_SECONDS = 1.0
_MAX_MISSED = 3
_COPIED_HERE = 2 << 20  # bytes: about a millisecond

P = ParamSpec("P")
T = TypeVar("T")


class Instance:
    """Asks one question at a time of its process: `load` once, then `run` as often as wanted.

    `on_gone` is called when the process no longer listens. `answered` counts the batches that it has answered.
    """

    def __init__(
        self,
        process: ModelProcess,
        signature: Signature,
        compute_timeout: float,
        on_gone: Callable[[Instance], None] = lambda _: None,
    ) -> None:
        self.process = process
        self._on_gone = on_gone
        self.answered = 0
        self._is_running = False  # which begins before its question, and ends after the answer
        self._signature = signature
        self._compute_timeout = compute_timeout
        self._inputs: Slab | None = None
        self._outputs: Slab | None = None
        self._dialogue = Dialogue(process, self._lose)
        self.gone = self._dialogue.gone

    async def load(self, frame: Load) -> Loaded:
        """Load the version and return what its process says of it.

        Raises `BadArtifact`, `Forbidden` or `ModelFailed` where the version is at fault, `WorkerDied` where its
        process died over it, `ComputeTimeout` where it took longer than `frame.load_timeout`.
        """
        answer, _ = await self._ask(frame, seconds=frame.load_timeout)
        if isinstance(answer, Loaded):
            return answer
        raise _to_error(answer)

    async def run(self, requests: Sequence[Tensors], rows: int) -> BatchResult:
        """Run one batch; the outputs are copied out of shared memory, so they are the caller's.

        Raises `ModelFailed` where the model does, `WorkerDied` where its process dies over it, `ComputeTimeout` where it
        takes too long, which ends the process.
        """
        self._is_running = True
        try:
            return await self._run(requests, rows)
        finally:
            self._is_running = False

    async def _run(self, requests: Sequence[Tensors], rows: int) -> BatchResult:
        given = time.monotonic()
        columns = stack(self._signature, requests)
        places, nbytes = plan(columns)
        slab, fresh = self._input_slab(nbytes)
        await _copy(nbytes, _write_all, slab.buffer, places, columns)
        answer, descriptors = await self._ask(Run(places, rows), fresh, seconds=self._compute_timeout)
        self._receive_slab(descriptors)
        self.answered += 1
        if isinstance(answer, Ran):
            if self._outputs is None:  # it died right behind its answer, and the slab is gone
                raise WorkerDied("the model's process died before its answer was read")
            nbytes = sum(place.nbytes for place in answer.places)
            outputs = await _copy(
                nbytes, _read_all, self._outputs.buffer, answer.places, self._signature.outputs
            )
            began, compute = answer.began, answer.compute
            output = time.monotonic() - began - compute
            return BatchResult(outputs, compute, answer.is_finite, input=began - given, output=output)
        raise _to_error(answer)

    async def watch(self) -> None:
        """Until the process is gone, ask for a sign of life every second; kill it when it has missed three. Large slabs
        that no batch has used in the last second are freed.

        While it runs a batch only its `compute_timeout` judges, unless the kernel says that it is stopped.
        """
        missed = 0
        self._dialogue.has_been_heard()
        while not self.gone.done():
            answered = self.answered
            with suppress(OSError):
                self._dialogue.ping()
            await asyncio.wait([self.gone], timeout=_HEARTBEAT_SECONDS)
            has_been_heard = self._dialogue.has_been_heard()
            is_silent = self.process.is_stopped() if self._dialogue.is_waiting else not has_been_heard
            if not self._is_running and self.answered == answered:
                self._release_large_slabs()
            missed = missed + 1 if is_silent else 0
            if missed == _MAX_MISSED:
                self.process.kill()

    def close(self) -> None:
        """Leave the process, which ends when it notices, and free the slabs."""
        self._dialogue.close()

    def _input_slab(self, nbytes: int) -> tuple[Slab, list[int]]:
        """A slab that holds `nbytes`, and its descriptor if the process does not have it yet."""
        if self._inputs is not None and self._inputs.suits(nbytes):
            return self._inputs, []
        fresh = Slab.allocate(nbytes)  # before the old one goes: where there is no room, nothing has changed
        if self._inputs is not None:
            self._inputs.free()
        self._inputs = fresh
        return fresh, [fresh.descriptor]

    def _release_large_slabs(self) -> None:
        """Called between two batches, when neither side is writing or reading."""
        if any(slab is not None and slab.is_large for slab in (self._inputs, self._outputs)):
            with suppress(OSError):  # it is gone, or behind; then nothing is freed on either side
                self._dialogue.tell(Release())
                self._free_slabs()

    def _free_slabs(self) -> None:
        for slab in (self._inputs, self._outputs):
            if slab is not None:
                slab.free()
        self._inputs = self._outputs = None

    def _receive_slab(self, descriptors: list[int]) -> None:
        """Use the new output slab that came, if one did. Without it the process is of no use any more."""
        if not descriptors:
            return
        try:
            self._replace_outputs(descriptors)
        except OSError as error:
            unreadable = WorkerDied(f"the model's answer cannot be read: {error}")
            self._dialogue.end(unreadable)
            raise unreadable from error

    def _replace_outputs(self, descriptors: list[int]) -> None:
        close_all(descriptors[1:])
        fresh = Slab.attach(descriptors[0])
        if self._outputs is not None:
            self._outputs.free()
        self._outputs = fresh

    async def _ask(self, frame: Frame, descriptors: Sequence[int] = (), *, seconds: float) -> Reply:
        timer = asyncio.get_running_loop().call_later(seconds, self._give_up, seconds)
        try:
            return await self._dialogue.ask(frame, descriptors)
        except ProcessGone:
            raise InstanceGone from None
        except ValueError as error:
            raise BadArtifact(f"the model cannot be described to its process: {error}") from error
        finally:
            timer.cancel()

    def _give_up(self, seconds: float) -> None:
        """What runs takes too long; nothing but the end of its process stops it."""
        self._dialogue.end(
            ComputeTimeout(f"the model took longer than {seconds:g} s, and its process was ended")
        )

    def _lose(self) -> None:
        self._free_slabs()
        self._on_gone(self)


async def _copy(nbytes: int, function: Callable[P, T], *arguments: P.args, **options: P.kwargs) -> T:
    """Call a function that copies `nbytes`: what takes longer than a hop to a thread does not hold up the loop."""
    if nbytes <= _COPIED_HERE:
        return function(*arguments, **options)
    return await asyncio.to_thread(function, *arguments, **options)


def _write_all(buffer: Buffer, places: Sequence[Place], columns: Sequence[Column]) -> None:
    for column, place in zip(columns, places, strict=True):
        write(buffer, place, column)


def _read_all(buffer: Buffer, places: Sequence[Place], specs: Sequence[TensorSpec]) -> dict[str, Array]:
    return {
        spec.name: read(buffer, place, spec.numpy_dtype).copy()
        for spec, place in zip(specs, places, strict=True)
    }


def _to_error(answer: AnyFrame) -> MaasError:
    if isinstance(answer, Failed):
        return restore(answer)
    return ModelFailed(f"the model's process answered with {type(answer).__name__}")
