"""What the suite must know of a server to drive it: how to start it with the sleeping model, and how to ask it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from subprocess import Popen
from typing import Protocol

from benchmarks.torture.ledger import Ledger


@dataclass(frozen=True, slots=True)
class Setup:
    """How the model is to be served. `deadline`: seconds after which the server itself answers that it is too late, however
    busy the model is, if it can. `refuses_unreachable`: it may refuse at the door what it could not answer in time."""

    max_batch_size: int = 32
    deadline: float = 30.0
    refuses_unreachable: bool = True


@dataclass(frozen=True, slots=True)
class Service:
    """A running server. `ask(milliseconds, number)` is a whole HTTP request: answer twice both, after sleeping so long for
    the whole batch; below zero, a habit of `models.py`. `number` may be a text that stands for one."""

    port: int
    process: Popen[bytes]
    ledger: Ledger
    ask: Callable[[float, object], bytes]


class Adapter(Protocol):
    name: str

    def versions(self) -> str:
        """The server and what it is built on, with versions."""

    def lacks(self) -> dict[str, str]:
        """Scenarios that it has no feature for, by name, with what is missing."""

    def serve(self, folder: Path, setup: Setup) -> AbstractContextManager[Service]:
        """Start it, ready, with its files in `folder`; at the end, none of its processes is left."""
