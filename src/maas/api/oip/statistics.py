"""What a version has done, as the reference server's clients read it, for REST and gRPC alike.

https://github.com/triton-inference-server/server/blob/main/docs/protocol/extension_statistics.md

`success` are the requests that were answered, from their first byte on; the other durations are parts of theirs, so those
of one request add up to no more: in the queue until its batch was given to an instance (`queue`); until the model had the
batch (`compute_input`: stacking, copying, waking its process); in the model (`compute_infer`); until each caller's rows were
cut from the outputs (`compute_output`: checking, copying, waking the gateway). `fail` is every other request for the version, as
there: refused before it was read or queued, failed, expired, or left by its caller, which counts without a time. A request that
was run again after a failure, or a process's death, counts once, by what became of it; the failed run is in its `queue` or only
in `success`. `batch_stats` has the batches that were answered, each once whatever became of its requests.

Clients know no `cancel` of a request. `response_stats` is for models that answer more than once, of which there are none,
and `cache_hit` and `cache_miss` are of a cache that there is not.
"""

from __future__ import annotations

from typing import Any

from maas.models.live import LiveVersion
from maas.telemetry.metrics import BatchTotals, Metrics

_NANOSECONDS = 1e9


def model_statistics(metrics: Metrics, live: LiveVersion) -> dict[str, Any]:
    """With the names and the types of the extension's message `ModelStatistics`."""
    done = metrics.totals_of(live.labels)
    answered = done.answered
    return {
        "name": live.name,
        "version": live.version,
        "last_inference": round(done.last_batch * 1e3),
        "inference_count": answered.rows,
        "execution_count": sum(totals.count for totals in done.batches.values()),
        "inference_stats": {
            "success": _duration(answered.count, answered.total),
            "fail": _duration(done.failed, done.failed_seconds),
            "queue": _duration(answered.count, answered.queue),
            "compute_input": _duration(answered.count, answered.input),
            "compute_infer": _duration(answered.count, answered.compute),
            "compute_output": _duration(answered.count, answered.output),
            "cache_hit": _duration(0, 0.0),
            "cache_miss": _duration(0, 0.0),
        },
        "batch_stats": [_batches(rows, totals) for rows, totals in sorted(done.batches.items())],
    }


def _batches(rows: int, totals: BatchTotals) -> dict[str, Any]:
    return {
        "batch_size": rows,
        "compute_input": _duration(totals.count, totals.input),
        "compute_infer": _duration(totals.count, totals.compute),
        "compute_output": _duration(totals.count, totals.output),
    }


def _duration(count: int, seconds: float) -> dict[str, int]:
    return {"count": count, "ns": round(seconds * _NANOSECONDS)}
