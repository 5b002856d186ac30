"""Messages that would take long to parse are refused before they are."""

from __future__ import annotations

import time
from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.api.grpc_harness import tensor

from maas.api.grpc.density import _MOST_DENSE, _MOST_PIECES, cut_raw
from maas.api.grpc.messages import ModelInferRequest
from maas.errors import InvalidRequest

MANY = _MOST_PIECES + 1


def typed(**contents: object) -> bytes:
    return ModelInferRequest(inputs=[tensor("x", "ANY", [1], **contents)]).SerializeToString()


DENSE = {
    "inputs": b"\x2a\x00" * (8 << 20),
    "raw entries": b"\x3a\x00" * (8 << 20),
    "parameters": b"\x22\x00" * (8 << 20),
    "strings": typed(bytes_contents=[b""] * MANY),
    "integers": typed(int_contents=np.ones(_MOST_DENSE + 1, np.int32)),
    "a shape": ModelInferRequest(inputs=[tensor("x", "ANY", [1] * (_MOST_DENSE + 1))]).SerializeToString(),
    "a name": ModelInferRequest(model_name="x" * (_MOST_DENSE + 1)).SerializeToString(),
}


@pytest.mark.parametrize("data", DENSE.values(), ids=DENSE)
def test_dense_message_is_refused_soon(data: bytes) -> None:
    """What is read piece by piece has a bound, and finding out that it is over takes a moment."""
    began = time.perf_counter()
    with pytest.raises(InvalidRequest):
        cut_raw(data)
    assert time.perf_counter() - began < 1.0


def test_large_tensors_are_not_dense() -> None:
    """Raw contents and typed floats may have any size, and typed integers and strings a fair one."""
    cut_raw(ModelInferRequest(raw_input_contents=[bytes(16 << 20)]).SerializeToString())
    cut_raw(typed(fp32_contents=np.ones(3 << 20, np.float32)))
    cut_raw(typed(fp64_contents=np.ones(1 << 20)))
    cut_raw(typed(int_contents=np.ones(1 << 19, np.int32)))
    cut_raw(typed(bytes_contents=[b"word"] * 50_000))


@given(
    st.lists(st.binary(max_size=20), max_size=4),
    st.lists(st.text(max_size=5), max_size=4),
    st.text(max_size=5),
)
def test_raw_contents_are_cut_out_whole(raw: list[bytes], names: list[str], identifier: str) -> None:
    """What is left is the message without them, wherever in it they stand; and they are where they were."""
    request = ModelInferRequest(id=identifier, inputs=[tensor(name, "ANY", [1]) for name in names])
    behind = ModelInferRequest(model_name="behind")
    parts = [
        request.SerializeToString(),
        *(ModelInferRequest(raw_input_contents=[r]).SerializeToString() for r in raw),
    ]
    rest, found = cut_raw(b"".join((*parts, behind.SerializeToString())))
    request.MergeFrom(behind)
    assert ModelInferRequest.FromString(rest) == request
    assert list(map(bytes, found)) == raw


@given(st.binary(max_size=200))
def test_any_bytes_are_walked_to_an_end(data: bytes) -> None:
    """Whatever comes is let through, or refused as one of our errors."""
    with suppress(InvalidRequest):
        cut_raw(data)
