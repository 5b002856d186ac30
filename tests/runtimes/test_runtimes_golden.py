"""Golden samples: kept exactly, and a self-test that no wrong model passes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from safetensors.numpy import save_file
from tests.values import values_of

from maas.dtypes import DTYPES
from maas.errors import BadArtifact, ModelFailed
from maas.runtimes.golden import (
    GOLDEN,
    GoldenSample,
    load_golden,
    rows_of,
    save_golden,
)
from maas.runtimes.self_test import self_test, stack_inputs
from maas.types import DEFAULT_TOLERANCES, Array, Bounds, Signature, Tensors, Tolerance

PAIRS = Signature.parse({"x": "float32[batch, 2]"}, {"y": "float32[batch, 2]"}, {})


def texts(*elements: bytes) -> Array:
    array = np.empty(len(elements), dtype=object)
    array[:] = elements
    return array


class Model:
    """A runner from a function, that remembers how many rows it was asked for."""

    def __init__(self, function: Callable[[Tensors], Tensors]) -> None:
        self._function = function
        self.rows: list[int] = []

    def run(self, inputs: Tensors) -> Tensors:
        self.rows.append(len(next(iter(inputs.values()))))
        return self._function(inputs)


def sample(*rows: list[float], factor: float = 2.0) -> GoldenSample:
    x = np.array(rows, np.float32)
    return GoldenSample({"x": x}, {"y": x * np.float32(factor)})


def check(
    function: Callable[[Tensors], Tensors],
    *samples: GoldenSample,
    signature: Signature = PAIRS,
    tolerances: Mapping[str, Tolerance] = DEFAULT_TOLERANCES,
) -> Model:
    model = Model(function)
    self_test(model, signature, samples, tolerances)
    return model


def double(inputs: Tensors) -> Tensors:
    return {"y": inputs["x"] * np.float32(2)}


# -- on disk


@pytest.mark.parametrize("dtype", DTYPES)
@settings(deadline=None, max_examples=25)
@given(data=st.data())
def test_samples_are_read_as_they_were_written(
    dtype: str, data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Several samples of any type, length and layout come back bit for bit, NaN and bytes included."""
    signature = Signature.parse(
        {"in": f"{dtype}[batch, n]", "flag": "bool[]"}, {"out.1": f"{dtype}[batch]"}, {}
    )
    elements = st.binary(max_size=9) if dtype == "bytes" else values_of(DTYPES[dtype])
    shapes = data.draw(st.lists(st.tuples(st.integers(1, 3), st.integers(1, 3)), min_size=1, max_size=3))
    samples = []
    for shape in shapes:
        x = data.draw(hnp.arrays(DTYPES[dtype], shape, elements=elements, fill=st.nothing()))
        samples.append(GoldenSample({"in": x, "flag": np.array(True)}, {"out.1": x[:, 0]}))
    directory = tmp_path_factory.mktemp("golden")
    save_golden(directory, samples)
    loaded = load_golden(directory, signature, allow_non_finite=True)
    assert len(loaded) == len(samples)
    for one, other in zip(loaded, samples, strict=True):
        assert identical(one.inputs["in"], other.inputs["in"])
        assert identical(one.outputs["out.1"], other.outputs["out.1"])
        assert one.inputs["flag"].shape == ()


def identical(one: Array, other: Array) -> bool:
    if one.dtype != other.dtype or one.shape != other.shape:
        return False
    return (
        one.ravel().tolist() == other.ravel().tolist()
        if one.dtype == object
        else one.tobytes() == other.tobytes()
    )


def test_samples_keep_their_order(tmp_path: Path) -> None:
    """The tenth sample comes after the ninth."""
    save_golden(tmp_path, [sample([float(index), 0.0]) for index in range(12)])
    loaded = load_golden(tmp_path, PAIRS)
    assert [each.inputs["x"][0, 0] for each in loaded] == list(range(12))


X, Y = np.ones((1, 2), np.float32), np.ones((1, 2), np.float32)


