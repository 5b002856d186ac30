"""Bodies are read as a plain `json` reading of them says: those of the corpus, and those that hypothesis makes up."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.fuzz.bodies import CASES, Case, check, choose
from tests.tensors.values import anything

from maas.api.oip.datatypes import DATATYPES
from maas.types import TensorSpec

CORPUS = sorted((Path(__file__).parent / "corpus").iterdir())


@pytest.mark.parametrize("file", CORPUS, ids=lambda file: file.name)
def test_corpus_is_read_as_the_reference_says(file: Path) -> None:
    """Each body of the corpus is read, or refused, by every reader as the reference does; its own takes it or not, as its name says."""
    case, body = choose(file.read_bytes())
    assert (check(case, body) is not None) == file.name.startswith("good-")
    for other in CASES:
        check(other, body)


@st.composite
def fitting(draw: st.DrawFn, spec: TensorSpec) -> Any:
    """A value of the declared shape, its variable dimensions of two, or of a sample of it."""
    dims = draw(st.sampled_from([spec.dims, spec.sample_dims]))
    leaf = {"b": st.booleans(), "O": st.text(max_size=2), "f": st.floats(width=16)}.get(
        spec.numpy_dtype.kind, st.integers(0, 127)
    )

    def build(rest: tuple[int | str, ...]) -> Any:
        if not rest:
            return draw(leaf)
        return [build(rest[1:]) for _ in range(rest[0] if isinstance(rest[0], int) else 2)]

    return build(dims)


@st.composite
def tensors(draw: st.DrawFn, spec: TensorSpec) -> dict[str, Any]:
    """A tensor of the protocol that is right, or nearly."""
    shape = [dim if isinstance(dim, int) else 2 for dim in spec.dims]
    tensor = {
        "name": spec.name,
        "shape": draw(st.just(shape) | st.lists(st.integers(-1, 3) | st.booleans(), max_size=3)),
        "datatype": draw(st.just(DATATYPES[spec.dtype]) | st.sampled_from(["FP32", "bytes", None, 1])),
        "data": draw(fitting(spec) | anything),
    }
    tensor.pop(draw(st.sampled_from([None] * 6 + [*tensor])), None)
    return tensor


@st.composite
def bodies(draw: st.DrawFn, case: Case) -> bytes:
    """A body that `case` takes, or one that is wrong in a place or two."""
    specs = case.subject.signature.inputs
    if case.name.startswith("predict"):
        value: dict[str, Any] = {spec.name: draw(fitting(spec) | anything) for spec in specs}
        value |= draw(st.just({}) | st.dictionaries(st.text(max_size=2), anything, max_size=1))
    else:
        value = {"inputs": [draw(tensors(spec)) for spec in specs]}
        value |= draw(
            st.fixed_dictionaries(
                {},
                optional={
                    "id": st.text(max_size=3) | st.integers(),
                    "outputs": st.lists(st.sampled_from([{"name": specs[0].name}, {"name": "?"}, 1])),
                    "parameters": st.fixed_dictionaries(
                        {}, optional={"timeout": st.integers() | st.floats() | st.text(max_size=3)}
                    ),
                },
            )
        )
    return json.dumps(value, ensure_ascii=draw(st.booleans())).encode("utf-8", "surrogatepass")


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_body_is_read_as_the_reference_says(case: Case, data: st.DataObject) -> None:
    """A body that is right or nearly so, whole or with a few bytes changed, is read the same by both or by neither."""
    body = data.draw(bodies(case))
    check(case, body)
    at = data.draw(st.integers(0, len(body)))
    check(case, body[:at] + data.draw(st.binary(max_size=3)) + body[at + data.draw(st.integers(0, 3)) :])


def test_fuzzing_runs_or_says_what_is_missing(tmp_path: Path) -> None:
    """`make fuzz` starts from the corpus and ends at its time; without `atheris` it says so."""
    command = [sys.executable, "-m", "tests.fuzz.fuzz_bodies", "--seconds", "1", "--folder", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    if importlib.util.find_spec("atheris") is None:
        assert done.returncode == 1
        assert "atheris is not installed" in done.stderr
    else:
        assert done.returncode == 0, done.stderr
        assert "stat::number_of_executed_units" in done.stderr
