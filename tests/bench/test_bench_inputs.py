"""What a model is asked with, and in which words."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from maas.bench.dialects import Protocol, datatype, dtype_of, encode_body
from maas.bench.inputs import Field, Form, generate, in_rows, parse_example, read_file
from maas.dtypes import DTYPES
from maas.errors import InvalidRequest
from maas.types import Bounds, Tensors

TOKENS = Form(
    (Field("ids", "int64", ("batch", "seq")), Field("mask", "bool", ("batch", "seq"))),
    {"seq": Bounds(8, 128)},
)
PAIR = Form((Field("x", "float32", ("batch", 2)),))


def test_made_up_inputs_have_the_declared_shapes() -> None:
    """One length in a request for all that share the dimension, uniform within its bounds."""
    made = list(generate(TOKENS, 400, 3, seed=1))
    lengths = [tensors["ids"].shape[1] for tensors in made]
    assert all(
        tensors["ids"].shape == tensors["mask"].shape == (3, n)
        for tensors, n in zip(made, lengths, strict=True)
    )
    assert (min(lengths), max(lengths)) == (8, 128)
    assert np.mean(lengths) == pytest.approx(68, abs=8)
    assert {str(tensors["ids"].dtype) for tensors in made} == {"int64"}


def test_the_same_seed_makes_the_same_inputs() -> None:
    """Two servers are asked the very same."""
    one, other, another = (list(generate(TOKENS, 5, 1, seed)) for seed in (1, 1, 2))
    assert all(np.array_equal(a["ids"], b["ids"]) for a, b in zip(one, other, strict=True))
    assert not all(np.array_equal(a["ids"], b["ids"]) for a, b in zip(one, another, strict=True))


def test_made_up_integers_and_words_are_such_as_the_example_has() -> None:
    """An index that a model does not know would be an error of the load, not of the server."""
    form = Form((Field("ids", "int32", ("batch", "seq")), Field("word", "bytes", ("batch",))))
    like: Tensors = {"ids": np.array([[5, 7]], np.int32), "word": np.array([b"yes", b"no"], object)}
    for tensors in generate(form, 20, 2, 0, like):
        assert set(tensors["ids"].flat) <= {5, 7}
        assert set(tensors["word"].flat) <= {b"yes", b"no"}
    (alone,) = generate(form, 1, 2, 0)
    assert all(isinstance(word, bytes) for word in alone["word"])


@pytest.mark.parametrize("protocol", Protocol)
def test_made_up_bfloat16_is_sent_in_every_protocol(protocol: Protocol) -> None:
    """As numbers, or as its two bytes."""
    form = Form((Field("x", "bfloat16", ("batch", 2)),))
    (tensors,) = generate(form, 1, 3, seed=1)
    assert (tensors["x"].dtype, np.ptp(tensors["x"].astype(float)) > 0) == (DTYPES["bfloat16"], True)
    body = encode_body(protocol, form, tensors)
    if protocol is Protocol.BINARY:
        assert body.content.endswith(tensors["x"].tobytes())
        return
    sent = json.loads(body.content)
    numbers = sent["x"] if protocol is Protocol.NATIVE else sent["inputs"][0]["data"]
    assert np.array_equal(np.reshape(numbers, (3, 2)).astype(DTYPES["bfloat16"]), tensors["x"])


def test_samples_are_asked_row_by_row() -> None:
    """In their order, each row once; with more rows than a sample has, they repeat."""
    sample: Tensors = {"x": np.arange(6, dtype=np.float32).reshape(3, 2)}
    assert [part["x"].tolist() for part in in_rows(PAIR, [sample], 1)] == [[[0, 1]], [[2, 3]], [[4, 5]]]
    assert [part["x"].shape for part in in_rows(PAIR, [sample], 8)] == [(8, 2)]


def test_a_model_without_batches_takes_one_row() -> None:
    """More would be no request of it."""
    form = Form((Field("x", "float32", (2,)),))
    with pytest.raises(InvalidRequest, match="no batch dimension"):
        in_rows(form, [{"x": np.ones(2, np.float32)}], 2)


def test_files_of_each_kind_hold_inputs(tmp_path: Path) -> None:
    """JSON lines, with samples and batches alike, and both formats of arrays."""
    (tmp_path / "a.jsonl").write_text('{"x": [1, 2]}\n\n{"x": [[3, 4], [5, 6]]}\n')
    np.savez(tmp_path / "a.npz", x=np.ones((2, 2)))
    save_file({"x": np.ones((4, 2), DTYPES["bfloat16"])}, tmp_path / "a.safetensors")
    shapes = [
        [tensors["x"].shape for tensors in read_file(tmp_path / f"a.{kind}", PAIR)]
        for kind in ("jsonl", "npz", "safetensors")
    ]
    assert shapes == [[(1, 2), (2, 2)], [(2, 2)], [(4, 2)]]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.jsonl", b'{"x": [1, 2]}\n{"y": 1}', "a.jsonl:2 lacks input 'x'"),
        ("a.jsonl", b'{"x": [1, 2], "z": 1}', "a.jsonl:1 has 'z'; the model takes x"),
        ("a.jsonl", b'{"x": [1, "no"]}', "input 'x' is no float32"),
        ("a.jsonl", b'{"x": [[[1]]]}', "has shape [1, 1, 1]; expected ['batch', 2]"),
        ("a.jsonl", b"[1]", "a.jsonl:1 is no object of inputs by name"),
        ("a.npz", b"no archive", "does not hold inputs"),
        ("a.safetensors", b"neither", "does not hold inputs"),
        ("b.jsonl", None, "cannot be read: No such file"),
    ],
)
def test_a_file_that_holds_no_inputs_is_told_why(
    tmp_path: Path, name: str, content: bytes | None, message: str
) -> None:
    """With the line, the input and what was expected."""
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(InvalidRequest) as raised:
        read_file(tmp_path / name, PAIR)
    assert message in raised.value.message


# -- in which words


def test_native_sends_one_row_as_a_sample_and_more_as_a_batch() -> None:
    """As people do."""
    one: Tensors = {"x": np.array([[1, 2]], np.float32)}
    two: Tensors = {"x": np.array([[1, 2], [3, 4]], np.float32)}
    assert json.loads(encode_body(Protocol.NATIVE, PAIR, one).content) == {"x": [1, 2]}
    assert json.loads(encode_body(Protocol.NATIVE, PAIR, two).content) == {"x": [[1, 2], [3, 4]]}


def test_open_inference_json_has_shape_datatype_and_flat_data() -> None:
    """Text among it."""
    form = Form((*PAIR.fields, Field("word", "bytes", ("batch",))))
    tensors: Tensors = {"x": np.array([[1, 2]], np.float32), "word": np.array(["ä".encode()], object)}
    assert json.loads(encode_body(Protocol.OIP, form, tensors).content) == {
        "inputs": [
            {"name": "x", "shape": [1, 2], "datatype": "FP32", "data": [1, 2]},
            {"name": "word", "shape": [1], "datatype": "BYTES", "data": ["ä"]},
        ]
    }


def test_binary_tensors_stand_behind_the_json_in_their_order() -> None:
    """Little-endian, with the length of the JSON in a header and theirs in it; text with its length in four bytes."""
    form = Form((*PAIR.fields, Field("word", "bytes", ("batch",))))
    tensors: Tensors = {"x": np.array([[1, 2]], ">f4"), "word": np.array([b"abc"], object)}
    body = encode_body(Protocol.BINARY, form, tensors)
    length = int(body.headers["Inference-Header-Content-Length"])
    head = json.loads(body.content[:length])
    assert [each["parameters"]["binary_data_size"] for each in head["inputs"]] == [8, 7]
    assert all("data" not in each for each in head["inputs"])
    assert body.content[length:] == struct.pack("<ff", 1, 2) + struct.pack("<I", 3) + b"abc"


def test_every_dtype_has_its_word() -> None:
    """The protocol's, there and back."""
    assert [dtype_of(datatype(dtype)) for dtype in DTYPES] == list(DTYPES)
    assert [datatype(name) for name in ("float16", "bfloat16", "uint8", "bytes")] == [
        "FP16",
        "BF16",
        "UINT8",
        "BYTES",
    ]
    assert dtype_of("FP8") is None


def test_an_example_of_another_model_is_refused() -> None:
    """The form is what the server declares."""
    with pytest.raises(InvalidRequest, match="lacks input 'mask'"):
        parse_example(TOKENS, {"ids": [1]}, "the example")