@pytest.mark.parametrize(
    "tensors",
    [
        {},
        {"0.input.x": X},
        {"0.output.y": Y},
        {"1.input.x": X, "1.output.y": Y},
        {"0.input.x": X, "0.output.y": Y, "99999999999999.input.x": X},
        {"x": X, "y": Y},
        {"0.input.x": X.astype(np.float64), "0.output.y": Y},
        {"0.input.x": X[0], "0.output.y": Y},
        {"0.input.x": X, "0.output.y": Y.astype(np.int32)},
        {"0.input.x": X, "0.output.y": np.ones((2, 2), np.float32)},
    ],
    ids=lambda tensors: " ".join(tensors) or "none",
)
def test_a_file_that_holds_no_samples_of_the_model_is_refused(
    tmp_path: Path, tensors: dict[str, Array]
) -> None:
    """Missing parts, other names, types and shapes are refused: there must be something to hold the model against."""
    save_file(tensors, tmp_path / GOLDEN)
    with pytest.raises(BadArtifact, match=r"golden\.safetensors does not hold samples of this model"):
        load_golden(tmp_path, PAIRS)


@pytest.mark.parametrize(
    ("packed", "shape"),
    [
        (np.zeros(15, np.uint8), np.array([1], np.int64)),
        (np.zeros(0, np.uint8), np.array([1], np.int64)),
        (np.zeros(16, np.uint8), np.array([-1], np.int64)),
        (np.zeros(16, np.uint8), np.array(1, np.int64)),
        (np.zeros(16, np.uint8), np.array([1.5])),
        (np.zeros(16, np.uint8), np.array([1 << 40], np.int64)),
        (np.array([0, 99], np.int64).view(np.uint8), np.array([1], np.int64)),
    ],
    ids=repr,
)
def test_broken_bytes_are_refused(tmp_path: Path, packed: Array, shape: Array) -> None:
    """Packed bytes that do not fit their shape are a bad artifact, not a crash."""
    signature = Signature.parse({"x": "bytes[batch]"}, {"y": "bytes[batch]"}, {})
    good: dict[str, Array] = {"x": np.zeros(16, np.uint8), "x.shape": np.array([1], np.int64)}
    save_file(
        {
            **{f"0.output.{name.replace('x', 'y')}": array for name, array in good.items()},
            "0.input.x": packed,
            "0.input.x.shape": shape,
        },
        tmp_path / GOLDEN,
    )
    with pytest.raises(BadArtifact, match="does not hold samples"):
        load_golden(tmp_path, signature)


@pytest.mark.parametrize("data", [None, b"", b"not safetensors", b"\x80\x04."])
def test_a_file_that_is_none_is_refused(tmp_path: Path, data: bytes | None) -> None:
    """A missing file, and one of another kind, is refused by its name."""
    if data is not None:
        (tmp_path / GOLDEN).write_bytes(data)
    with pytest.raises(BadArtifact, match=r"golden\.safetensors"):
        load_golden(tmp_path, PAIRS)


# -- the self-test


def test_every_sample_is_asked_whole_alone_and_stacked() -> None:
    """Each sample runs as it is, row by row, and in one batch with the others that stack."""
    model = check(double, sample([1, 2], [3, 4]), sample([5, 6]))
    assert sorted(model.rows) == [1, 1, 1, 1, 2, 3]


def test_samples_that_do_not_stack_are_not_stacked() -> None:
    """Samples of another length run apart from the others."""
    signature = Signature.parse({"x": "float32[batch, n]"}, {"y": "float32[batch, n]"}, {})
    samples = [
        GoldenSample({"x": np.ones((1, n), np.float32)}, {"y": np.full((1, n), 2, np.float32)})
        for n in (2, 3, 2)
    ]
    model = check(double, *samples, signature=signature)
    assert sorted(model.rows) == [1] * 6 + [2]


def test_a_model_without_batch_is_asked_for_whole_samples_only() -> None:
    """Where there is nothing to stack along, a sample is one question."""
    signature = Signature.parse({"x": "float32[2]"}, {"y": "float32[2]"}, {})
    x = np.ones(2, np.float32)
    model = check(double, *[GoldenSample({"x": x}, {"y": x * 2})] * 2, signature=signature)
    assert len(model.rows) == 2


def test_a_wrong_answer_is_told_with_its_numbers() -> None:
    """The message holds which output, how far off it is and what is allowed."""
    with pytest.raises(
        BadArtifact,
        match=r"sample 0 gives output 'y' off its golden value by 0\.04; allowed is 0\.00081 "
        r"\(absolute 1e-05, relative 0\.0001\)",
    ):
        check(lambda inputs: {"y": inputs["x"] * np.float32(2.01)}, sample([1, 1], [2, 4], factor=2.0))


def test_the_place_furthest_over_what_is_allowed_is_told() -> None:
    """A small error at a small number weighs more than a large one within a large number's tolerance."""
    x = np.array([[1e6, 0.0]], np.float32)
    golden = GoldenSample({"x": x}, {"y": x})
    with pytest.raises(BadArtifact, match=r"by 0\.001; allowed is 1e-05"):
        check(lambda inputs: {"y": inputs["x"] + np.array([[50.0, 0.001]], np.float32)}, golden)


