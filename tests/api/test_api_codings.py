"""Content codings without a server: what headers say of them, and what is inflated."""

from __future__ import annotations

import gzip
import zlib
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.api.test_api_compression import WAYS

from maas.api.codings import Accepted, read_accepted, read_codings
from maas.api.errors import UnsupportedCoding
from maas.api.inflating import PIECE, Inflater
from maas.errors import InvalidRequest

unhurried = settings(deadline=None)  # for machines that are busy


@unhurried
@given(
    data=st.one_of(
        st.binary(max_size=300), st.binary(min_size=1, max_size=9).map(lambda part: part * 30_000)
    ),
    way=st.sampled_from([way for way in WAYS if WAYS[way][0] in ("gzip", "deflate")]),
)
def test_whatever_was_compressed_comes_out(data: bytes, way: str) -> None:
    """Byte for byte, in pieces of a bounded size."""
    coding, compress = WAYS[way]
    assert inflated(compress(data), coding) == data


@unhurried
@given(data=st.binary(max_size=200), coding=st.sampled_from(["gzip", "deflate"]), more=st.data())
def test_whatever_is_cut_or_changed_is_read_or_refused(data: bytes, coding: str, more: st.DataObject) -> None:
    """Cut anywhere it is refused; with a byte changed it may be read, where that byte means nothing, but nothing else is raised."""
    whole = {"gzip": gzip.compress, "deflate": zlib.compress}[coding](data)
    end = more.draw(st.integers(0, len(whole) - 1))
    with pytest.raises(InvalidRequest):
        inflated(whole[:end], coding)
    changed = bytearray(whole)
    changed[more.draw(st.integers(0, len(whole) - 1))] ^= more.draw(st.integers(1, 255))
    with suppress(InvalidRequest):
        inflated(bytes(changed), coding)


def inflated(data: bytes, coding: str) -> bytes:
    inflater = Inflater(data, coding)
    pieces = [inflater.read()]
    while not inflater.is_done:
        pieces.append(inflater.read())
    assert max(map(len, pieces)) <= PIECE
    return b"".join(pieces)


@pytest.mark.parametrize(
    ("value", "coding", "is_sole"),
    [
        ("", None, False),
        ("identity", None, False),
        ("br", None, False),
        ("gzip", "gzip", True),
        ("GZIP", "gzip", True),
        ("x-gzip", "gzip", True),
        ("deflate", "deflate", True),
        (" gzip ;q=0.5 ", "gzip", True),
        ("gzip, identity;q=0.5", "gzip", True),
        ("gzip;q=0", None, False),
        ("gzip;q=0.000, deflate", "deflate", True),
        ("gzip, deflate", "gzip", False),
        ("deflate, gzip", "gzip", False),
        ("gzip;q=0.5, deflate", "deflate", False),
        ("gzip, deflate, br, zstd", "gzip", False),
        ("br, gzip;q=0.1", "gzip", False),
        ("*", "gzip", False),
        ("*;q=0", None, False),
        ("gzip;q=0, *", "deflate", False),
        ("identity;q=1, gzip;q=0.5", None, False),
        ("identity, gzip", "gzip", True),
        ("identity;q=0, gzip, deflate", "gzip", True),
        ("*;q=0, deflate, gzip;q=0.5", "deflate", True),
        ("identity;q=0", None, False),
        ("identity;q=0, br", None, False),
        ("gzip;q=2", None, False),
        ("gzip;q=0.1234", None, False),
        ("gzip;level=9", None, False),
        ("gzip;q=1;q=0", None, False),
        (",,;q=1, ,gzip,", "gzip", True),
        ("\u00ff\u0000;;;=", None, False),
    ],
)
def test_accepted_coding_is_the_one_that_is_liked_best(value: str, coding: str | None, is_sole: bool) -> None:
    """By its weight; whether it is sole by what else is named."""
    expected = None if coding is None else Accepted(coding, is_sole)
    assert read_accepted(value.encode("latin-1")) == expected


@unhurried
@given(st.binary(max_size=60))
def test_any_list_of_codings_is_read(value: bytes) -> None:
    """What stands in a header is accepted, or is not; it is no error. A body's codings are read or refused."""
    accepted = read_accepted(value)
    assert accepted is None or accepted.coding in ("gzip", "deflate")
    with suppress(UnsupportedCoding):
        assert set(read_codings(value)) <= {"gzip", "deflate"}
