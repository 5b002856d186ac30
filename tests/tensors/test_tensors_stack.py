"""Which requests may share a batch, and how a batch's arrays go back to them."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from maas.tensors.packing import Column
from maas.tensors.stack import scatter, split, stack, stack_key
from maas.types import Bounds, Signature


def signature(**inputs: str) -> Signature:
    return Signature.parse(inputs, {"y": "float32[1]"}, {})


def test_the_usual_model_stacks_every_request_with_every_other() -> None:
    """Without variable dimensions and with `batch` on every input there is one key for all, at no cost."""
    plain = signature(x="float32[batch, 4]", z="float32[2, batch]")
    assert stack_key(plain, {"x": np.zeros((1, 4)), "z": np.zeros((2, 1))}) is None


def test_variable_dimensions_must_be_equal_to_stack() -> None:
    """Requests of another length get another key, whatever their number of rows."""
    variable = signature(ids="int64[batch, seq]", state="float32[2, batch, seq]")

    def key(rows: int, seq: int) -> object:
        return stack_key(variable, {"ids": np.zeros((rows, seq)), "state": np.zeros((2, rows, seq))})

    assert key(1, 4) == key(3, 4)
    assert key(1, 4) != key(1, 5)
    assert hash(key(2, 4)) == hash(key(1, 4))


def test_inputs_without_batch_must_hold_the_same() -> None:
    """A batch sees one array where there is no `batch`, so its requests must have brought the same contents."""
    shared = signature(x="float32[batch]", rate="int64[n]", word="bytes[]")

    def key(rate: list[int], word: bytes) -> object:
        return stack_key(
            shared,
            {"x": np.zeros(1), "rate": np.array(rate), "word": np.array(word, dtype=object)},
        )

    assert key([1, 2], b"a") == key([1, 2], b"a")
    assert key([1, 2], b"a") != key([2, 1], b"a")
    assert key([1, 2], b"a") != key([1, 2], b"b")


@settings(deadline=None)
@given(st.lists(st.integers(1, 4), min_size=1, max_size=5), st.integers(0, 2))
def test_what_was_stacked_is_split_into_the_same_parts(rows: list[int], axis: int) -> None:
    """Splitting undoes stacking along any axis: each request gets its own rows, in order."""
    generator = np.random.default_rng(0)
    parts = [generator.normal(size=[count if place == axis else 2 for place in range(3)]) for count in rows]
    again = split(Column(parts, axis).stacked(), axis, rows)
    assert all(np.array_equal(one, other) for one, other in zip(parts, again, strict=True))


def test_without_an_axis_everybody_gets_the_whole() -> None:
    """An output that carries no `batch` goes to every request as it is."""
    whole = np.arange(3)
    assert all(part is whole for part in split(whole, None, [1, 2]))


PADDED = Signature.parse(
    {"ids": "int64[batch, seq]", "pair": "float32[batch, seq, seq, n]"},
    {"vectors": "float32[batch, seq]", "seq_first": "int64[seq, batch]", "mean": "float32[batch]"},
    {"seq": Bounds(max=8, pad={"ids": -1, "pair": 0.5})},
)


def request(rows: int, seq: int, n: int = 1) -> dict[str, np.ndarray]:
    return {"ids": np.full((rows, seq), seq), "pair": np.zeros((rows, seq, seq, n), np.float32)}


def test_padded_dimensions_do_not_keep_requests_apart() -> None:
    """Lengths that may be padded are no part of the key; those that may not, are."""
    assert stack_key(PADDED, request(1, 4)) == stack_key(PADDED, request(3, 7))
    assert stack_key(PADDED, request(1, 4)) != stack_key(PADDED, request(1, 4, n=2))


def test_padding_comes_after_each_request_with_its_input_s_own_element() -> None:
    """Every axis of the dimension is padded, with what the manifest says for that input."""
    ids, pair = (column.stacked() for column in stack(PADDED, [request(1, 2), request(1, 3)]))
    assert ids.tolist() == [[2, 2, -1], [3, 3, 3]]
    assert pair[0, ..., 0].tolist() == [[0, 0, 0.5], [0, 0, 0.5], [0.5, 0.5, 0.5]]


def test_padded_outputs_are_cut_back_to_each_request_s_own_length() -> None:
    """An output that carries the dimension loses what was padded, on whatever axis; another goes as it is."""
    outputs = {
        "vectors": np.arange(9, dtype=np.float32).reshape(3, 3),
        "seq_first": np.arange(9).reshape(3, 3),
        "mean": np.arange(3, dtype=np.float32),
    }
    one, two = scatter(PADDED, outputs, [1, 2], [(2, 1), (3, 1)])
    assert one["vectors"].tolist() == [[0, 1]]
    assert one["seq_first"].tolist() == [[0], [3]]
    assert two["vectors"].shape == (2, 3)
    assert (one["mean"].tolist(), two["mean"].tolist()) == ([0], [1, 2])
