"""A transformer encoder of six layers over 8 to 128 tokens, served, against the model without a server.

    python -m benchmarks.encoder [--repository DIR] [--peers]

Closed loop over 64 keep-alive connections, one sample in a request, lengths uniform. Ceilings over the same samples in this
process, with the threads of the server's instance: eager PyTorch in batches of 32 as they come, padded to the longest; the
same sorted by length, in batches of 8; and the served version's own runner sorted by length. `--peers` adds mosec and LitServe
with the same module in eager PyTorch: as most people run them, one worker and batches of up to 32, and as they do best here,
two workers; mosec without batches.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import numpy as np
from benchmarks.harness import LONGEST, SHORTEST, load_runner, publish_encoder, serving
from benchmarks.load import Generator, json_request
from benchmarks.modules import PADDING, Encoder
from benchmarks.offline import Eager, rows_per_second
from benchmarks.peers.service import PATHS, PEERS, peer, version_of
from benchmarks.rounds import Measured, arguments, cell, finish, interleave, new_table, ratio_cell

from maas.types import Array, Tensors

_SAMPLES = 256
_OWN = "own runtime by length"
_PEERS = {
    "mosec": ("mosec", 1, 32),
    "mosec, 2 workers, no batches": ("mosec", 2, 1),
    "litserve": ("litserve", 1, 32),
    "litserve, 2 workers": ("litserve", 2, 32),
}  # which, its workers, and its largest batch


def main() -> None:
    parser = arguments(__doc__, rounds=3, seconds=8.0)
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--threads", type=int, default=1, help="of an instance, and of the ceilings")
    parser.add_argument("--instances", type=int, default=1)
    parser.add_argument(
        "--repository", type=Path, help="serve the `encoder` of this folder, such as an optimised version"
    )
    parser.add_argument(
        "--peers", action="store_true", help="mosec and LitServe too, installed below build/peers"
    )
    options = parser.parse_args()
    table = new_table("encoder", ["", "samples/s", "p50 ms", "p99 ms", f"× {_OWN}"])
    samples = make_samples()
    generator = Generator(options.connections, options.seconds, warm_up=2.0)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        repository = options.repository or folder / "models"
        if options.repository is None:
            publish_encoder(repository)
        by_length = sorted(samples, key=len)
        eager, own = (
            Eager(Encoder, "ids", options.threads),
            load_runner(repository, "encoder", options.threads),
        )
        turns: dict[str, Callable[[], Measured]] = {
            "eager, padded": partial(rows_per_second, eager, padded(samples, 32)),
            "eager by length": partial(rows_per_second, eager, padded(by_length, 8)),
            _OWN: partial(rows_per_second, own, padded(by_length, 8)),
        }
        placement = {"threads": options.threads, "instances": options.instances}
        servers = {
            "maas": (
                stack.enter_context(serving(repository, models={"encoder": placement})),
                "/predict/encoder",
            )
        }
        for name, (kind, workers, batch) in _PEERS.items() if options.peers else ():
            servers[name] = (stack.enter_context(peer(kind, "encoder", folder, workers, batch)), PATHS[kind])
        for name, (server, path) in servers.items():
            asked = [json_request(path, {"ids": sample.tolist()}) for sample in samples]
            turns[name] = partial(generator.measure, name, server.port, asked)
        rounds = interleave(turns, options.rounds)
    for name, measured in rounds.items():
        latencies = [
            cell([each[column] for each in measured], 1) if column in measured[0] else "–"
            for column in ("p50 ms", "p99 ms")
        ]
        rate = cell([each["req/s"] for each in measured], 1)
        table.rows.append([name, rate, *latencies, ratio_cell(measured, rounds[_OWN], "req/s")])
    table.notes.append(
        f"{options.connections} connections, {options.rounds} rounds of {options.seconds:g} s each; "
        f"{options.instances} instances of {options.threads} threads, ceilings in one process of as many threads"
    )
    if options.peers:
        best = [max(rounds[name][turn]["req/s"] for name in _PEERS) for turn in range(options.rounds)]
        gained = [ours["req/s"] / most for ours, most in zip(rounds["maas"], best, strict=True)]
        table.notes.append(f"maas by the best peer of the same round: {cell(gained, 2)}")
        table.notes += [version_of(kind) for kind in PEERS]
    table.notes += sorted(generator.notes)
    finish(table, options.json)


def make_samples() -> list[Array]:
    """`int64[length]` each, always the same."""
    generator = np.random.default_rng(0)
    lengths = generator.integers(SHORTEST, LONGEST, _SAMPLES, endpoint=True)
    return [generator.integers(1, 1000, length) for length in lengths]


def padded(samples: Sequence[Array], size: int) -> list[Tensors]:
    """Batches of `size` in this order, each padded to its own longest."""
    batches = []
    for at in range(0, len(samples), size):
        part = samples[at : at + size]
        ids = np.full((len(part), max(map(len, part))), PADDING, np.int64)
        for row, sample in zip(ids, part, strict=True):
            row[: len(sample)] = sample
        batches.append({"ids": ids})
    return batches


if __name__ == "__main__":
    main()
