"""What a version has done, as the reference server's clients read it, for REST and gRPC alike.

https://github.com/triton-inference-server/server/blob/main/docs/protocol/extension_statistics.md

Of the time in a batch only the model's own is measured; what is around it is not told apart, so `compute_input` and
`compute_output` count their batches and have no time. It is in that of `success`.
"""

from __future__ import annotations

from typing import Any

from maas.models.live import LiveVersion
from maas.telemetry.metrics import Metrics

_NANOSECONDS = 1e9


def model_statistics(metrics: Metrics, live: LiveVersion) -> dict[str, Any]:
    """With the names and the types of the extension's message `ModelStatistics`."""
    done = metrics.totals_of(live.labels)
    return {
        "name": live.name,
        "version": live.version,
        "last_inference": round(done.last_batch * 1e3),
        "inference_count": sum(rows * batches for rows, batches, _ in done.batches),
        "execution_count": sum(batches for _, batches, _ in done.batches),
        "inference_stats": {
            "success": _duration(done.answered, done.answered_seconds),
            "fail": _duration(done.failed, done.failed_seconds),
            "queue": _duration(done.queued, done.queue_seconds),
            "compute_input": _duration(done.queued, 0.0),
            "compute_infer": _duration(done.queued, done.compute_seconds),
            "compute_output": _duration(done.queued, 0.0),
            "cache_hit": _duration(0, 0.0),
            "cache_miss": _duration(0, 0.0),
        },
        "batch_stats": [
            {
                "batch_size": rows,
                "compute_input": _duration(batches, 0.0),
                "compute_infer": _duration(batches, seconds),
                "compute_output": _duration(batches, 0.0),
            }
            for rows, batches, seconds in done.batches
        ],
    }


def _duration(count: int, seconds: float) -> dict[str, int]:
    return {"count": count, "ns": round(seconds * _NANOSECONDS)}
