"""The requests of a connection, as its bytes come in and within limits.

The parser is llhttp by way of httptools, which calls the methods `on_…`. What can grow is bounded here: the head, the body and
its framing, the time for each. A request whose head is whole is the connection's, which decides when its turn comes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import httptools

from maas.api.errors import HeadersTooLarge, TargetTooLong
from maas.edge.cycle import Cycle
from maas.edge.edge import NEVER, Edge
from maas.edge.head import WATCHED, Head, Headers, asked_of, decode_path, read_framing, size_of, split_target
from maas.errors import InvalidRequest, MaasError, TooLarge

if TYPE_CHECKING:
    from maas.edge.connection import Connection

IDLE, HEAD, BODY = range(3)  # what of a request is being read


class _Deaf(Exception):
    """Ends the parser's work on bytes that nobody will read."""


class Reader:
    """`phase` is what of a request is being read, `incoming` the request whose body that is."""

    def __init__(self, edge: Edge, connection: Connection) -> None:
        self.phase = IDLE
        self.incoming: Cycle | None = None
        self._edge = edge
        self._connection = connection
        self._parser = httptools.HttpRequestParser(self)
        self._single: Cycle | None = None  # with which the current read began
        self._is_fresh = True  # the current read began with a request
        self._read = 0  # bytes of the current read
        self._received = 0  # bytes of the head, then of the body with its framing, in reads that are done
        self._body_since = 0.0
        self._url = b""
        self._headers: Headers = []
        self._watched: Headers = []

    def read(self, data: bytes) -> None:
        """Whatever these bytes begin or complete, the connection is told."""
        if self.phase == IDLE and (known := self._edge.heads.find(data)) is not None:
            self._connection.accept_known(*known)
            return
        self._single = None
        self._read = len(data)
        self._is_fresh = self.phase == IDLE
        skipped = self._parse(data)
        if skipped is not None:
            self._decline_upgrade(data[skipped:])
        elif self.phase != IDLE:
            self._received += self._read
            self._check_size()
        elif self._single is not None and self._single.is_fast and self._single.keep_alive:
            self._edge.heads.remember(self._single.head, data)

    def _parse(self, data: bytes) -> int | None:
        """Where the parser left off because the request asked for an upgrade; None where it did not."""
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as stop:
            offset: int = stop.args[0]
            return offset
        except httptools.HttpParserError as problem:
            self._stop(problem)
        return None

    def close(self) -> None:
        """The connection is lost."""
        self.incoming = None
        self._parser = self._connection = None  # type: ignore[assignment]  # which hold us

    def head_so_far(self) -> tuple[str, Headers]:
        """Path and headers of the request that is being read, while it has no cycle yet; as far as they can be told."""
        if self.phase != HEAD:
            return "", []
        try:
            return decode_path(split_target(self._url)[0]), self._headers
        except InvalidRequest:
            return "", self._headers

    def await_body(self) -> None:
        """The client is expected to send it from now on."""
        self._received = -self._read
        self._body_since = self._edge.now
        self._connection.deadline = self._edge.now + self._edge.body_span

    def body_due(self) -> float:
        """When the body must have come further, by the pace that is asked of it."""
        rate = self._edge.options.body_min_rate
        return self._body_since + self._edge.body_span + max(self._received, 0) / rate

    # ── the parser ───────────────────────────────────────────────────────────────────────────────────────────

    def on_message_begin(self) -> None:
        if self._connection.is_deaf:
            raise _Deaf
        if self.phase == BODY:
            return  # the body of a request whose upgrade was declined goes on
        self.phase = HEAD
        self._connection.deadline = self._edge.now + self._edge.header_span
        self._received = 0 if self._is_fresh else -self._read
        self._url = b""
        self._headers = []
        self._watched = []

    def on_url(self, url: bytes) -> None:
        self._url += url
        if len(self._url) > self._edge.options.url_bytes:
            raise TargetTooLong(
                f"the target has over {self._edge.options.url_bytes} bytes, which is the limit"
            )

    def on_header(self, name: bytes, value: bytes) -> None:
        if self.phase != HEAD:
            return  # trailers are read and dropped: nothing may add to the headers once they were judged
        name = name.lower()
        if name in WATCHED:
            self._watched.append((name, value))
        self._headers.append((name, value))
        if len(self._headers) > self._edge.header_count:
            raise HeadersTooLarge(f"the request has over {self._edge.header_count} headers")

    def on_headers_complete(self) -> None:
        if self.phase == BODY:
            return
        if self._read + max(self._received, 0) > self._edge.options.header_bytes:
            # What was read so far may be more than the head.
            self._check_head(size_of(self._url, self._headers))
        version = self._parser.get_http_version()
        framing = read_framing(version, self._watched)
        target = self._edge.targets.find(self._url)
        path = decode_path(split_target(self._url)[0]) if target is None else target.path
        if self._edge.callers is not None:
            self._edge.callers.check(self._watched)
        if framing.length and framing.length > self._edge.body_bytes:
            raise TooLarge(f"the body has {framing.length} bytes; the limit is {self._edge.body_bytes}")
        self._connection.check_line()
        method = self._parser.get_method().decode("ascii")
        asked = None if target is None else asked_of(self._headers)
        head = Head(method, version, self._url, path, self._headers, framing, target, asked)
        is_fast = self._edge.lane.takes(head)
        keep_alive = version == "1.1" and self._parser.should_keep_alive()
        connection = self._connection
        cycle = Cycle(connection, head, connection.late, is_fast, keep_alive, framing.length)
        cycle.waits_for_continue = framing.expects_continue
        self._single = cycle if self._is_fresh else None
        self.incoming = cycle
        self.phase = BODY
        self.await_body()
        connection.accept(cycle)

    def on_body(self, body: bytes) -> None:
        if self.incoming is not None:
            self.incoming.add(body)
            self._connection.body_has_grown(self.incoming)

    def on_message_complete(self) -> None:
        cycle = self.incoming
        if self._parser.should_upgrade() and cycle is not None and cycle.remaining != 0:
            return  # llhttp skips the body of an upgrade; here it is still to come
        self.incoming = None
        self.phase = IDLE
        self._is_fresh = False
        self._received = 0
        self._connection.deadline = NEVER
        if cycle is not None:
            cycle.end_body()
            self._connection.body_is_whole(cycle)

    # ── what is no request ───────────────────────────────────────────────────────────────────────────────────

    def _check_head(self, size: int) -> None:
        most = self._edge.options.header_bytes
        if size > most:
            raise HeadersTooLarge(f"the request's head has {size} bytes; the limit is {most}")

    def _check_size(self) -> None:
        """Of what is not whole yet. A body of known length was judged by that; in chunks their framing counts too."""
        try:
            if self.phase == HEAD:
                self._check_head(self._received)
            elif self.incoming is not None and self.incoming.remaining is None:
                self._check_chunks()
        except MaasError as error:
            self._connection.end(error)

    def _check_chunks(self) -> None:
        most = self._edge.body_bytes
        if self._received > most:
            raise TooLarge(f"the body has over {most} bytes in its chunks, which is the limit")

    def _stop(self, problem: httptools.HttpParserError) -> None:
        """The parser has stopped: by one of our own errors, or because what came is no HTTP."""
        connection, cause = self._connection, problem.__context__
        if connection.is_deaf or isinstance(cause, _Deaf):
            return
        if isinstance(cause, MaasError):
            connection.end(cause)
            return
        if cause is not None:
            connection.logger.error("the edge met a bug", exc_info=cause)
        connection.end(InvalidRequest(f"the request cannot be read: {problem}"))

    def _decline_upgrade(self, rest: bytes) -> None:
        """Upgrades are ignored, as RFC 9110 permits. llhttp has skipped the body of the request, so another parser,
        which is told how that is framed but nothing of an upgrade, goes on where it stopped."""
        cycle = self.incoming
        if cycle is not None:
            framing = b"transfer-encoding: chunked" if cycle.remaining is None else b"content-length: %d"
            framing = framing % cycle.remaining if cycle.remaining is not None else framing
            self._parser = httptools.HttpRequestParser(self)
            self._parser.feed_data(b"POST / HTTP/1.1\r\n%b\r\n\r\n" % framing)
        if rest:
            self.read(rest)
