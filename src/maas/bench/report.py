"""A measurement as numbers: its points, each a load and what came of it, as a table for people and as JSON for programs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

from maas.bench.load import INTERRUPTED, Load, Tally
from maas.bench.meters import ServerStatistics

PERCENTILES = (50.0, 90.0, 99.0, 99.9)

_BUSY = 0.9  # share of a core above which the client may be what is slow
_LATE = 0.001  # seconds
_BEHIND = 0.98  # of the rate that was due; a Poisson process itself is off by more only over a short time


@dataclass(frozen=True, slots=True)
class Point:
    load: Load
    tally: Tally
    server: ServerStatistics

    @property
    def name(self) -> str:
        if self.load.rate is not None:
            return f"{self.load.rate:g}/s"
        return f"{self.load.connections} conn."

    @property
    def throughput(self) -> float:
        """Good answers a second."""
        return self.tally.completed / self.tally.seconds if self.tally.seconds > 0 else 0.0

    @property
    def rows_per_second(self) -> float:
        return self.tally.rows / self.tally.seconds if self.tally.seconds > 0 else 0.0

    @property
    def offered(self) -> float | None:
        """Requests a second that were due, of an open loop."""
        if self.load.rate is None or self.tally.seconds <= 0:
            return None
        return self.tally.requests / self.tally.seconds

    def bottlenecks(self) -> list[str]:
        """What of the client, not of the server, may have bounded the measurement."""
        tally = self.tally
        found = []
        if (busiest := max(tally.cpu_shares, default=0.0)) > _BUSY:
            found.append(f"a client process computed {busiest:.0%} of the time: give it --processes")
        late = tally.lateness.percentile(99)
        if late > max(_LATE, tally.latencies.percentile(50) / 10):
            found.append(f"1 % of the requests left over {late * 1e3:.1f} ms after they were due")
        if tally.starved:
            found.append(
                f"{tally.starved} requests were due while all {self.load.connections} connections were busy"
            )
        return found

    def document(self) -> dict[str, object]:
        """The point as JSON has it; seconds throughout."""
        load, tally = self.load, self.tally
        return {
            "loop": "closed" if load.rate is None else "open",
            "connections": load.connections if load.rate is None else None,
            "rate": load.rate,
            "offered": self.offered,
            "seconds": tally.seconds,
            "requests": tally.requests,
            "outcomes": dict(tally.outcomes),
            "requests_per_second": self.throughput,
            "rows_per_second": self.rows_per_second,
            "latency": {
                "mean": tally.latencies.mean,
                **{f"p{percent:g}": tally.latencies.percentile(percent) for percent in PERCENTILES},
                "max": tally.latencies.max,
            },
            "server": asdict(self.server),
            "client": {
                "cpu_shares": tally.cpu_shares,
                "lateness_p99": tally.lateness.percentile(99) if load.rate is not None else None,
                "connections_opened": tally.opened,
                "starved": tally.starved,
                "bottlenecks": self.bottlenecks(),
            },
            "interrupted": tally.is_interrupted,
        }


def render_table(points: Sequence[Point]) -> str:
    """Latencies and the server's means in milliseconds; below it what the client says of itself, and the errors."""
    header = [
        *("load", "requests", "errors", "req/s", "rows/s"),
        *(f"p{percent:g}" for percent in PERCENTILES),
        *("max", "rows/batch", "queue", "compute", "padding", "client"),
    ]
    rows = [header, *map(_row, points)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]
    return "\n".join([*lines, *(note for point in points for note in _notes(point))])


def _row(point: Point) -> list[str]:
    tally, server = point.tally, point.server
    return [
        point.name,
        str(tally.requests),
        str(sum(tally.errors.values())),
        f"{point.throughput:,.0f}",
        f"{point.rows_per_second:,.0f}",
        *(_ms(tally.latencies.percentile(percent)) for percent in PERCENTILES),
        _ms(tally.latencies.max),
        "–" if server.rows_per_batch is None else f"{server.rows_per_batch:.1f}",
        _ms(server.queue),
        _ms(server.compute),
        "–" if server.padding is None else f"{server.padding:.0%}",
        f"{max(tally.cpu_shares, default=0.0):.0%}",
    ]


def _ms(seconds: float | None) -> str:
    return "–" if seconds is None else f"{seconds * 1e3:.2f}"


def _notes(point: Point) -> list[str]:
    errors = ", ".join(f"{count} × {kind}" for kind, count in point.tally.errors.items())
    notes = [f"{point.name}: not answered well: {errors}"] if errors else []
    if point.offered is not None and point.throughput < _BEHIND * point.offered:
        notes.append(
            f"{point.name}: {point.throughput:,.0f} of {point.offered:,.0f} requests a second were answered in time"
        )
    notes += [f"{point.name}: the client is a bottleneck: {why}" for why in point.bottlenecks()]
    if point.tally.is_interrupted:
        given_up = point.tally.outcomes[INTERRUPTED]
        notes.append(
            f"{point.name}: interrupted after {point.tally.seconds:.1f} s; {given_up} requests on their way were given up"
        )
    return notes
