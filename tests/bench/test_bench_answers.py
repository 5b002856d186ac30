"""Reading answers: their status and their end, however the bytes come."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maas.bench.answers import AnswerScanner

PLAIN = b"HTTP/1.1 200 OK\r\nContent-Type: x\r\nContent-Length: 5\r\n\r\nhello"
EMPTY = b"HTTP/1.1 204 No Content\r\nContent-Length: 7\r\n\r\n"
ZERO = b"HTTP/1.1 503 Service Unavailable\r\ncontent-length:0\r\n\r\n"
CONTINUED = b"HTTP/1.1 100 Continue\r\n\r\n" + PLAIN
CHUNKED = (
    b"HTTP/1.1 404 Not Found\r\ntransfer-encoding: chunked\r\n\r\n"
    b"5;note=1\r\nhe\r\no\r\nA\r\n0123456789\r\n0\r\nTrailer: x\r\n\r\n"
)
ANSWERS = [(PLAIN, 200), (EMPTY, 204), (ZERO, 503), (CONTINUED, 200), (CHUNKED, 404)]


@given(st.lists(st.sampled_from(ANSWERS), min_size=1, max_size=4), st.data())
def test_answers_end_where_they_end_however_they_are_cut(
    answers: list[tuple[bytes, int]], data: st.DataObject
) -> None:
    """Each of several answers is complete with its last byte and not before, whatever the pieces."""
    scanner = AnswerScanner()
    for content, status in answers:
        cuts = sorted(data.draw(st.sets(st.integers(1, len(content) - 1), max_size=8)))
        pieces = [content[a:b] for a, b in zip([0, *cuts], [*cuts, len(content)], strict=True)]
        assert [scanner.feed(piece) for piece in pieces] == [0] * len(cuts) + [status]
        assert scanner.keeps_alive


def test_an_answer_without_a_length_ends_with_its_connection() -> None:
    """Bytes up to the end are its body, and nothing can follow it."""
    scanner = AnswerScanner()
    assert scanner.feed(b"HTTP/1.1 200 OK\r\n\r\nsome") == 0
    assert scanner.feed(b" more") == 0
    assert scanner.end() == 200
    assert not scanner.keeps_alive


def test_a_connection_that_ends_within_an_answer_completes_none() -> None:
    """A body that is shorter than it was said to be is no answer."""
    scanner = AnswerScanner()
    assert scanner.feed(PLAIN[:-1]) == 0
    assert scanner.end() == 0


@pytest.mark.parametrize(
    ("head", "keeps"),
    [
        (b"HTTP/1.1 200 OK", True),
        (b"HTTP/1.1 200 OK\r\nConnection: Close", False),
        (b"HTTP/1.0 200 OK", False),
        (b"HTTP/1.0 200 OK\r\nconnection: keep-alive", True),
    ],
)
def test_whether_a_connection_stays_is_what_the_answer_says(head: bytes, keeps: bool) -> None:
    """By `Connection`, else by the version of the protocol."""
    scanner = AnswerScanner()
    assert scanner.feed(head + b"\r\nContent-Length: 0\r\n\r\n") == 200
    assert scanner.keeps_alive is keeps


@pytest.mark.parametrize(
    "content",
    [
        b"SSH-2.0-OpenSSH_9.6\r\n\r\n",
        b"HTTP/1.1 abc\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"x" * 70_000,
        PLAIN + b"!",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nnine\r\n",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n-5\r\n",
    ],
)
def test_what_is_no_answer_is_refused(content: bytes) -> None:
    """Another protocol, a head without end, bytes nobody asked for, a chunk without a size."""
    with pytest.raises(ValueError):  # noqa: PT011 - the words differ
        AnswerScanner().feed(content)
