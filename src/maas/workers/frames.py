"""What is said between the gateway, the fork servers, the model processes and the codec processes.

Every frame is one message on a `SOCK_SEQPACKET` socket pair: MessagePack with the class as tag, never a pickle.
Tensors are not in it; they lie in slabs whose descriptors travel beside a frame when they are new.
"""

from __future__ import annotations

from typing import Any

import msgspec

from maas.batching.priority import Priority
from maas.tensors.packing import Place
from maas.types import Bounds, CurvePoint, Tolerance

MAX_FRAME = 128 << 10  # bytes: under the kernel's default socket buffer, so that one send is one message


class Frame(msgspec.Struct, frozen=True, tag=True):
    """Anything that may be said."""


# ── gateway → fork server ────────────────────────────────────────────────────────────────────────────────────


class Fork(Frame, frozen=True, tag=True):
    """Start a process that runs `serve` of the module `entry` on its end of a new socket pair, which travels beside the
    frame; behind it the end of a pipe to print into, where that is not to go where the fork server's output goes."""

    entry: str


class Kill(Frame, frozen=True, tag=True):
    """Kill the model process `pid` if it has not been reaped: only its parent can be sure that it is still that one."""

    pid: int


# ── fork server → gateway ────────────────────────────────────────────────────────────────────────────────────


class Forked(Frame, frozen=True, tag=True):
    """The answer to the oldest unanswered `Fork`."""

    pid: int


class ForkFailed(Frame, frozen=True, tag=True):
    """The answer to the oldest unanswered `Fork`, where the machine has no room for a process."""

    reason: str


class Exited(Frame, frozen=True, tag=True):
    """A model process has ended: `code` as `os.waitstatus_to_exitcode` has it, a signal's number negative."""

    pid: int
    code: int


# ── gateway → model process ──────────────────────────────────────────────────────────────────────────────────


class Load(Frame, frozen=True, tag=True):
    """Check, load, self-test and warm up the version in `directory`. The first frame, and only once."""

    directory: str
    files: dict[str, str]
    runtime: str
    options: dict[str, Any]
    inputs: dict[str, str]
    outputs: dict[str, str]
    bounds: dict[str, Bounds]
    tolerances: dict[str, Tolerance]
    device: str
    threads: int
    max_batch_size: int
    max_batch_cost: int | None
    max_answer_bytes: int
    load_timeout: float
    allow_non_finite: bool
    allow_code: tuple[str, ...]


class Run(Frame, frozen=True, tag=True):
    """Run the batch whose inputs lie at `places` of the input slab, which travels beside the frame when it is new."""

    places: list[Place]
    rows: int


class Ping(Frame, frozen=True, tag=True):
    """Answered by `Pong` as soon as the process gets to it."""


class Release(Frame, frozen=True, tag=True):
    """Free both slabs, as the sender has: the next `Run` brings a new one, and so does its answer. Not answered, and
    sent between an answer and the next question only, so each side knows what the other has."""


# ── model process → gateway ──────────────────────────────────────────────────────────────────────────────────


class Loaded(Frame, frozen=True, tag=True):
    """The version answers its golden samples; `seconds` it took to get there. The `curve` begins with one row.

    The examples are a single sample's tensors as nested lists, for people to try; empty where they are large.
    """

    seconds: float
    curve: list[CurvePoint]
    example_inputs: dict[str, Any]
    example_outputs: dict[str, Any]


class Ran(Frame, frozen=True, tag=True):
    """The outputs lie at `places` of the output slab, new or known; the runner `began` at that monotonic time, which is one
    for all processes of a machine, and took `compute` seconds.

    `is_finite` says of the whole batch that no output holds NaN or an infinity.
    """

    places: list[Place]
    began: float
    compute: float
    is_finite: bool


class Pong(Frame, frozen=True, tag=True):
    """The process listens."""


# ── gateway → codec process ──────────────────────────────────────────────────────────────────────────────────


class Described(Frame, frozen=True, tag=True):
    """The version that a body is about: what `maas.api.operation.Subject` holds, as it is declared."""

    name: str
    version: str
    inputs: dict[str, str]
    outputs: dict[str, str]
    bounds: dict[str, Bounds]
    allow_non_finite: bool


class Parse(Frame, frozen=True, tag=True):
    """Parse the body in the first `size` bytes of the slab beside the frame, as the operation of that name does; raw tensors
    are behind the first `json_size` of them, if it has any."""

    operation: str
    subject: Described
    size: int
    json_size: int | None


class Render(Frame, frozen=True, tag=True):
    """Render the outputs at `places` of the slab beside the frame. `form` is what parsing the request said of it."""

    operation: str
    subject: Described
    form: msgspec.Raw
    places: list[Place]
    is_finite: bool


# ── codec process → gateway ──────────────────────────────────────────────────────────────────────────────────


class Parsed(Frame, frozen=True, tag=True):
    """The inputs that the body has, by name, and where each lies in the slab beside the frame; `form`, `timeout` and
    `priority` are the call's."""

    inputs: dict[str, Place]
    form: msgspec.Raw
    timeout: float | None
    priority: Priority | None


class Rendered(Frame, frozen=True, tag=True):
    """The body is the first `size` bytes of the slab beside the frame, JSON in the first `json_size` of them, or in all."""

    size: int
    json_size: int | None


# ── any process → gateway ────────────────────────────────────────────────────────────────────────────────────


class Failed(Frame, frozen=True, tag=True):
    """What was asked failed: an error of our tree by its class's name and its code, and for the log what led to it."""

    error: str
    code: str
    message: str
    trace: str


AnyFrame = (
    Fork | Kill | Forked | ForkFailed | Exited  # of fork servers
    | Load | Run | Ping | Release | Loaded | Ran | Pong  # of model processes
    | Parse | Render | Parsed | Rendered  # of codec processes
    | Failed
)  # fmt: skip

_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(AnyFrame)


def encode(frame: Frame) -> bytes:
    """Raises `ValueError` for a frame over `MAX_FRAME`."""
    message = _encoder.encode(frame)
    if len(message) > MAX_FRAME:
        raise ValueError(f"a {type(frame).__name__} frame has {len(message)} bytes; at most {MAX_FRAME} fit")
    return message


def decode(message: bytes) -> AnyFrame:
    """Raises `ValueError` for what is no frame."""
    frame: AnyFrame = _decoder.decode(message)
    return frame