def test_differences_within_the_tolerance_pass() -> None:
    """Kernels differ a little between machines and batch sizes; that much is allowed."""
    check(lambda inputs: {"y": inputs["x"] * np.float32(2 + 1e-4)}, sample([1, 3]))


def test_batching_that_changes_answers_is_found() -> None:
    """A model whose rows depend on each other is refused, and the message says in which arrangement."""
    mixed = [sample([1, 2]), sample([5, 6])]
    with pytest.raises(BadArtifact, match="2 samples, run as one batch, gives output 'y' off"):
        check(lambda inputs: {"y": inputs["x"] * 2 + (inputs["x"] - inputs["x"].mean(axis=0))}, *mixed)
    whole = np.array([[1, 2], [5, 6]], np.float32)
    centred = GoldenSample({"x": whole}, {"y": whole - whole.mean(axis=0)})
    with pytest.raises(BadArtifact, match="row 0 of sample 0, run alone, gives output 'y' off"):
        check(lambda inputs: {"y": inputs["x"] - inputs["x"].mean(axis=0)}, centred)


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (lambda x: x[:1], ModelFailed),
        (lambda x: np.concatenate([x, x]), ModelFailed),
        (lambda x: x.astype(np.float64), ModelFailed),
        (lambda x: x[:, :1], ModelFailed),
        (lambda x: x.tolist(), ModelFailed),
        (lambda x: x * np.float32("nan"), BadArtifact),
        (lambda x: x * np.float32("inf"), BadArtifact),
    ],
)
def test_an_answer_of_another_shape_or_type_is_found(answer: Callable[[Array], Any], error: type) -> None:
    """Rows, type and shape are held against the declaration, and non-finite numbers against the golden ones."""
    with pytest.raises(error, match="output 'y'"):
        check(lambda inputs: {"y": answer(inputs["x"])}, sample([1, 2], [3, 4], factor=1))


def test_a_variable_output_must_have_the_golden_length() -> None:
    """Where the declaration leaves a length open, the golden sample settles it."""
    signature = Signature.parse({"x": "float32[batch, 2]"}, {"y": "float32[n]"}, {})
    golden = GoldenSample({"x": np.ones((1, 2), np.float32)}, {"y": np.ones(3, np.float32)})
    with pytest.raises(BadArtifact, match=r"gives output 'y' of shape \[4\]; golden is \[3\]"):
        check(lambda inputs: {"y": np.ones(4, np.float32)}, golden, signature=signature)


def test_an_output_may_be_empty() -> None:
    """A detector that has found nothing agrees with a golden sample in which there was nothing."""
    signature = Signature.parse({"x": "float32[2]"}, {"y": "float32[found, 4]"}, {})
    nothing = np.zeros((0, 4), np.float32)
    golden = GoldenSample({"x": np.ones(2, np.float32)}, {"y": nothing})
    check(lambda inputs: {"y": nothing}, golden, signature=signature)


