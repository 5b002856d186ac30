"""What grouping by length is worth on a real encoder, without a server: `python benchmarks/grouping.py`.

A six-layer Transformer encoder of width 256 on one thread, requests of one row and uniform lengths 8 to 128. 64 clients in a
closed loop: whoever is answered asks again, so 64 always wait but for those that run. The batches are those of the policy, by
the curve that warming up measures; beside it, in interleaved rounds, the earliest first in batches of 32 padded to their
longest, each alone, and offline in the order of their lengths. Prints samples/s, the median of the rounds, and the share of
padding.
"""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Callable, Iterator

import numpy as np
import torch

from maas.batching.buckets import bucket_of
from maas.batching.pace import Pace
from maas.batching.policy import BatchPolicy
from maas.batching.queue import WaitingQueue
from maas.batching.request import Request
from maas.runtimes.golden import GoldenSample
from maas.tensors.stack import stack
from maas.types import Bounds, Signature, Tensors
from maas.workers.warm_up import warm_up

CLIENTS = 64
SECONDS = 4.0
ROUNDS = 3
SIGNATURE = Signature.parse(
    {"ids": "int64[batch, seq]"}, {"y": "float32[batch]"}, {"seq": Bounds(min=8, max=128, pad=0)}
)


class Encoder:
    """A runner: token embeddings, six layers that mind the padding, the mean over what is no padding."""

    def __init__(self) -> None:
        torch.set_num_threads(1)
        torch.manual_seed(0)
        layer = torch.nn.TransformerEncoderLayer(256, 4, 1024, batch_first=True)
        self.embed = torch.nn.Embedding(1000, 256)
        self.layers = torch.nn.TransformerEncoder(layer, 6, enable_nested_tensor=False).eval()

    def run(self, inputs: Tensors) -> Tensors:
        ids = torch.from_numpy(inputs["ids"])
        padding = ids == 0
        with torch.inference_mode():
            hidden = self.layers(self.embed(ids), src_key_padding_mask=padding)
            hidden = hidden.masked_fill(padding[..., None], 0.0)
            return {"y": (hidden.sum(dim=(1, 2)) / (~padding).sum(dim=1)).numpy()}


def request(length: int, number: int) -> Request:
    ids = np.full((1, length), 1 + length, np.int64)
    made = Request({"ids": ids}, 1, float(number), lambda _: None, order=(float(number), number))
    made.lengths = (length,)
    made.bucket = bucket_of(made.lengths)
    return made


def requests(seed: int) -> Iterator[Request]:
    generator = random.Random(seed)
    number = 0
    while True:
        yield request(generator.randint(8, 128), number)
        number += 1


def closed_loop(
    runner: Encoder, seed: int, choose: Callable[[WaitingQueue], list[Request]]
) -> tuple[float, float]:
    """Samples a second, and padding's share."""
    source = requests(seed)
    queue = WaitingQueue()
    for _ in range(CLIENTS):
        queue.add(next(source))
    done = own = padded = 0
    started = time.perf_counter()
    while (elapsed := time.perf_counter() - started) < SECONDS:
        batch = choose(queue)
        run(runner, batch)
        done += len(batch)
        own += sum(each.lengths[0] for each in batch)
        padded += len(batch) * max(each.lengths[0] for each in batch)
        for _ in batch:
            queue.add(next(source))
    return done / elapsed, 1 - own / padded


def run(runner: Encoder, batch: list[Request]) -> None:
    (column,) = stack(SIGNATURE, [each.inputs for each in batch])
    runner.run({"ids": column.stacked()})


def offline(runner: Encoder, seed: int) -> tuple[float, float]:
    """256 requests in the order of their lengths, in batches of 8."""
    source = requests(seed)
    many = sorted((next(source) for _ in range(256)), key=lambda each: each.lengths)
    started = time.perf_counter()
    for start in range(0, len(many), 8):
        run(runner, many[start : start + 8])
    return len(many) / (time.perf_counter() - started), 0.0


def by_policy(pace: Pace) -> Callable[[WaitingQueue], list[Request]]:
    policy = BatchPolicy(max_batch_size=32)

    def choose(queue: WaitingQueue) -> list[Request]:
        (takes,) = policy.decide(queue.groups, 1, 0.0, sizes=pace.sizes).batches
        return [each for take in takes for each in queue.take(take.key, take.count)]

    return choose


def first(count: int) -> Callable[[WaitingQueue], list[Request]]:
    def choose(queue: WaitingQueue) -> list[Request]:
        urgent = sorted(
            (each for group in queue.groups.values() for each in group), key=lambda each: each.order
        )
        for each in urgent[:count]:
            queue.remove(each)
        return urgent[:count]

    return choose


def main() -> None:
    runner = Encoder()
    row = {"ids": np.full((1, 32), 7, np.int64)}
    curve = warm_up(runner, SIGNATURE, GoldenSample(row, runner.run(row)), 32)
    pace = Pace(32)
    pace.learn(curve)
    for length in (8, 16, 32, 64, 128):
        print(f"length {length:4}: {pace.sizes(length)}")
    ways = {
        "each alone": lambda seed: closed_loop(runner, seed, first(1)),
        "earliest 32, padded": lambda seed: closed_loop(runner, seed, first(32)),
        "by the policy": lambda seed: closed_loop(runner, seed, by_policy(pace)),
        "offline, by length": lambda seed: offline(runner, seed),
    }
    found: dict[str, list[tuple[float, float]]] = {way: [] for way in ways}
    for seed in range(ROUNDS):
        for way, measure in ways.items():
            found[way].append(measure(seed))
    for way, results in found.items():
        rates, shares = zip(*results, strict=True)
        print(
            f"{way:20} {statistics.median(rates):8.1f} samples/s ({min(rates):.1f} to {max(rates):.1f}), "
            f"padding {statistics.median(shares):.0%}"
        )


if __name__ == "__main__":
    main()
