"""The self-test: a model gives the golden answers, however its requests are arranged into batches.

1. Each sample is asked as it is, row by row, and stacked with the others that stack.
2. Where dimensions are padded, it is also asked made longer by padding alone, up to the declared maximum; in a batch with
   a longer one; and cut to half its length, where it must answer in company what it answers alone. So padding is proven
   even by samples that are all of one length.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from maas.errors import BadArtifact
from maas.runtimes.contract import Runner
from maas.runtimes.golden import GoldenSample, rows_of
from maas.tensors.check import check_inputs, check_outputs
from maas.tensors.lengths import resize
from maas.tensors.stack import scatter, split, stack, stack_key
from maas.types import Array, Lengths, Signature, Tensors, TensorSpec, Tolerance

_MAX_PADDED_SAMPLES = 8  # by which padding is proven: a load should not take long


@dataclass(frozen=True, slots=True)
class _Arrangement:
    """Samples that are run as one batch, with a `companion` whose own answer nobody knows; `without_rows` of the companion,
    what it leaves behind is the padding of the others."""

    how: str
    samples: Sequence[GoldenSample]
    companion: Tensors | None = None
    without_rows: bool = False


def self_test(
    runner: Runner, signature: Signature, samples: Sequence[GoldenSample], tolerances: Mapping[str, Tolerance]
) -> None:
    """Ask `runner` for every sample in every arrangement.

    Raises `BadArtifact` with the numbers where an answer is not the expected one: the version is not what was
    published, or batching or padding changes its answers.
    """
    for arrangement in _arrangements(runner, signature, samples):
        answers = _run(runner, signature, arrangement)
        for sample, answer in zip(arrangement.samples, answers, strict=False):
            for spec in signature.outputs:
                _compare(
                    answer[spec.name],
                    sample.outputs[spec.name],
                    spec,
                    tolerances.get(spec.dtype),
                    arrangement.how,
                )


def stack_inputs(signature: Signature, requests: Sequence[Tensors]) -> dict[str, Array]:
    """The inputs of one batch, from requests whose `stack_key` is equal."""
    columns = stack(signature, requests)
    return {spec.name: column.stacked() for spec, column in zip(signature.inputs, columns, strict=True)}


def _run(runner: Runner, signature: Signature, arrangement: _Arrangement) -> list[dict[str, Array]]:
    """The answer to each sample of the batch, and behind them the companion's if it has rows."""
    requests = [sample.inputs for sample in arrangement.samples]
    if arrangement.companion is not None:
        requests.append(arrangement.companion)
    rows = [check_inputs(signature, inputs) for inputs in requests]
    inputs = stack_inputs(signature, requests)
    if arrangement.without_rows:
        inputs = {s.name: split(inputs[s.name], s.batch_axis, rows)[0].copy() for s in signature.inputs}
        requests, rows = requests[:1], rows[:1]
    outputs = runner.run(inputs)
    check_outputs(signature, outputs, sum(rows))
    return scatter(signature, outputs, rows, [signature.lengths_of(each) for each in requests])


def _arrangements(
    runner: Runner, signature: Signature, samples: Sequence[GoldenSample]
) -> Iterator[_Arrangement]:
    groups = defaultdict(list)
    for index, sample in enumerate(samples):
        yield _Arrangement(f"sample {index}", [sample])
        if signature.is_batched:
            groups[stack_key(signature, sample.inputs)].append(sample)
            for row, alone in enumerate(rows_of(signature, sample)):
                yield _Arrangement(f"row {row} of sample {index}, run alone,", [alone])
    for group in groups.values():
        if len(group) > 1:
            yield _Arrangement(f"{len(group)} samples, run as one batch,", group)
    if signature.pads:
        for index, sample in enumerate(samples[:_MAX_PADDED_SAMPLES]):
            yield from _padded(runner, signature, index, sample)


