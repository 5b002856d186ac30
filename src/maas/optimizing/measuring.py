"""A candidate in real model processes: its answers, its pace, its memory."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from math import prod
from pathlib import Path

from maas.models.manifest import Batching
from maas.models.repository import StoredVersion
from maas.models.verification import load_frame
from maas.optimizing.candidates import batch_sizes
from maas.optimizing.judging import Measurement
from maas.optimizing.samples import Generator
from maas.runtimes.contract import Placement
from maas.types import Array, Signature, Tensors
from maas.workers.instance import Instance
from maas.workers.launcher import Launcher

_COMPUTE_SECONDS = 120.0
_EXIT_SECONDS = 5.0
_LEAST_RUNS = 3
_KIB = 1024

ROUNDS = 3
"""Through all sizes and lengths, which share the seconds of a point."""


@asynccontextmanager
async def running(
    launcher: Launcher,
    stored: StoredVersion,
    instances: int,
    threads: int,
    allow_code: Sequence[str],
) -> AsyncIterator[list[Instance]]:
    """Loaded instances of `stored`; their processes are gone at the end. Raises what loading raises."""
    manifest = stored.manifest
    frame = load_frame(
        stored,
        Placement(threads=threads),
        max_batch_size=manifest.batching.max_batch_size,
        allow_code=allow_code,
    )
    async with AsyncExitStack() as stack:
        started = []
        for _ in range(instances):
            process = await launcher.launch(frame.runtime, threads)
            stack.push_async_callback(asyncio.wait, [process.exited], timeout=_EXIT_SECONDS)
            stack.callback(process.kill)
            instance = Instance(process, manifest.signature, _COMPUTE_SECONDS)
            stack.callback(instance.close)
            started.append(instance)
        for instance in started:
            await instance.load(frame)
        yield started


async def answers(instance: Instance, signature: Signature, requests: Sequence[Tensors]) -> list[Tensors]:
    """What the instance answers to each of `requests`."""
    return [(await instance.run([inputs], _rows(signature, inputs))).outputs for inputs in requests]


async def latency(instance: Instance, generator: Generator, seconds: float) -> float:
    """Seconds for one row alone, as the mean over the lengths, each asked for `seconds`."""
    ones = [generator.request(1, lengths) for lengths in generator.lengths]
    return statistics.mean([await _median_seconds(instance, one, seconds) for one in ones])


async def measure(
    instances: Sequence[Instance],
    signature: Signature,
    batching: Batching,
    generator: Generator,
    seconds: float,
) -> Measurement:
    """One form by itself, `seconds` a point."""
    sizes = batch_sizes(batching.max_batch_size) if signature.is_batched else [1]
    course = Course(instances, batching, generator, sizes, seconds)
    for _ in range(ROUNDS):
        await course.run()
    return course.measurement()


class Course:
    """Rounds through batch sizes and lengths, of which the medians count: what else the machine does comes and goes.

    Closed loop: every instance runs one batch after the other, all of one size and length.
    """

    def __init__(
        self,
        instances: Sequence[Instance],
        batching: Batching,
        generator: Generator,
        sizes: Sequence[int],
        seconds: float,
    ) -> None:
        self._instances = instances
        self._max_batch_cost = batching.max_batch_cost
        self._generator = generator
        self._sizes = sizes
        self._share = seconds / ROUNDS
        self._lone: list[float] = []
        self._rates: dict[tuple[int, int], list[float]] = {}

    async def run(self) -> None:
        """One round, each point for its share of the seconds."""
        self._lone.append(await latency(self._instances[0], self._generator, self._share))
        for place, lengths in enumerate(self._generator.lengths):
            for size in self._sizes:
                rows = _affordable(size, lengths, self._max_batch_cost)
                rate = await _rate(self._instances, self._generator.request(rows, lengths), rows, self._share)
                self._rates.setdefault((size, place), []).append(rate)

    def measurement(self) -> Measurement:
        """What the rounds so far say."""
        medians = {point: statistics.median(found) for point, found in self._rates.items()}
        places = range(len(self._generator.lengths))
        # As many rows of each length: short ones take little of the time.
        combined = {
            size: len(places) / sum(1 / medians[size, place] for place in places) for size in self._sizes
        }
        size = max(self._sizes, key=lambda each: combined[each])
        return Measurement(
            samples_per_second=combined[size],
            batch_size=size,
            latency=statistics.median(self._lone),
            memory=sum(_memory(instance.process.pid) for instance in self._instances),
            by_length=tuple(
                (self._generator.lengths[place], max(medians[s, place] for s in self._sizes))
                for place in places
            ),
        )


async def _median_seconds(instance: Instance, inputs: Tensors, seconds: float) -> float:
    taken: list[float] = []
    while len(taken) < _LEAST_RUNS or sum(taken) < seconds:
        started = time.perf_counter()
        await instance.run([inputs], 1)
        taken.append(time.perf_counter() - started)
    return statistics.median(taken)


async def _rate(instances: Sequence[Instance], inputs: Tensors, rows: int, seconds: float) -> float:
    """Rows a second of all instances together, while all of them run."""
    started = time.perf_counter()
    ends = started + seconds

    async def run(instance: Instance) -> int:
        done = 0
        while done == 0 or time.perf_counter() < ends:
            await instance.run([inputs], rows)
            done += rows
        return done

    done = await asyncio.gather(*map(run, instances))
    return sum(done) / (time.perf_counter() - started)


def _affordable(rows: int, lengths: Mapping[str, int], max_batch_cost: int | None) -> int:
    """As many of `rows` as one batch of such lengths may have."""
    return rows if max_batch_cost is None else max(1, min(rows, max_batch_cost // prod(lengths.values())))


def _rows(signature: Signature, inputs: Mapping[str, Array]) -> int:
    axes = [(spec.name, spec.batch_axis) for spec in signature.inputs if spec.batch_axis is not None]
    return inputs[axes[0][0]].shape[axes[0][1]] if axes else 1


def _memory(pid: int) -> int:
    """Bytes that the process adds to the machine's use: what it shares with others counts by its part."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return _KIB * sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
