"""The codec process: parses large bodies and renders large answers for the gateway, one at a time.

It runs the very functions of the dialects that the gateway runs on small ones. What it makes lies in a slab that it gives away;
it keeps nothing between two requests.
"""

from __future__ import annotations

import gc
import socket
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import msgspec

from maas.api import native, v1
from maas.api.errors import OPAQUE
from maas.api.oip import infer
from maas.api.operation import Operation, Payload, Subject
from maas.batching.request import Answer, Timings
from maas.errors import MaasError, TooLarge
from maas.tensors.packing import Column, plan, read, write
from maas.types import Signature
from maas.workers.channel import close_all, new_buffer, receive, send
from maas.workers.failures import describe
from maas.workers.frames import Described, Frame, Parse, Parsed, Render, Rendered
from maas.workers.slab import Slab

_OPERATIONS: dict[str, Operation[Any]] = {
    operation.name: operation for operation in (native.PREDICT, infer.INFER, v1.V1_PREDICT)
}


@dataclass(frozen=True, slots=True)
class DescribedSubject:
    """A version of which nothing is here but its description."""

    name: str
    version: str
    signature: Signature
    allow_non_finite: bool


def serve(sock: socket.socket) -> None:
    """Answer `Parse` and `Render` until the gateway is gone, which may be in the middle of an answer."""
    gc.disable()  # millions of lists, none of which refers to itself: looking for such cycles takes longer than parsing
    buffer = new_buffer()
    with suppress(ConnectionError):
        while (received := receive(sock, buffer)) is not None:
            frame, descriptors = received
            if isinstance(frame, Parse | Render):
                answer, slab = _answer(frame, Slab.attach(descriptors[0]))
                send(sock, answer, [] if slab is None else [slab.descriptor])
                if slab is not None:
                    slab.free()
            else:
                close_all(descriptors)


def _answer(frame: Parse | Render, given: Slab) -> tuple[Frame, Slab | None]:
    try:
        return _parse(frame, given) if isinstance(frame, Parse) else _render(frame, given)
    except MaasError as error:
        return describe(error, error), None
    except MemoryError as error:
        return describe(TooLarge("there is not enough memory to read or write the body"), error), None
    except Exception as error:
        return describe(MaasError(OPAQUE), error), None
    finally:
        given.free()


def _parse(frame: Parse, given: Slab) -> tuple[Parsed, Slab]:
    operation = _OPERATIONS[frame.operation]
    subject = _to_subject(frame.subject)
    call = operation.parse(subject, Payload(bytes(given.buffer[: frame.size]), frame.json_size))
    columns = [Column([array], None) for array in call.inputs.values()]
    places, nbytes = plan(columns)
    slab = Slab.allocate(nbytes)
    for column, place in zip(columns, places, strict=True):
        write(slab.buffer, place, column)
    inputs = dict(zip(call.inputs, places, strict=True))
    return Parsed(inputs, msgspec.Raw(msgspec.msgpack.encode(call.form)), call.timeout, call.priority), slab


def _render(frame: Render, given: Slab) -> tuple[Rendered, Slab]:
    operation = _OPERATIONS[frame.operation]
    subject = _to_subject(frame.subject)
    outputs = {
        spec.name: read(given.buffer, place, spec.numpy_dtype)
        for spec, place in zip(subject.signature.outputs, frame.places, strict=True)
    }
    form = msgspec.msgpack.decode(frame.form, type=operation.form)
    payload = operation.render(subject, form, Answer(outputs, Timings(0.0, 0.0), frame.is_finite))
    size = len(payload.data)
    slab = Slab.allocate(size)
    slab.buffer[:size] = payload.data
    return Rendered(size, payload.json_size), slab


def _to_subject(described: Described) -> Subject:
    signature = Signature.parse(described.inputs, described.outputs, described.bounds)
    return DescribedSubject(described.name, described.version, signature, described.allow_non_finite)
