"""V1 bodies without a server: whatever is parsed is rendered again, and whatever is not is refused."""

from __future__ import annotations

import json
from base64 import b64encode
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from maas.api.operation import Payload
from maas.api.v1 import V1_PREDICT
from maas.batching.request import Answer, Timings
from maas.errors import InvalidRequest
from maas.types import Array, Signature

unhurried = settings(deadline=None)  # for machines that are busy

MIRRORED = {"t": "bytes[batch, 2]", "n": "int64[batch]", "f": "float32[batch]", "b": "bool[batch]"}
BARE = {"t": "bytes[batch]"}


@dataclass(frozen=True)
class Subject:
    """A version that answers with its inputs."""

    signature: Signature
    name: str = "mirror"
    version: str = "1"
    allow_non_finite: bool = False


def mirror(tensors: dict[str, str]) -> Subject:
    return Subject(Signature.parse(tensors, tensors, {}))


def parse(subject: Subject, body: object) -> tuple[dict[str, Array], Any]:
    call = V1_PREDICT.parse(subject, Payload(body if isinstance(body, bytes) else orjson.dumps(body)))
    return dict(call.inputs), call.form


def render(subject: Subject, form: Any, outputs: dict[str, Array]) -> Any:
    return json.loads(V1_PREDICT.render(subject, form, Answer(outputs, Timings(0.0, 0.0), True)).data)


def written(value: bytes) -> object:
    """As a client would: in base64."""
    return {"b64": b64encode(value).decode()}


rows = st.lists(
    st.fixed_dictionaries(
        {
            "t": st.lists(st.binary(max_size=6), min_size=2, max_size=2),
            "n": st.integers(-(1 << 63), (1 << 63) - 1),
            "f": st.floats(width=32, allow_nan=False, allow_infinity=False),
            "b": st.booleans(),
        }
    ),
    min_size=1,
    max_size=4,
)


@unhurried
@given(rows)
def test_rows_and_columns_are_the_same_tensors_and_come_back_as_they_came(
    given_rows: list[dict[str, Any]],
) -> None:
    """Every byte and number, exactly; and what is answered is what may be asked."""
    subject = mirror(MIRRORED)
    as_rows = [{**row, "t": [written(part) for part in row["t"]]} for row in given_rows]
    as_columns = {name: [row[name] for row in as_rows] for name in MIRRORED}
    tensors, row_form = parse(subject, {"instances": as_rows})
    same, column_form = parse(subject, {"inputs": as_columns})
    for name in MIRRORED:
        assert tensors[name].tolist() == same[name].tolist() == [row[name] for row in given_rows]
    predictions = render(subject, row_form, tensors)["predictions"]
    outputs = render(subject, column_form, same)["outputs"]
    asked_again = (parse(subject, {"instances": predictions})[0], parse(subject, {"inputs": outputs})[0])
    for name, array in tensors.items():
        assert [again[name].tolist() for again in asked_again] == [array.tolist()] * 2


@unhurried
@given(st.binary(max_size=12))
def test_bytes_are_a_text_where_they_are_utf_8(value: bytes) -> None:
    """And base64 where they are not; under a name that ends with `_bytes` they always are."""
    said = {}
    for name in ("u", "u_bytes"):
        subject = mirror({name: "bytes[batch]"})
        (said[name],) = render(subject, parse(subject, {"instances": ["x"]})[1], {name: of(value)})[
            "predictions"
        ]
    assert said["u_bytes"] == written(value)
    try:
        assert said["u"] == value.decode()
    except UnicodeDecodeError:
        assert said["u"] == written(value)


def of(value: bytes) -> Array:
    array = np.empty(1, object)
    array[0] = value
    return array


anything = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=5)
    | st.sampled_from([{"b64": "eA=="}, {"b64": "e"}]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["t", "n", "f", "b", "b64", "instances"]), inner, max_size=4)
    ),
    max_leaves=12,
)


@pytest.mark.parametrize("tensors", [MIRRORED, BARE], ids=["several", "one"])
@unhurried
@given(body=st.dictionaries(st.sampled_from(["instances", "inputs", "signature_name"]), anything) | anything)
def test_any_json_is_read_or_refused(tensors: dict[str, str], body: object) -> None:
    """Never with another error than the caller's, which is a 400; what is read has the types of the model."""
    subject = mirror(tensors)
    with suppress(InvalidRequest):
        found, _ = parse(subject, json.dumps(body).encode())
        assert {name: array.dtype for name, array in found.items()} == {
            spec.name: spec.numpy_dtype for spec in subject.signature.inputs
        }


@unhurried
@given(st.binary(max_size=60))
def test_any_bytes_are_read_or_refused(body: bytes) -> None:
    """Bytes that are no JSON too."""
    with suppress(InvalidRequest):
        parse(mirror(BARE), body)
