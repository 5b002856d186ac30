"""A dialogue: questions to one process, one at a time, and its answers, or the error for which there will be none."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from maas.errors import MaasError, WorkerDied
from maas.workers.channel import Channel, close_all
from maas.workers.frames import AnyFrame, Frame, Ping, Pong
from maas.workers.launcher import ModelProcess

Reply = tuple[AnyFrame, list[int]]
"""A frame, and the descriptors beside it, now the caller's to close."""


class ProcessGone(Exception):
    """The process was gone before it was asked, so nothing was done. Never reaches a caller."""


class Dialogue:
    """`gone` is done, and `on_gone` was called, when the process no longer listens."""

    def __init__(self, process: ModelProcess, on_gone: Callable[[], None] = lambda: None) -> None:
        self.process = process
        self._on_gone = on_gone
        self._answer: asyncio.Future[Reply] | None = None
        self._heard = False
        self.gone: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._channel = Channel(process.sock, self._hear, self._lose)
        process.on_exit = self._lose

    @property
    def is_waiting(self) -> bool:
        """Whether a question is not answered yet."""
        return self._answer is not None

    async def ask(self, frame: Frame, descriptors: Sequence[int] = ()) -> Reply:
        """Raises `ProcessGone`, `WorkerDied` where the process dies over it, what `end` was given where somebody ends it
        meanwhile, and `ValueError` for a frame that is too large. Cancelled, it ends the process: whatever it says next
        would be taken for the answer to another question."""
        if self.gone.done():
            raise ProcessGone
        answer: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        self._answer = answer
        try:
            self._channel.send(frame, descriptors)
            return await answer
        except OSError as error:
            raise WorkerDied(f"the process does not listen: {error.strerror}") from error
        except asyncio.CancelledError:
            self.end(WorkerDied("nobody waits for the answer"))
            raise
        finally:
            self._answer = None

    def tell(self, frame: Frame) -> None:
        """Say what is not answered. Raises `OSError` where the process does not read."""
        self._channel.send(frame)

    def ping(self) -> None:
        """Ask for a sign of life. Raises `OSError` where the process does not read."""
        self.tell(Ping())

    def has_been_heard(self) -> bool:
        """Whether the process has said anything since this was asked last."""
        heard, self._heard = self._heard, False
        return heard

    def end(self, error: MaasError) -> None:
        """Have the process killed; the question that is open fails with `error`."""
        self.process.kill()
        self._end(error)

    def close(self) -> None:
        """Leave the process, which ends when it notices."""
        self._channel.close()
        self._lose()

    def _hear(self, frame: AnyFrame, descriptors: list[int]) -> None:
        self._heard = True
        if isinstance(frame, Pong):
            close_all(descriptors)
        elif self._answer is None or self._answer.done():
            close_all(descriptors)  # nobody asks any more
        else:
            self._answer.set_result((frame, descriptors))

    def _lose(self) -> None:
        self._end(WorkerDied("the process died over what it was asked"))

    def _end(self, error: MaasError) -> None:
        if not self.gone.done():
            self.gone.set_result(None)
            self._on_gone()  # before the question fails, so that nobody asks another
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(error)
