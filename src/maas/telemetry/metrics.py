"""Metrics in the Prometheus text format.

Counting must cost nothing worth counting: what is measured of a request is kept in a list and counted with many others,
batches are counted whole, and the metric objects of `prometheus_client` are made at each scrape by a custom collector. A label
is only ever the name of a version that is served, a known outcome or an instance's state, so the number of series is
bounded whatever is asked for.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from time import time

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from maas.batching.execution import BatchObservation
from maas.batching.request import Timings
from maas.telemetry.answers import Answered, Answers
from maas.telemetry.histogram import LATENCY_BUCKETS, Histogram

CONTENT_TYPE = CONTENT_TYPE_LATEST

_ROWS_BUCKETS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)

CANCELLED = "cancelled"
"""The outcome of a request whose caller left."""

Labels = tuple[str, str]
"""A version: its model's name and its own."""

OTHER: Labels = ("other", "")
"""Stands for every name that is not served."""


@dataclass(slots=True)
class _VersionMeters:
    queue: Histogram = field(default_factory=lambda: Histogram(LATENCY_BUCKETS))
    compute: Histogram = field(default_factory=lambda: Histogram(LATENCY_BUCKETS))
    batch_rows: Histogram = field(default_factory=lambda: Histogram(_ROWS_BUCKETS))
    elements: int = 0
    padding: int = 0
    answers: Answers = field(default_factory=Answers)
    outcomes: Counter[str] = field(default_factory=Counter)  # but for those that were answered
    failed_seconds: float = 0.0
    batches: dict[int, BatchTotals] = field(default_factory=dict)  # by their rows
    last_batch: float = 0.0


@dataclass(slots=True)
class BatchTotals:
    """How many batches of one size were answered, and the seconds of all of them, as `BatchObservation` has them of one."""

    count: int = 0
    input: float = 0.0
    compute: float = 0.0
    output: float = 0.0

    def add(self, batch: BatchObservation) -> None:
        self.count += 1
        self.input += batch.input
        self.compute += batch.compute
        self.output += batch.output


@dataclass(frozen=True, slots=True)
class Totals:
    """What a version has done since the server started. `failed` are all requests for it that were not answered; `batches` are
    by their rows; `last_batch` is seconds of the epoch, 0 where there was none."""

    answered: Answered
    failed: int
    failed_seconds: float
    batches: Mapping[int, BatchTotals]
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

    def observe_batch(self, version: Labels, batch: BatchObservation) -> None:
        """The model has answered a batch."""
        meters = self._of(version)
        meters.queue.keep_all(batch.queued)
        meters.compute.observe(batch.compute, len(batch.queued))
        meters.batch_rows.observe(batch.rows)
        meters.elements += batch.elements
        meters.padding += batch.padding
        meters.batches.setdefault(batch.rows, BatchTotals()).add(batch)
        meters.last_batch = time()

    def count_answer(self, version: Labels, timings: Timings, total: float) -> None:
        """A request was answered, `total` seconds after its first byte."""
        self._of(version).answers.keep(timings, total)

    def count_error(self, version: Labels, code: str, seconds: float = 0.0) -> None:
        """A request failed or was refused with the stable `code` of its error, after so many seconds."""
        meters = self._of(version)
        meters.outcomes[code] += 1
        meters.failed_seconds += seconds

    def totals_of(self, version: Labels) -> Totals:
        meters = self._versions.get(version) or _VersionMeters()
        return Totals(
            answered=meters.answers.counted(),
            failed=meters.outcomes.total(),
            failed_seconds=meters.failed_seconds,
            batches=meters.batches,
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
            "batch_rows": HistogramMetricFamily("maas_batch_rows", "Rows of a batch.", labels=names),
        }
        overhead = HistogramMetricFamily(
            "maas_overhead_seconds",
            "Time of an answered request that was neither queue nor compute.",
            labels=names,
        )
        for version, meters in self._versions.items():
            answered = meters.answers.counted().count
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
            if answered:
                overhead.add_metric(list(version), *meters.answers.overhead.cumulated())
        yield requests
        yield elements
        yield from (*families.values(), overhead)

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
