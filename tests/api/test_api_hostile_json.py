"""Bodies made to hurt a parser: each is refused with a code, none is a 5xx, none stops the service."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.api.harness import Model, in_loop, serving

from maas.api.body import parse_object
from maas.errors import InvalidRequest

WIDE = Model(inputs={"x": "float32[batch, n]"}, outputs={"y": "float32[batch, n]"})
DEPTH = 100_000
INFER = b'{"inputs": [{"name": "x", "shape": [1, 2], "datatype": "FP32", "data": %s}]}'

HOSTILE = {
    "lists 100 000 deep": b"[" * DEPTH + b"]" * DEPTH,
    "lists 100 000 deep, never closed": b"[" * DEPTH,
    "objects 100 000 deep": b'{"x":' * DEPTH + b"1" + b"}" * DEPTH,
    "objects 1 000 deep": b'{"x":' * 1000 + b"1" + b"}" * 1000,
    "NaN 100 000 deep": b'{"x":' + b"[" * DEPTH + b"NaN" + b"]" * DEPTH + b"}",
    "NaN in objects 100 000 deep": b'{"x":' * DEPTH + b"NaN" + b"}" * DEPTH,
    "deep as input": b'{"x":' + b"[" * 900 + b"]" * 900 + b"}",
    "deep as data": INFER % (b"[" * 900 + b"]" * 900),
    "a megabyte of empty lists": b'{"x": [' + b"[]," * 350_000 + b"[]]}",
    "a megabyte of empty objects": b'{"x": [' + b"{}," * 350_000 + b"{}]}",
    "a megabyte of small objects": b'{"x": [' + b'{"a":1},' * 130_000 + b"{}]}",
    "a megabyte of names": b"{" + b",".join(b'"%d":0' % i for i in range(90_000)) + b"}",
    "a megabyte of names, the last twice": b"{" + b",".join(b'"%d":0' % min(i, 90_000) for i in range(90_002)) + b"}",
    "a megabyte of inputs, the last twice": b'{"inputs": ['
    + b",".join(b'{"name":"%d"}' % min(i, 60_000) for i in range(60_002))
    + b"]}",
    "a megabyte of inputs": b'{"inputs": [' + b'{"name":"x"},' * 80_000 + b"{}]}",
    "integer of 5 000 digits": b'{"x": [[1, %s]]}' % (b"9" * 5000),
    "integer of 5 000 digits as data": INFER % (b"[1, %s]" % (b"9" * 5000)),
    "integer of 5 000 digits beside NaN": INFER % (b"[NaN, %s]" % (b"9" * 5000)),
    "integer of 4 000 digits beside NaN": INFER % (b"[NaN, %s]" % (b"9" * 4000)),
    "integer beyond float64 that nobody reads": b'{"inputs": [{"name": "x", "shape": [1, 2], "datatype": "FP32", "data": [1, 2]}], "a": 1%s}' % (b"0" * 400),
    "integer beyond float64 that nobody reads beside NaN": b'{"inputs": [{"name": "x", "shape": [1, 2], "datatype": "FP32", "data": [1, NaN]}], "a": 1%s}' % (b"0" * 400),
    "number beyond float64": b'{"x": [[1, 1e400]]}',
    "number beyond float64 beside NaN": INFER % b"[NaN, 1e400]",
    "name twice": b'{"x": [[1, 2]], "x": [[3, 4]]}',
    "name twice, once escaped": b'{"x": [[1, 2]], "\\u0078": [[3, 4]]}',
    "name twice in a tensor": b'{"inputs": [{"name": "x", "shape": [1, 2], "datatype": "FP32", "data": [1], "data": [1, 2]}]}',
    "name twice beside NaN": b'{"inputs": [], "a": NaN, "a": 1}',
    "inputs twice": b'{"inputs": [], "inputs": [{"name": "x", "shape": [1, 2], "datatype": "FP32", "data": [1, 2]}]}',
    "bad UTF-8 in a name": b'{"\xff\xfe": 1}',
    "bad UTF-8 in a text": b'{"x": "\xc3\x28"}',
    "overlong UTF-8": b'{"x": "\xc0\xaf"}',
    "UTF-8 of a surrogate": b'{"x": "\xed\xa0\x80"}',
    "lone surrogate in a text": b'{"x": "\\ud800"}',
    "lone surrogate in a name": b'{"\\udfff": 1}',
    "lone surrogate in an id": b'{"id": "\\ud800", "inputs": [{"name": "x", "shape": [1, 2], "datatype": "FP32", "data": [1, 2]}]}',
    "lone surrogate in an id beside NaN": b'{"id": "\\uD800", "a": NaN, "inputs": [{"name": "x", "shape": [1, 2], "datatype": "FP32", "data": [1, 2]}]}',
    "lone surrogate in a name beside NaN": b'{"\\udc00": NaN, "inputs": [{"name": "\\ud800"}]}',
    "byte order mark": b'\xef\xbb\xbf{"x": [[1, 2]]}',
    "byte order mark beside NaN": b'\xef\xbb\xbf{"x": NaN}',
    "UTF-16": '{"x": [[1, 2]]}'.encode("utf-16"),
    "UTF-16 without mark": '{"x": [[1, 2]]}'.encode("utf-16-le"),
    "UTF-32": '{"x": [[1, 2]]}'.encode("utf-32"),
    "NUL": b'{"x": [[1, 2]]}\x00',
    "control in a text": b'{"x": "\x01"}',
    "comment": b'{"x": [[1, 2]] /* two */}',
    "trailing comma": b'{"x": [[1, 2],]}',
    "single quotes": b"{'x': [[1, 2]]}",
    "literals only": b"NaN",
    "minus NaN": INFER % b"[-NaN, 1]",
    "hexadecimal": b'{"x": [[0x10, 2]]}',
    "digits of another script": '{"x": [[١, 2]]}'.encode(),
    "name over a megabyte": b'{"%s": 1}' % (b"a" * (1 << 20)),
    "text over a megabyte": b'{"x": "%s"}' % (b"a" * (1 << 20)),
}  # fmt: skip


@pytest.mark.parametrize("path", ["/predict/{}", "/v2/models/{}/infer"], ids=["native", "open inference"])
@in_loop
async def test_hostile_body_is_refused_briefly(path: str) -> None:
    """Whatever the dialect and the manifest, it is a 400 (or 413) with a short error, and the next request is answered."""
    lenient = replace(WIDE, name="lenient", manifest={"allow_non_finite": True})
    async with serving(WIDE, lenient) as service:
        for case, body in HOSTILE.items():
            for model in (WIDE.name, lenient.name):
                answer = await service.post(path.format(model), body)
                after = await service.predict({"x": [[1, 2]]}, model)
                assert answer.status_code in {400, 413}, (case, model)
                assert answer.json()["error"], (case, model)
                assert len(answer.content) < 6000, (case, model)
                assert after.status_code == 200, (case, model)


TEXT = st.text(st.characters(codec="utf-8"), max_size=8)
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=12,
)


@given(st.dictionaries(TEXT, JSON, max_size=4), st.booleans(), st.booleans())
@settings(max_examples=150, deadline=None)
def test_every_plain_object_is_read_as_it_is(
    value: dict[str, object], ascii_only: bool, allowed: bool
) -> None:
    """What the standard library writes is read back the same, colons in texts, nesting and all."""
    body = json.dumps(value, ensure_ascii=ascii_only).encode()
    assert parse_object(body, allow_non_finite=allowed) == value


@given(st.dictionaries(TEXT, JSON, min_size=1, max_size=3), st.integers(0, 3), st.data())
@settings(max_examples=200, deadline=None)
def test_name_given_twice_is_found_wherever_it_stands(
    inner: dict[str, object], depth: int, data: st.DataObject
) -> None:
    """A doubled name is refused at the top and in objects within objects and lists."""
    twice = data.draw(st.sampled_from(sorted(inner)))
    text = json.dumps(inner)[:-1] + f", {json.dumps(twice)}: 0}}"
    for level in range(depth):
        text = f'{{"a": [{text}, 1]}}' if level % 2 else f'{{"b": {text}}}'
    with pytest.raises(InvalidRequest, match="twice"):
        parse_object(text.encode(), allow_non_finite=False)


@given(
    st.binary(max_size=64) | st.text(max_size=64).map(lambda text: text.encode("utf-8", "surrogatepass")),
    st.booleans(),
)
@settings(max_examples=150, deadline=None)
def test_any_bytes_are_read_or_refused(body: bytes, allowed: bool) -> None:
    """Nothing but an object comes out, nothing but `InvalidRequest` is raised."""
    try:
        assert isinstance(parse_object(body, allow_non_finite=allowed), dict)
    except InvalidRequest as error:
        error.message.encode()


def test_large_body_with_bare_literals_is_told_what_to_send() -> None:
    """The parser that reads them is slow, and bounded; raw tensors have such values at any size."""
    body = b'{"x": [NaN, %s0]}' % (b"0, " * (3 << 20))
    with pytest.raises(InvalidRequest, match="use binary tensors"):
        parse_object(body, allow_non_finite=True)
