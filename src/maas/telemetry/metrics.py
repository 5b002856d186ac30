"""Metrics in the Prometheus text format.

Counting must cost nothing worth counting: what is measured of a request is kept in a list and counted with many others,
batches are counted whole, and the metric objects of `prometheus_client` are made at each scrape by a custom collector. A label
is only ever the name of a version that is served, a known outcome or an instance's state, so the number of series is
bounded whatever is asked for.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from time import time

import numpy as np
from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

CONTENT_TYPE = CONTENT_TYPE_LATEST

# Seconds: 50 µs, for a queue that is empty, to 60 s, three steps a decade.
_LATENCY_BUCKETS = (
    0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
    30.0, 60.0,
)  # fmt: skip
_ROWS_BUCKETS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)

CANCELLED = "cancelled"
"""The outcome of a request whose caller left, which is no failure."""

_KEPT = 512  # observations that wait to be counted

Labels = tuple[str, str]
"""A version: its model's name and its own."""

OTHER: Labels = ("other", "")
"""Stands for every name that is not served."""


class Histogram:
    """Counts by upper bound, and the sum of what was observed.

    What comes for each request is kept and counted many at a time, which costs a tenth of looking each up as it comes.
    """

    __slots__ = ("_bounds", "_counts", "_fresh", "_sum")

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = bounds
        self._counts = np.zeros(len(bounds) + 1, np.int64)
        self._sum = 0.0
        self._fresh: list[float] = []  # not counted yet

    def observe(self, value: float, count: int = 1) -> None:
        self._counts[bisect_left(self._bounds, value)] += count
        self._sum += value * count

    def keep(self, value: float) -> None:
        """Observe it, when there are more."""
        self._fresh.append(value)
        if len(self._fresh) >= _KEPT:
            self._count_fresh()

    def keep_all(self, values: Iterable[float]) -> None:
        self._fresh.extend(values)
        if len(self._fresh) >= _KEPT:
            self._count_fresh()

    @property
    def count(self) -> int:
        return int(self._counts.sum()) + len(self._fresh)

    @property
    def sum(self) -> float:
        return self._sum + sum(self._fresh)

    def cumulated(self) -> tuple[list[tuple[str, float]], float]:
        """Buckets as Prometheus has them, each with all that is below it, and the sum."""
        self._count_fresh()
        bounds = [*map(str, self._bounds), "+Inf"]
        return list(zip(bounds, map(float, self._counts.cumsum()), strict=True)), self._sum

    def _count_fresh(self) -> None:
        places = np.searchsorted(self._bounds, self._fresh)
        self._counts += np.bincount(places, minlength=len(self._counts))
        self._sum += sum(self._fresh)
        self._fresh.clear()


@dataclass(slots=True)
class _VersionMeters:
    queue: Histogram = field(default_factory=lambda: Histogram(_LATENCY_BUCKETS))
    compute: Histogram = field(default_factory=lambda: Histogram(_LATENCY_BUCKETS))
    overhead: Histogram = field(default_factory=lambda: Histogram(_LATENCY_BUCKETS))
    batch_rows: Histogram = field(default_factory=lambda: Histogram(_ROWS_BUCKETS))
    elements: int = 0
    padding: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)  # but for those that were answered
    failed_seconds: float = 0.0
    batches: Counter[int] = field(default_factory=Counter)  # by their rows, as the seconds below
    batch_seconds: dict[int, float] = field(default_factory=dict)
    last_batch: float = 0.0


@dataclass(frozen=True, slots=True)
class Totals:
    """What a version has done since the server started: requests, and seconds of them; and its batches as rows, how many had so
    many, and the model's seconds in those. `last_batch` is seconds of the epoch, 0 where there was none."""

    answered: int
    answered_seconds: float
    failed: int
    failed_seconds: float
    queued: int
    queue_seconds: float
    compute_seconds: float
    batches: Sequence[tuple[int, int, float]]
    last_batch: float


@dataclass(frozen=True, slots=True)
class Gauges:
    """What a version's owners say at the moment of a scrape."""

    waiting: int
    running: int
    instances: Mapping[str, int]
    deaths: int


