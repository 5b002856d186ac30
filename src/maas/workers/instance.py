"""An instance: one loaded copy of a version in a process of its own, as the gateway sees it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress

from maas import errors
from maas.batching.execution import BatchResult, InstanceGone
from maas.errors import BadArtifact, ComputeTimeout, MaasError, ModelFailed, WorkerDied
from maas.tensors.packing import Column, plan, read, write
from maas.types import Array, Signature, Tensors
from maas.workers.channel import Channel, close_all
from maas.workers.frames import AnyFrame, Failed, Frame, Load, Loaded, Ping, Pong, Ran, Run
from maas.workers.launcher import ModelProcess
from maas.workers.slab import Slab

_HEARTBEAT_SECONDS = 1.0
_MAX_MISSED = 3

# What a model process may say failed; anything else it says is the model's failure.
_SAYABLE: dict[str, type[MaasError]] = {
    cls.__name__: cls
    for cls in (errors.InvalidRequest, errors.Forbidden, errors.OutOfMemory, BadArtifact, ModelFailed)
}


class Instance:
    """Asks one question at a time of its process: `load` once, then `run` as often as wanted.

    `gone` is done, and `on_gone` was called, when the process no longer listens. `answered` counts the batches that it has answered.
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
        self._signature = signature
        self._compute_timeout = compute_timeout
        self._heard = False
        self._answer: asyncio.Future[tuple[AnyFrame, list[int]]] | None = None
        self.gone: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._inputs: Slab | None = None
        self._outputs: Slab | None = None
        self._channel = Channel(process.sock, self._hear, self._lose)
        process.on_exit = self._lose

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
        columns = [
            Column([inputs[spec.name] for inputs in requests], spec.batch_axis)
            for spec in self._signature.inputs
        ]
        places, nbytes = plan(columns)
        slab, fresh = self._input_slab(nbytes)
        for column, place in zip(columns, places, strict=True):
            write(slab.buffer, place, column)
        answer, descriptors = await self._ask(Run(places, rows), fresh, seconds=self._compute_timeout)
        self._receive_slab(descriptors)
        self.answered += 1
        if isinstance(answer, Ran):
            return BatchResult(self._read_outputs(answer), answer.compute, answer.is_finite)
        raise _to_error(answer)

    async def watch(self) -> None:
        """Until the process is gone, ask for a sign of life every second; kill it when it has missed three.

        While it runs a batch only its `compute_timeout` judges, unless the kernel says that it is stopped.
        """
        missed = 0
        while not self.gone.done():
            self._heard = False
            with suppress(OSError):
                self._channel.send(Ping())
            await asyncio.wait([self.gone], timeout=_HEARTBEAT_SECONDS)
            is_busy = self._answer is not None
            is_silent = self.process.is_stopped() if is_busy else not self._heard
            missed = missed + 1 if is_silent else 0
            if missed == _MAX_MISSED:
                self.process.kill()

    def close(self) -> None:
        """Leave the process, which ends when it notices, and free the slabs."""
        self._channel.close()
        self._lose()

    def _input_slab(self, nbytes: int) -> tuple[Slab, list[int]]:
        """A slab that holds `nbytes`, and its descriptor if the process does not have it yet."""
        if self._inputs is not None and self._inputs.suits(nbytes):
            return self._inputs, []
        fresh = Slab.allocate(nbytes)  # before the old one goes: where there is no room, nothing has changed
        if self._inputs is not None:
            self._inputs.free()
        self._inputs = fresh
        return fresh, [fresh.descriptor]

    def _receive_slab(self, descriptors: list[int]) -> None:
        """Use the new output slab that came, if one did. Without it the process is of no use any more."""
        if not descriptors:
            return
        try:
            self._replace_outputs(descriptors)
        except OSError as error:
            self.process.kill()
            self._end(WorkerDied(f"the model's answer cannot be read: {error}"))
            raise WorkerDied(f"the model's answer cannot be read: {error}") from error

    def _replace_outputs(self, descriptors: list[int]) -> None:
        close_all(descriptors[1:])
        fresh = Slab.attach(descriptors[0])
        if self._outputs is not None:
            self._outputs.free()
        self._outputs = fresh

    def _read_outputs(self, answer: Ran) -> dict[str, Array]:
        assert self._outputs is not None, "the first answer brings its slab"
        outputs = {}
        for spec, place in zip(self._signature.outputs, answer.places, strict=True):
            outputs[spec.name] = read(self._outputs.buffer, place, spec.numpy_dtype).copy()
        return outputs

    async def _ask(
        self, frame: Frame, descriptors: Sequence[int] = (), *, seconds: float
    ) -> tuple[AnyFrame, list[int]]:
        if self.gone.done():
            raise InstanceGone
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[tuple[AnyFrame, list[int]]] = loop.create_future()
        self._answer = answer
        timer = loop.call_later(seconds, self._give_up, seconds)
        try:
            self._channel.send(frame, descriptors)
            return await answer
        except OSError as error:
            raise WorkerDied(f"the model's process does not listen: {error.strerror}") from error
        except ValueError as error:
            raise BadArtifact(f"the model cannot be described to its process: {error}") from error
        finally:
            timer.cancel()
            self._answer = None

    def _hear(self, frame: AnyFrame, descriptors: list[int]) -> None:
        self._heard = True
        if isinstance(frame, Pong):
            close_all(descriptors)
        elif self._answer is None or self._answer.done():
            close_all(descriptors)  # nobody asks any more
        else:
            self._answer.set_result((frame, descriptors))

    def _give_up(self, seconds: float) -> None:
        """What runs takes too long; nothing but the end of its process stops it."""
        self.process.kill()
        self._end(ComputeTimeout(f"the model took longer than {seconds:g} s, and its process was ended"))

    def _lose(self) -> None:
        self._end(WorkerDied("the model's process died over what it was asked"))

    def _end(self, error: MaasError) -> None:
        if not self.gone.done():
            self.gone.set_result(None)
            self._on_gone(self)  # before the batch fails, so that the instance gets no other one
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(error)
        for slab in (self._inputs, self._outputs):
            if slab is not None:
                slab.free()
        self._inputs = self._outputs = None


def _to_error(answer: AnyFrame) -> MaasError:
    if not isinstance(answer, Failed):
        return ModelFailed(f"the model's process answered with {type(answer).__name__}")
    return _SAYABLE.get(answer.error, ModelFailed)(answer.message, trace=answer.trace)