@pytest.mark.parametrize("expected", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("actual", [np.nan, np.inf, -np.inf, 5.0])
def test_a_non_finite_number_agrees_with_itself_only(expected: float, actual: float) -> None:
    """NaN is NaN and an infinity that infinity, whatever share of it the tolerance would be."""
    golden = GoldenSample({"x": X}, {"y": np.full((1, 2), expected, np.float32)})

    def run(inputs: Tensors) -> Tensors:
        return {"y": np.full(inputs["x"].shape, actual, np.float32)}

    if repr(actual) == repr(expected):
        check(run, golden)
    else:
        with pytest.raises(BadArtifact, match="off its golden value"):
            check(run, golden)


@pytest.mark.parametrize(
    ("dtype", "golden", "wrong"),
    [
        ("int64", np.array([2**53 + 1]), np.array([2**53])),
        ("bool", np.array([True]), np.array([False])),
        ("bytes", texts(b"yes"), texts(b"yes\0")),
    ],
)
def test_what_has_no_tolerance_must_be_equal(dtype: str, golden: Array, wrong: Array) -> None:
    """Whole numbers, truth values and bytes are the golden ones or wrong."""
    signature = Signature.parse({"x": "float32[batch, 2]"}, {"y": f"{dtype}[batch]"}, {})
    expected = GoldenSample({"x": X}, {"y": golden})
    check(lambda inputs: {"y": golden}, expected, signature=signature)
    with pytest.raises(BadArtifact, match="gives another output 'y' than the golden one"):
        check(lambda inputs: {"y": wrong}, expected, signature=signature)


def test_a_manifest_may_allow_whole_numbers_to_differ() -> None:
    """A tolerance that is declared for a type holds for it."""
    signature = Signature.parse({"x": "float32[batch, 2]"}, {"y": "int32[batch]"}, {})
    golden = GoldenSample({"x": X}, {"y": np.array([100], np.int32)})

    def run(inputs: Tensors) -> Tensors:
        return {"y": np.array([101], np.int32)}

    check(run, golden, signature=signature, tolerances={"int32": Tolerance(relative=0, absolute=1)})
    with pytest.raises(BadArtifact):
        check(run, golden, signature=signature, tolerances={"int32": Tolerance(relative=0, absolute=0.5)})


def test_a_model_that_raises_is_not_excused() -> None:
    """What a model raises on a golden sample comes through."""

    def fail(inputs: Tensors) -> Tensors:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        check(fail, sample([1, 2]))


# -- padding

PADDED = Signature.parse(
    {"x": "float32[batch, seq]", "mask": "float32[batch, seq]"},
    {"y": "float32[batch, seq]", "mean": "float32[batch]"},
    {"seq": Bounds(max=9, pad={"x": -7, "mask": 0})},
)


def masked(inputs: Tensors) -> Tensors:
    """What must not depend on padding: each place for itself, and the mean over what the mask lets in."""
    x, mask = inputs["x"], inputs["mask"]
    return {"y": x * 2, "mean": (x * mask).sum(axis=1) / mask.sum(axis=1)}


def lengths(*of: int, rows: int = 1) -> list[GoldenSample]:
    inputs = [
        {
            "x": np.arange(rows * n, dtype=np.float32).reshape(rows, n) + n,
            "mask": np.ones((rows, n), np.float32),
        }
        for n in of
    ]
    return [GoldenSample(each, masked(each)) for each in inputs]


@pytest.mark.parametrize("of", [(4,), (1,), (9,), (2, 5, 9), (3, 3)])
def test_a_model_that_masks_its_padding_passes(of: tuple[int, ...]) -> None:
    """Whatever the lengths of its samples, among them the longest."""
    check(masked, *lengths(*of, rows=2), signature=PADDED)


@pytest.mark.parametrize("of", [(4,), (9,), (2, 5)])
@pytest.mark.parametrize(
    ("output", "wrong"),
    [
        ("mean", lambda x, mask: x.mean(axis=1)),  # over the padding too
        ("mean", lambda x, mask: x[:, -1]),  # the last place, which is the padding's
        ("mean", lambda x, mask: (x * mask).sum(axis=1) / np.float32(x.shape[1])),
        ("y", lambda x, mask: x - x.min(axis=1, keepdims=True)),
        ("y", lambda x, mask: x[:, ::-1]),
    ],
)
def test_a_model_that_its_padding_changes_is_refused(
    of: tuple[int, ...], output: str, wrong: Callable[[Array, Array], Array]
) -> None:
    """The samples answer rightly alone, and not when they are padded; the message has the lengths and the numbers."""

    def run(inputs: Tensors) -> Tensors:
        return {**masked(inputs), output: wrong(inputs["x"], inputs["mask"]).astype(np.float32)}

    samples = [GoldenSample(each.inputs, run(each.inputs)) for each in lengths(*of)]
    told = "samples, run as one batch|padded from seq = 4 to seq = 8|cut to seq = 4 and padded again"
    with pytest.raises(
        BadArtifact, match=f"({told}),? gives output '{output}' off its golden value by .*; allowed is"
    ):
        check(run, *samples, signature=PADDED)


def test_what_only_a_longer_neighbour_reveals_is_found() -> None:
    """A model that looks at its batch-mates beyond its own length is refused, though padding alone does not change it."""

    def run(inputs: Tensors) -> Tensors:
        x, mask = inputs["x"], inputs["mask"]
        leak = (x * mask)[:, 4:].sum(dtype=np.float32)  # what others hold where these are padded
        return {**masked(inputs), "y": x * 2 + leak}

    with pytest.raises(BadArtifact, match="in a batch with a longer one, gives output 'y' off"):
        check(run, *lengths(4), signature=PADDED)


def test_padding_is_proven_up_to_the_declared_maximum() -> None:
    """A model that is right up to some length, and wrong from there on, is refused where it may be asked there."""

    def run(inputs: Tensors) -> Tensors:
        answer = masked(inputs)
        return answer if inputs["x"].shape[1] < 9 else {**answer, "mean": answer["mean"] + np.float32(1)}

    with pytest.raises(BadArtifact, match="padded from seq = 2 to seq = 9, gives output 'mean' off"):
        check(run, *lengths(2), signature=PADDED)


def test_an_output_whose_length_is_not_the_input_s_is_refused() -> None:
    """An output that shrinks with its input, under another name, cannot be cut back: it is found by its shape."""
    signature = Signature.parse(
        {"x": "float32[batch, seq]"}, {"y": "float32[batch, half]"}, {"seq": Bounds(max=8, pad=0)}
    )
    x = np.ones((1, 4), np.float32)
    with pytest.raises(
        BadArtifact, match=r"padded from seq = 4 to seq = 8, gives output 'y' of shape \[1, 4\]"
    ):
        check(
            lambda inputs: {"y": inputs["x"][:, ::2]},
            GoldenSample({"x": x}, {"y": x[:, ::2]}),
            signature=signature,
        )


def test_what_a_model_does_not_take_of_its_own_accord_is_no_fault() -> None:
    """A sample that was made longer or shorter by us may be nonsense to a model; its padding is proven without."""

    def run(inputs: Tensors) -> Tensors:
        if not np.array_equal(np.unique(inputs["x"][0]), np.unique([4, 5, 6, 7, *inputs["x"][0, 4:]])):
            raise ValueError("nonsense")
        if len(inputs["x"]) > 1 or (inputs["mask"].sum() != 4):
            raise ValueError("nonsense")
        return masked(inputs)

    check(run, *lengths(4), signature=PADDED)


# -- rows and stacks


def test_rows_and_stacks_are_each_other_s_undoing() -> None:
    """The rows of a sample, stacked again along each tensor's own axis, are the sample."""
    signature = Signature.parse(
        {"x": "float32[batch, 2]", "state": "float32[2, batch]", "rate": "int64[]"}, {"y": "bytes[batch]"}, {}
    )
    whole = GoldenSample(
        {
            "x": np.arange(6, dtype=np.float32).reshape(3, 2),
            "state": np.arange(6, dtype=np.float32).reshape(2, 3),
            "rate": np.array(7),
        },
        {"y": texts(b"a", b"", b"c")},
    )
    rows = rows_of(signature, whole)
    assert [row.inputs["state"].shape for row in rows] == [(2, 1)] * 3
    again = stack_inputs(signature, [row.inputs for row in rows])
    assert all(np.array_equal(array, again[name]) for name, array in whole.inputs.items())
    assert [row.outputs["y"].tolist() for row in rows] == [[b"a"], [b""], [b"c"]]


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("kind", ["input", "output"])
def test_a_sample_that_is_not_finite_needs_permission(tmp_path: Path, value: float, kind: str) -> None:
    """NaN and infinities in a golden sample are refused by name unless the manifest allows them."""
    signature = Signature.parse({"x": "float32[2]"}, {"y": "float32[2]"}, {})
    good, bad = np.array([1, 2], np.float32), np.array([1, value], np.float32)
    arrays = {"input": good, "output": good} | {kind: bad}
    save_golden(tmp_path, [GoldenSample({"x": arrays["input"]}, {"y": arrays["output"]})])
    name = {"input": "x", "output": "y"}[kind]
    with pytest.raises(BadArtifact, match=f"the golden sample's {kind} '{name}' holds (NaN|an infinity)"):
        load_golden(tmp_path, signature)
    (sample,) = load_golden(tmp_path, signature, allow_non_finite=True)
    np.testing.assert_array_equal(sample.outputs["y"], arrays["output"])


def test_a_missing_sample_is_told_with_what_to_do_and_no_path(tmp_path: Path) -> None:
    """Callers see the message, so it names the file and never its folder."""
    signature = Signature.parse({"x": "float32[2]"}, {"y": "float32[2]"}, {})
    with pytest.raises(BadArtifact, match=r"golden\.safetensors is missing: give --example FILE") as refused:
        load_golden(tmp_path, signature)
    assert str(tmp_path) not in refused.value.message
    (tmp_path / "golden.safetensors").mkdir()
    with pytest.raises(BadArtifact, match="does not hold samples of this model") as refused:
        load_golden(tmp_path, signature)
    assert str(tmp_path) not in refused.value.message
