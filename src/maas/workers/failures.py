"""Failures across processes: an error as a frame, and as an error again."""

from __future__ import annotations

import errno
import traceback

from maas import errors
from maas.errors import MaasError, ModelFailed, OutOfMemory
from maas.types import clip
from maas.workers.frames import Failed

_MAX_TRACE = 16 << 10  # characters
_MAX_MESSAGE = 1000

# What a process may say failed; anything else it says is the model's failure.
_SAYABLE: dict[str, type[MaasError]] = {
    cls.__name__: cls
    for cls in (
        errors.InvalidRequest,
        errors.TooLarge,
        errors.Forbidden,
        errors.ModelFailed,
        errors.OutOfMemory,
        errors.BadArtifact,
    )
}


def describe(known: MaasError, cause: BaseException) -> Failed:
    """`known` is what a caller may learn of `cause`, whose traceback is for the log."""
    trace = "".join(traceback.format_exception(cause))[-_MAX_TRACE:]
    return Failed(type(known).__name__, known.code, _plain(clip(known.message, _MAX_MESSAGE)), _plain(trace))


def restore(failed: Failed) -> MaasError:
    error = _SAYABLE.get(failed.error, ModelFailed)(failed.message, trace=failed.trace)
    error.code = failed.code
    return error


def _plain(text: str) -> str:
    """Text that can be sent: an exception may quote half a character of its input."""
    return text.encode("utf-8", "backslashreplace").decode()


def translate(error: BaseException) -> MaasError:
    """An error of our tree says itself; of any other a caller learns the type only, for its text may hold a path."""
    if isinstance(error, MaasError):
        return error
    if (
        isinstance(error, MemoryError)
        or (isinstance(error, OSError) and error.errno == errno.ENOMEM)  # no room to map a slab
        or type(error).__name__ == "OutOfMemoryError"  # torch's
    ):
        return OutOfMemory("the batch does not fit in the model's memory")
    return ModelFailed(f"the model raised {type(error).__name__}")
