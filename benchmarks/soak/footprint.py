"""What a running server holds, as the kernel says it."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

_TASKS = re.compile(r"^maas_tasks (\S+)", re.MULTILINE)
_ANONYMOUS = re.compile(r"^RssAnon:\s+(\d+)", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Footprint:
    """Memory that is a process's own, in kilobytes: of the gateway, and of fork servers and model processes together; what
    the gateway has open; the processes below it; slabs that any of them maps; the gateway's asyncio tasks."""

    gateway: int
    others: int
    descriptors: int
    threads: int
    processes: int
    slabs: int
    tasks: int

    def counts(self) -> dict[str, int]:
        """What must be the same whenever the server is idle."""
        names = ("descriptors", "threads", "processes", "slabs", "tasks")
        return {name: getattr(self, name) for name in names}


def read_footprint(gateway: int, metrics: str) -> Footprint:
    """Of the server whose gateway has that pid, and says `metrics` of itself."""
    below = list(_descendants(gateway))
    tasks = _TASKS.search(metrics)
    assert tasks is not None, "the metrics say nothing of tasks"
    return Footprint(
        gateway=_own_memory(gateway),
        others=sum(map(_own_memory, below)),
        descriptors=len(_links(gateway)),
        threads=len(_names(f"/proc/{gateway}/task")),
        processes=len(below),
        slabs=sum(link.startswith("/memfd:maas-slab") for pid in (gateway, *below) for link in _links(pid)),
        tasks=int(float(tasks[1])),
    )


def model_processes(gateway: int) -> list[int]:
    """The children of the fork servers, which are the gateway's own."""
    return [pid for parent in _children(gateway) for pid in _children(parent)]


def _descendants(pid: int) -> Iterable[int]:
    for child in _children(pid):
        yield child
        yield from _descendants(child)


def _children(pid: int) -> list[int]:
    return [int(child) for child in _text(f"/proc/{pid}/task/{pid}/children").split()]


def _own_memory(pid: int) -> int:
    found = _ANONYMOUS.search(_text(f"/proc/{pid}/status"))
    return int(found[1]) if found is not None else 0


def _links(pid: int) -> list[str]:
    links = []
    for name in _names(f"/proc/{pid}/fd"):
        with suppress(OSError):
            links.append(os.readlink(f"/proc/{pid}/fd/{name}"))
    return links


def _text(path: str) -> str:
    with suppress(OSError):  # a process may be gone before it is read
        return Path(path).read_text()
    return ""


def _names(path: str) -> list[str]:
    with suppress(OSError):
        return os.listdir(path)
    return []