class Metrics(Collector):
    """`sample` is asked for the gauges of every version at each scrape, `count_tasks` for the tasks of the gateway's loop."""

    def __init__(
        self,
        sample: Callable[[], Iterable[tuple[Labels, Gauges]]],
        count_tasks: Callable[[], int] | None = None,
    ) -> None:
        self._sample = sample
        self._count_tasks = count_tasks
        self._versions: dict[Labels, _VersionMeters] = {}
        self._registry = CollectorRegistry()
        self._registry.register(self)
        ProcessCollector(registry=self._registry)

    def observe_batch(self, version: Labels, queued: Sequence[float], rows: int, compute: float) -> None:
        """A batch was answered: seconds that each request queued, its rows in all, seconds that the model computed."""
        meters = self._of(version)
        meters.queue.keep_all(queued)
        meters.compute.observe(compute, len(queued))
        meters.batch_rows.observe(rows)
        meters.batches[rows] += 1
        meters.batch_seconds[rows] = meters.batch_seconds.get(rows, 0.0) + compute
        meters.last_batch = time()

    def count_elements(self, version: Labels, elements: int, padding: int) -> None:
        """A batch over variable dimensions held so many elements of its requests, and so many of padding."""
        meters = self._of(version)
        meters.elements += elements
        meters.padding += padding

    def count_answer(self, version: Labels, overhead: float) -> None:
        """A request was answered; `overhead` is what of its seconds was neither queue nor compute."""
        self._of(version).overhead.keep(overhead)

    def count_error(self, version: Labels, code: str, seconds: float = 0.0) -> None:
        """A request failed or was refused with the stable `code` of its error, after so many seconds."""
        meters = self._of(version)
        meters.outcomes[code] += 1
        meters.failed_seconds += seconds

    def totals_of(self, version: Labels) -> Totals:
        meters = self._versions.get(version) or _VersionMeters()
        queue, compute = meters.queue.sum, meters.compute.sum
        batches = [
            (rows, count, meters.batch_seconds[rows]) for rows, count in sorted(meters.batches.items())
        ]
        return Totals(
            answered=meters.overhead.count,
            answered_seconds=queue + compute + meters.overhead.sum,
            failed=meters.outcomes.total() - meters.outcomes[CANCELLED],
            failed_seconds=meters.failed_seconds,
            queued=meters.queue.count,
            queue_seconds=queue,
            compute_seconds=compute,
            batches=batches,
            last_batch=meters.last_batch,
        )

    def expose(self) -> bytes:
        return generate_latest(self._registry)

    def collect(self) -> Iterable[Metric]:
        yield from self._requests()
        yield from self._live()
        if self._count_tasks is not None:
            yield GaugeMetricFamily(
                "maas_tasks",
                "asyncio tasks of the gateway; growth at rest is a leak.",
                value=self._count_tasks(),
            )

    def describe(self) -> Iterable[Metric]:
        return []  # families are made per scrape; registering must not ask for one

    def _of(self, version: Labels) -> _VersionMeters:
        meters = self._versions.get(version)
        if meters is None:
            meters = self._versions[version] = _VersionMeters()
        return meters

    def _requests(self) -> Iterable[Metric]:
        names = ["model", "version"]
        requests = CounterMetricFamily(
            "maas_requests",
            "Inference requests by outcome: ok, or an error's code.",
            labels=[*names, "outcome"],
        )
        elements = CounterMetricFamily(
            "maas_batch_elements",
            "Rows times lengths of the variable dimensions that batches held: the requests' own, and padding.",
            labels=[*names, "kind"],
        )
        families = {
            "queue": HistogramMetricFamily(
                "maas_queue_seconds", "Time a request waited for its batch.", labels=names
            ),
            "compute": HistogramMetricFamily(
                "maas_compute_seconds", "Time the model ran its batch.", labels=names
            ),
            "overhead": HistogramMetricFamily(
                "maas_overhead_seconds",
                "Time of an answered request that was neither queue nor compute.",
                labels=names,
            ),
            "batch_rows": HistogramMetricFamily("maas_batch_rows", "Rows of a batch.", labels=names),
        }
        for version, meters in self._versions.items():
            answered = meters.overhead.count
            outcomes = {"ok": answered, **meters.outcomes} if answered else meters.outcomes
            for outcome, count in outcomes.items():
                requests.add_metric([*version, outcome], count)
            if meters.elements:
                elements.add_metric([*version, "own"], meters.elements)
                elements.add_metric([*version, "padding"], meters.padding)
            for attribute, family in families.items():
                histogram: Histogram = getattr(meters, attribute)
                if histogram.count:
                    family.add_metric(list(version), *histogram.cumulated())
        yield requests
        yield elements
        yield from families.values()

    def _live(self) -> Iterable[Metric]:
        names = ["model", "version"]
        waiting = GaugeMetricFamily("maas_queue_requests", "Requests that wait for a batch.", labels=names)
        running = GaugeMetricFamily("maas_running_requests", "Requests in running batches.", labels=names)
        instances = GaugeMetricFamily("maas_instances", "Model processes by state.", labels=[*names, "state"])
        deaths = CounterMetricFamily("maas_instance_deaths", "Model processes that died.", labels=names)
        for version, gauges in self._sample():
            waiting.add_metric(list(version), gauges.waiting)
            running.add_metric(list(version), gauges.running)
            deaths.add_metric(list(version), gauges.deaths)
            for state, count in gauges.instances.items():
                instances.add_metric([*version, state], count)
        yield from (waiting, running, instances, deaths)
