"""What a server of ours counted of itself between two looks at its metrics.

Other servers have other metrics, or none: what is not there is None. Metrics are looked at before and after a point, so
they are of its warm-up too.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

_SAMPLE = re.compile(r"^(\w+)(?:\{(.*)\})? (\S+)", re.MULTILINE)
_LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')

Series = tuple[str, frozenset[tuple[str, str]]]


@dataclass(frozen=True, slots=True)
class ServerStatistics:
    """Means over a point: rows of a batch, seconds of a request in the queue, in the model and elsewhere in the server.

    `padding` is the share of padding among all elements of batches over variable dimensions. `batches` counts them by rows, each
    under the upper bound of its bucket.
    """

    rows_per_batch: float | None = None
    queue: float | None = None
    compute: float | None = None
    overhead: float | None = None
    padding: float | None = None
    batches: Mapping[str, int] | None = None


def parse_metrics(text: str, model: str, version: str | None) -> dict[Series, float]:
    """The samples of that model, in the Prometheus text format, by name and labels."""
    samples = {}
    for name, labels, value in _SAMPLE.findall(text):
        pairs = frozenset(_LABEL.findall(labels))
        named = dict(pairs)
        if named.get("model") == model and version in (None, named.get("version")):
            samples[name, pairs] = float(value)
    return samples


def statistics_between(before: Mapping[Series, float], after: Mapping[Series, float]) -> ServerStatistics:
    """What was counted in the meantime."""
    grown = {series: value - before.get(series, 0.0) for series, value in after.items()}
    return ServerStatistics(
        rows_per_batch=_mean(grown, "maas_batch_rows"),
        queue=_mean(grown, "maas_queue_seconds"),
        compute=_mean(grown, "maas_compute_seconds"),
        overhead=_mean(grown, "maas_overhead_seconds"),
        padding=_share_of_padding(grown),
        batches=_buckets(grown, "maas_batch_rows_bucket"),
    )


def _mean(grown: Mapping[Series, float], family: str) -> float | None:
    total, count = (
        sum(value for (name, _), value in grown.items() if name == f"{family}_{suffix}")
        for suffix in ("sum", "count")
    )
    return total / count if count > 0 else None


def _share_of_padding(grown: Mapping[Series, float]) -> float | None:
    by_kind: dict[str, float] = {}
    for (name, labels), value in grown.items():
        if name.endswith("_elements_total"):
            kind = dict(labels).get("kind", "own")
            by_kind[kind] = by_kind.get(kind, 0.0) + value
    total = sum(by_kind.values())
    return by_kind.get("padding", 0.0) / total if total > 0 else None


def _buckets(grown: Mapping[Series, float], family: str) -> dict[str, int] | None:
    cumulated: dict[float, float] = {}
    for (name, labels), value in grown.items():
        if name == family:
            bound = float(dict(labels)["le"])
            cumulated[bound] = cumulated.get(bound, 0.0) + value
    counts, below = {}, 0.0
    for bound in sorted(cumulated):
        if cumulated[bound] > below:
            counts[f"{bound:g}"] = int(cumulated[bound] - below)
        below = cumulated[bound]
    return counts or None
