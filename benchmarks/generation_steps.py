"""What the scheduler of generation costs for each step: `python benchmarks/generation_steps.py`.

Sixteen slots are full of jobs with prompts of 64 tokens and answers of 100, alone and with 500 more waiting; the engine costs nothing.
Then jobs come one by one whose prompts of 1,901 tokens have all but the last in common: the cost of a step with such an admission.
Last, text in pieces of five characters goes through four stop strings. Microseconds of CPU time, the median of five rounds.
"""

from __future__ import annotations

import statistics
import time

from maas.generation.job import Job, Token
from maas.generation.limits import Limits
from maas.generation.sampling import Sampling
from maas.generation.scheduler import Scheduler
from maas.generation.stops import StopStrings

ROUNDS = 5
SLOTS = 16
LIMITS = Limits(context=2048, slots=SLOTS, vocabulary=50_000)
STOPS = ("\n\nUser:", "<|end|>", "###", "STOP")
TOKEN = Token(7)


def scheduler(token_budget: int) -> Scheduler:
    return Scheduler(LIMITS, eos=frozenset({0}), token_budget=token_budget, max_waiting=1000)


def step(steps: Scheduler) -> float:
    """Do one, and tell its seconds."""
    started = time.process_time()
    plan = steps.plan(0.0)
    steps.complete([TOKEN] * len(plan.sampled))
    return time.process_time() - started


def full_steps(waiting: int) -> float:
    steps = scheduler(256)
    for number in range(SLOTS + waiting):
        steps.submit(Job([*range(number + 1, number + 65)], Sampling(ignore_eos=True), 100))
    seconds = []
    while not steps.is_idle:
        seconds.append(step(steps))
    return statistics.mean(seconds)


def admission() -> float:
    steps = scheduler(2048)
    seconds = []
    for number in range(4 * SLOTS):
        steps.submit(Job([*range(1, 1901), number], Sampling(ignore_eos=True), 2))
        seconds.append(step(steps))
    return statistics.median(seconds)


def piece() -> float:
    strings = StopStrings(STOPS)
    text = "The quick brown fox jumps. " * 4000
    pieces = [text[start : start + 5] for start in range(0, len(text), 5)]
    started = time.process_time()
    for each in pieces:
        strings.feed(each)
    return (time.process_time() - started) / len(pieces)


def main() -> None:
    cases = {
        f"a step of {SLOTS} answers": lambda: full_steps(0),
        f"a step of {SLOTS} answers, 500 waiting": lambda: full_steps(500),
        "a step with an admission of 1,901 tokens": admission,
        "five characters through four stop strings": piece,
    }
    seconds: dict[str, list[float]] = {case: [] for case in cases}
    for _ in range(ROUNDS):
        for case, measure in cases.items():
            seconds[case].append(measure())
    for case, times in seconds.items():
        print(f"{case:45} {statistics.median(times) * 1e6:8.1f}")


if __name__ == "__main__":
    main()
