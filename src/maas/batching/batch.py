"""Requests that one instance runs together."""

from __future__ import annotations

import math
from collections.abc import Sequence
from operator import attrgetter

from maas.batching.execution import Instance, padded_elements
from maas.batching.request import Request

_rows = attrgetter("rows")
_deadline = attrgetter("deadline")


class Batch:
    """What runs on `instance` since `started`. `deadline` is the earliest of those that have not expired."""

    __slots__ = ("deadline", "instance", "requests", "started")

    def __init__(self, instance: Instance, requests: Sequence[Request], started: float) -> None:
        self.instance = instance
        self.requests = requests
        self.started = started
        self.deadline: float = min(map(_deadline, requests))

    @property
    def rows(self) -> int:
        return sum(map(_rows, self.requests))

    @property
    def elements(self) -> int:
        """Of each row, when it is padded."""
        return padded_elements(self.requests)

    def take_due(self, now: float) -> list[Request]:
        """Its requests whose deadline is reached and that are not done, once."""
        if self.deadline > now:
            return []
        open_requests = [request for request in self.requests if not request.is_done]
        left = [request.deadline for request in open_requests if request.deadline > now]
        self.deadline = min(left, default=math.inf)
        return [request for request in open_requests if request.deadline <= now]
