"""A measurement from its first point to its last."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence

from maas.bench.clients import send
from maas.bench.load import Load
from maas.bench.meters import Series, ServerStatistics, parse_metrics, statistics_between
from maas.bench.report import Point
from maas.bench.server import Model, Server

_REST = 0.2  # seconds between points, in which a server ends what it has


def sweep(server: Server, model: Model | None, loads: Sequence[Load], processes: int) -> Iterator[Point]:
    """A point for each load, as it is measured; one that is interrupted is the last."""
    for load in loads:
        before = _look(server, model)
        tally = send(load, processes)
        after = _look(server, model)
        has_seen = before is not None and after is not None
        yield Point(
            load, tally, statistics_between(before or {}, after or {}) if has_seen else ServerStatistics()
        )
        if tally.is_interrupted:
            return
        time.sleep(_REST)


def _look(server: Server, model: Model | None) -> dict[Series, float] | None:
    text = server.metrics() if model is not None else None
    return None if text is None or model is None else parse_metrics(text, model.name, model.version)
