"""What one decision of the batching policy costs: `python benchmarks/decisions.py`.

Requests of one row wait, of one length or of one to three lengths between 8 and 128; one instance is idle and takes at most 32
rows. Prints the median of interleaved rounds in microseconds of CPU time for a decision, and for each request that it takes.
"""

from __future__ import annotations

import random
import statistics
import time

from maas.batching.buckets import bucket_of
from maas.batching.pace import Pace
from maas.batching.policy import BatchPolicy
from maas.batching.queue import WaitingQueue
from maas.batching.request import Request
from maas.types import CurvePoint

ROUNDS = 100
WAITING = (64, 1000, 4000)
VARIABLE = (0, 1, 2, 3)  # dimensions


def queue_of(waiting: int, variable: int) -> WaitingQueue:
    generator = random.Random(0)
    queue = WaitingQueue()
    for number in range(waiting):
        request = Request({}, 1, 60.0, lambda _: None, order=(60.0, number))
        request.lengths = tuple(generator.randint(8, 128) for _ in range(variable))
        request.bucket = bucket_of(request.lengths)
        queue.add(request)
    return queue


def encoder(seconds_per_batch: float, variable: int) -> Pace:
    """Seconds that a small encoder takes on one core, with a part that every batch costs; where there are more lengths, as
    many for the longest."""
    pace = Pace()
    pace.learn(
        [
            CurvePoint(
                rows,
                length ** max(1, variable),
                seconds_per_batch + 1e-4 * rows * length * (1 + length / 512),
            )
            for length in (8, 32, 128)
            for rows in (1, 2, 4, 8, 16, 32)
        ]
    )
    return pace


def main() -> None:
    policy = BatchPolicy(max_batch_size=32)
    cases = {
        (variable, waiting, overhead): (queue_of(waiting, variable), encoder(overhead, variable))
        for overhead in (0.0005, 0.02)
        for variable in VARIABLE
        for waiting in WAITING
    }
    seconds: dict[tuple[int, int, float], list[float]] = {case: [] for case in cases}
    taken = {}
    for _ in range(ROUNDS):
        for case, (queue, pace) in cases.items():
            started = time.thread_time()
            decision = policy.decide(queue.groups, 1, 0.0, sizes=pace.sizes)
            seconds[case].append(time.thread_time() - started)
            taken[case] = sum(take.count for take in decision.batches[0])
    print(f"{'variable':>10} {'waiting':>8} {'a batch costs':>14} {'taken':>6} {'µs':>8} {'µs/request':>11}")
    for case, times in seconds.items():
        variable, waiting, overhead = case
        microseconds = statistics.median(times) * 1e6
        print(
            f"{variable:10} {waiting:8} {overhead * 1e3:11.1f} ms {taken[case]:6} "
            f"{microseconds:8.1f} {microseconds / taken[case]:11.2f}"
        )


if __name__ == "__main__":
    main()
