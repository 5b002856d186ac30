"""The speed benchmarks' pure parts: the order of rounds, cells, tables, and the page that they make."""

from __future__ import annotations

import json
from dataclasses import asdict
from functools import partial
from pathlib import Path

import numpy as np
from benchmarks.encoder import make_samples, padded
from benchmarks.results import ORDER, RESULTS, read, render
from benchmarks.rounds import Measured, Table, cell, finish, interleave, ratio_cell
from benchmarks.stages import stages

TABLE = Table(
    "mlp",
    "python -m benchmarks.mlp",
    "two cores",
    "2026-01-01",
    ["", "req/s"],
    [["maas", "1,000"]],
    ["quiet"],
)


def test_rounds_alternate_and_every_other_goes_backwards() -> None:
    """Nobody always comes after the same neighbour."""
    order: list[str] = []

    def turn(name: str) -> Measured:
        order.append(name)
        return {"req/s": float(len(order))}

    measured = interleave({name: partial(turn, name) for name in "abc"}, 2)
    assert "".join(order) == "abccba"
    assert [each["req/s"] for each in measured["a"]] == [1, 6]


def test_a_cell_is_a_median_with_its_spread() -> None:
    """Of one round the value alone."""
    assert cell([3000.4, 1000, 2000]) == "2,000 [1,000 – 3,000]"
    assert cell([1.234], 2) == "1.23"


def test_ratios_are_those_of_the_same_round() -> None:
    """A slow minute slows both."""
    rounds: list[Measured] = [{"x": 10.0}, {"x": 1.0}]
    assert ratio_cell(rounds, [{"x": 5.0}, {"x": 0.5}], "x") == "2.00 [2.00 – 2.00]"


def test_a_table_is_kept_and_put_on_the_page(tmp_path: Path) -> None:
    """With its command, its machine and its notes; what was not measured is said to be missing, with the command that would."""
    finish(TABLE, tmp_path / "mlp.json")
    assert json.loads((tmp_path / "mlp.json").read_text()) == asdict(TABLE)
    page = render({name: read(tmp_path / f"{name}.json") for name in ORDER})
    assert "`python -m benchmarks.mlp`, 2026-01-01: two cores." in page
    assert "| maas | 1,000 |" in page
    assert "- quiet" in page
    assert "Not measured yet: `python -m benchmarks.cnn --json build/bench/cnn.json`." in page


def test_the_page_has_a_section_for_every_benchmark() -> None:
    """The one in the repository is what the script wrote."""
    sections = [line[3:] for line in RESULTS.read_text().splitlines() if line.startswith("## ")]
    assert sections == list(ORDER)


def test_every_stage_of_a_request_can_be_measured() -> None:
    """Each calls the gateway's own code and takes some time."""
    measured = {name: measure() for name, measure in stages().items()}
    assert list(measured) == ["parse", "check", "submit", "batch", "write", "read", "render", "record"]
    assert all(0 < microseconds < 10_000 for microseconds in measured.values())


def test_encoder_batches_hold_every_sample_padded_to_its_own_longest() -> None:
    """By length there is next to no padding, which is what the ceiling is about."""
    samples = make_samples()
    by_length = padded(sorted(samples, key=len), 8)
    assert sum(len(batch["ids"]) for batch in by_length) == len(samples)
    own = sum(map(len, samples))
    assert own == sum(int(np.count_nonzero(batch["ids"])) for batch in by_length)
    assert (
        sum(batch["ids"].size for batch in by_length)
        < 1.1 * own
        < sum(batch["ids"].size for batch in padded(samples, 32))
    )
