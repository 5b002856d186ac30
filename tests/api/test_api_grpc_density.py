"""Messages that would take long to parse are refused before they are."""

from __future__ import annotations

import time
from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.api.grpc_harness import tensor

from maas.api.grpc.density import _MOST_DENSE, _MOST_PIECES, check_density
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
        check_density(data)
    assert time.perf_counter() - began < 1.0


def test_large_tensors_are_not_dense() -> None:
    """Raw contents and typed floats may have any size, and typed integers and strings a fair one."""
    check_density(ModelInferRequest(raw_input_contents=[bytes(16 << 20)]).SerializeToString())
    check_density(typed(fp32_contents=np.ones(3 << 20, np.float32)))
    check_density(typed(fp64_contents=np.ones(1 << 20)))
    check_density(typed(int_contents=np.ones(1 << 19, np.int32)))
    check_density(typed(bytes_contents=[b"word"] * 50_000))


@given(st.binary(max_size=200))
def test_any_bytes_are_walked_to_an_end(data: bytes) -> None:
    """Whatever comes is let through, or refused as one of our errors."""
    with suppress(InvalidRequest):
        check_density(data)