def _padded(runner: Runner, signature: Signature, index: int, sample: GoldenSample) -> Iterator[_Arrangement]:
    row = rows_of(signature, sample)[0]
    own = signature.lengths_of(row.inputs)
    for lengths in _longer(signature, own):
        longer = resize(signature, row.inputs, lengths)
        how = f"sample {index}, padded from {_in_words(signature, own)} to {_in_words(signature, lengths)}"
        yield _Arrangement(f"row 0 of {how},", [row], longer, without_rows=True)
        if _answer(runner, longer) is not None:
            yield _Arrangement(f"{how} in a batch with a longer one,", [sample], longer)
    if (cut := _cut(runner, signature, row)) is not None:
        shorter = _in_words(signature, signature.lengths_of(cut.inputs))
        yield _Arrangement(f"row 0 of sample {index}, cut to {shorter} and padded again,", [cut], row.inputs)


def _longer(signature: Signature, own: Lengths) -> list[Lengths]:
    """Lengths to pad to: twice the own, each dimension's maximum, and all maxima at once."""
    most = [signature.limits_of(dim.name).max if dim.is_padded else None for dim in signature.variable]
    largest = tuple(length if limit is None else limit for length, limit in zip(own, most, strict=True))
    twice = tuple(min(2 * length, limit) for length, limit in zip(own, largest, strict=True))
    single = [(*own[:place], limit, *own[place + 1 :]) for place, limit in enumerate(largest)]
    return [lengths for lengths in dict.fromkeys([twice, *single, largest]) if lengths != own]


def _cut(runner: Runner, signature: Signature, row: GoldenSample) -> GoldenSample | None:
    """The row at half its length, with what the model answers to that alone; None where it has nothing shorter to ask."""
    own = signature.lengths_of(row.inputs)
    half = tuple(
        max(signature.limits_of(dim.name).min, length // 2) if dim.is_padded else length
        for dim, length in zip(signature.variable, own, strict=True)
    )
    inputs = resize(signature, row.inputs, half)
    outputs = None if half == own else _answer(runner, inputs)
    return None if outputs is None else GoldenSample(inputs, outputs)


def _answer(runner: Runner, inputs: Tensors) -> Tensors | None:
    """None where the model does not take what nobody has said that it takes."""
    try:
        return {name: array.copy() for name, array in runner.run(inputs).items()}
    except Exception:
        return None


def _in_words(signature: Signature, lengths: Lengths) -> str:
    return ", ".join(
        f"{dim.name} = {length}"
        for dim, length in zip(signature.variable, lengths, strict=True)
        if dim.is_padded
    )


def _compare(actual: Array, expected: Array, spec: TensorSpec, tolerance: Tolerance | None, how: str) -> None:
    if actual.shape != expected.shape:
        raise BadArtifact(
            f"{how} gives output {spec.name!r} of shape {list(actual.shape)}; golden is {list(expected.shape)}"
        )
    if tolerance is None or not expected.size:
        if not np.array_equal(actual, expected):
            raise BadArtifact(f"{how} gives another output {spec.name!r} than the golden one")
        return
    difference, allowed = _worst(actual, expected, tolerance)
    if not difference <= allowed:
        raise BadArtifact(
            f"{how} gives output {spec.name!r} off its golden value by {difference:.3g}; allowed is {allowed:.3g} "
            f"(absolute {tolerance.absolute:g}, relative {tolerance.relative:g})"
        )


def _worst(actual: Array, expected: Array, tolerance: Tolerance) -> tuple[float, float]:
    """The difference furthest over (or least under) what is allowed there, and what is allowed there."""
    same = (actual == expected) | (np.isnan(actual) & np.isnan(expected))
    with np.errstate(invalid="ignore"):
        difference = np.where(same, 0.0, np.abs(actual.astype(np.float64) - expected))
    # Beside NaN and infinity only they themselves are right: a share of them would allow everything or nothing.
    size = np.where(np.isfinite(expected), np.abs(expected.astype(np.float64)), 0.0)
    allowed = tolerance.absolute + tolerance.relative * size
    excess = np.nan_to_num(difference - allowed, nan=np.inf)
    worst = np.unravel_index(int(np.argmax(excess)), excess.shape)
    return float(difference[worst]), float(allowed[worst])
