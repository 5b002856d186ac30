"""An instance: one loaded copy of a version in a process of its own, as the gateway sees it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from maas import errors
from maas.batching.batcher import BatchResult
from maas.errors import BadArtifact, MaasError, ModelFailed, WorkerDied
from maas.tensors.packing import Column, plan, read, write
from maas.types import Array, Signature, Tensors
from maas.workers.channel import Channel, close_all
from maas.workers.frames import AnyFrame, Failed, Frame, Load, Loaded, Ran, Run
from maas.workers.launcher import ModelProcess
from maas.workers.slab import Slab

# What a model process may say failed; anything else it says is the model's failure.
_SAYABLE: dict[str, type[MaasError]] = {
    cls.__name__: cls
    for cls in (errors.InvalidRequest, errors.TooLarge, errors.Forbidden, BadArtifact, ModelFailed)
}


class Instance:
    """Asks one question at a time of its process: `load` once, then `run` as often as wanted.

    `gone` is done when the process no longer listens.
    """

    def __init__(self, process: ModelProcess, signature: Signature) -> None:
        self.process = process
        self._signature = signature
        self._answer: asyncio.Future[tuple[AnyFrame, list[int]]] | None = None
        self.gone: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._inputs: Slab | None = None
        self._outputs: Slab | None = None
        self._channel = Channel(process.sock, self._hear, self._lose)

    async def load(self, frame: Load) -> Loaded:
        """Load the version and return what its process says of it.

        Raises `BadArtifact`, `Forbidden` or `ModelFailed` where the version is at fault, `WorkerDied` where its
        process died over it.
        """
        answer, _ = await self._ask(frame)
        if isinstance(answer, Loaded):
            return answer
        raise _to_error(answer)

    async def run(self, requests: Sequence[Tensors], rows: int) -> BatchResult:
        """Run one batch; the outputs are copied out of shared memory, so they are the caller's.

        Raises `ModelFailed` where the model does, `WorkerDied` where its process dies over it.
        """
        columns = [
            Column([inputs[spec.name] for inputs in requests], spec.batch_axis)
            for spec in self._signature.inputs
        ]
        places, nbytes = plan(columns)
        slab, fresh = self._input_slab(nbytes)
        for column, place in zip(columns, places, strict=True):
            write(slab.buffer, place, column)
        answer, descriptors = await self._ask(Run(places, rows), fresh)
        if descriptors:
            self._replace_outputs(descriptors)
        if isinstance(answer, Ran):
            return BatchResult(self._read_outputs(answer), answer.compute, answer.is_finite)
        raise _to_error(answer)

    def close(self) -> None:
        """Leave the process, which ends when it notices, and free the slabs."""
        self._channel.close()
        self._lose()

    def _input_slab(self, nbytes: int) -> tuple[Slab, list[int]]:
        """A slab that holds `nbytes`, and its descriptor if the process does not have it yet."""
        if self._inputs is not None and nbytes <= self._inputs.size:
            return self._inputs, []
        if self._inputs is not None:
            self._inputs.free()
        self._inputs = Slab.allocate(nbytes)
        return self._inputs, [self._inputs.descriptor]

    def _replace_outputs(self, descriptors: list[int]) -> None:
        if self._outputs is not None:
            self._outputs.free()
        self._outputs = Slab.attach(descriptors[0])
        close_all(descriptors[1:])

    def _read_outputs(self, answer: Ran) -> dict[str, Array]:
        assert self._outputs is not None, "the first answer brings its slab"
        outputs = {}
        for spec, place in zip(self._signature.outputs, answer.places, strict=True):
            outputs[spec.name] = read(self._outputs.buffer, place, spec.numpy_dtype).copy()
        return outputs

    async def _ask(self, frame: Frame, descriptors: Sequence[int] = ()) -> tuple[AnyFrame, list[int]]:
        if self.gone.done():
            raise WorkerDied("the model's process is gone")
        answer: asyncio.Future[tuple[AnyFrame, list[int]]] = asyncio.get_running_loop().create_future()
        self._answer = answer
        try:
            self._channel.send(frame, descriptors)
            return await answer
        except OSError as error:
            raise WorkerDied(f"the model's process does not listen: {error.strerror}") from error
        except ValueError as error:
            raise BadArtifact(f"the model cannot be described to its process: {error}") from error
        finally:
            self._answer = None

    def _hear(self, frame: AnyFrame, descriptors: list[int]) -> None:
        if self._answer is None or self._answer.done():
            close_all(descriptors)  # nobody asks any more
        else:
            self._answer.set_result((frame, descriptors))

    def _lose(self) -> None:
        if not self.gone.done():
            self.gone.set_result(None)  # before the batch fails, so that the instance gets no other one
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(WorkerDied("the model's process died while it ran the batch"))
        for slab in (self._inputs, self._outputs):
            if slab is not None:
                slab.free()
        self._inputs = self._outputs = None


def _to_error(answer: AnyFrame) -> MaasError:
    if not isinstance(answer, Failed):
        return ModelFailed(f"the model's process answered with {type(answer).__name__}")
    return _SAYABLE.get(answer.error, ModelFailed)(answer.message, code=answer.code, trace=answer.trace)
