"""An inference operation of a dialect: two pure functions between bodies and tensors.

They may run on the gateway's loop or in another process (`maas.api.codec`), so what they are given and what they give
is data: the declaration of a version, the bytes of a body, arrays by name, and a small record of the dialect's own.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

import msgspec

from maas.batching.priority import Priority
from maas.batching.request import Answer
from maas.errors import MaasError
from maas.types import Signature, Tensors

F = TypeVar("F")


class Subject(Protocol):
    """The version that a body is about, as far as parsing and rendering need to know it."""

    @property
    def name(self) -> str: ...

    @property
    def version(self) -> str: ...

    @property
    def signature(self) -> Signature: ...

    @property
    def allow_non_finite(self) -> bool: ...


class Payload(msgspec.Struct):
    """A body: JSON, and where `json_size` is not None, raw tensors behind the first so many bytes of it; or all of that
    compressed, as `coding` says."""

    data: bytes | memoryview
    json_size: int | None = None
    coding: str = ""


@dataclass(slots=True)
class Call(Generic[F]):
    """A parsed request. `form` is what the dialect needs to know of it again when it renders the answer; `timeout` is how
    many seconds the request itself says it may take, and `priority` the one that it asks for, None where it does not."""

    inputs: Tensors
    form: F
    timeout: float | None = None
    priority: Priority | None = None


@dataclass(frozen=True, slots=True)
class Operation(Generic[F]):
    """`parse` raises `InvalidRequest`; `render` may raise `ModelFailed`, where an answer cannot be said in the dialect;
    `render_error` gives the body for an error and the request's id. `form` is a frozen dataclass of plain values.
    `takes_raw` says whether a request may hold raw tensors, and `gives_raw` whether an answer of that form holds no others, so
    that writing it is copying."""

    name: str
    form: type[F]
    parse: Callable[[Subject, Payload], Call[F]]
    render: Callable[[Subject, F, Answer], Payload]
    render_error: Callable[[MaasError, str], bytes]
    takes_raw: bool = False
    gives_raw: Callable[[F], bool] = lambda _: False
