"""Logs: one JSON object a line, whatever is put in, and never at the caller's cost."""

from __future__ import annotations

import io
import json
import logging
import threading
import time

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st
from tests.api.harness import recorded_logs

from maas.telemetry import logs
from maas.telemetry.logs import LogWriter, logging_to, set_level, write_soon

INJECTIONS = {
    "new lines": 'a\r\n{"event": "forged"}\n',
    "other line ends": "a\x0b\x0c\x1c\x85\u2028\u2029b",
    "terminal": "\x1b[31mred\x1b[0m\x1b]0;title\x07\x9b2J",
    "NUL": "a\x00b",
    "quotes": '"}, {"event": "forged',
    "backslashes": "\\\\\\",
    "lone surrogate": "\ud800",
    "right to left": "\u202eevil",
    "a megabyte": "x" * (1 << 20),
}


class Numbered:
    """A line that is no event."""

    def __init__(self, number: int) -> None:
        self.number = number

    def render(self, at: float) -> str:
        return f'{{"event": "line", "number": {self.number}}}'


@pytest.mark.parametrize("case", INJECTIONS)
def test_injected_text_stays_in_its_value(case: str) -> None:
    """Line ends, terminal codes and quotes are escaped: one line of plain ASCII that parses to what was put in, cut."""
    text = INJECTIONS[case]
    stream = io.StringIO()
    with logging_to(stream):
        structlog.get_logger().warning("request_failed", error=text, **{text[:40]: 1})
    lines = stream.getvalue().split("\n")
    assert len(lines) == 2
    assert lines[1] == ""
    assert lines[0].isascii()
    assert lines[0].isprintable()
    found = json.loads(lines[0])
    assert found["event"] == "request_failed"
    assert found["error"] == (text if len(text) <= 256 else text[:255] + "…")


def test_long_values_are_cut_at_256_characters() -> None:
    """A value, within a list or mapping too, has at most 256 characters; a trace may have 16 KiB."""
    long = "x" * 100_000
    with recorded_logs() as lines:
        log = structlog.get_logger()
        log.info(
            "e" * 1000,
            plain=long,
            listed=[long, 1],
            mapped={"a": (long,)},
            odd=io.BytesIO,
            data=b"y" * 1000,
            trace=long,
        )
    (line,) = lines
    assert line["plain"] == "x" * 255 + "…"
    assert line["listed"] == ["x" * 255 + "…", 1]
    assert line["mapped"] == {"a": ["x" * 255 + "…"]}
    assert len(line["event"]) == len(line["data"]) == 256
    assert len(line["trace"]) == 16 << 10
    assert "BytesIO" in line["odd"]


@given(
    st.dictionaries(
        st.text(max_size=6),
        st.recursive(st.text() | st.binary() | st.floats() | st.none(), st.lists),
        max_size=4,
    )
)
def test_any_value_makes_one_line(values: dict[str, object]) -> None:
    """Whatever is logged, there is one line, and it is JSON."""
    stream = io.StringIO()
    writer = LogWriter(stream)
    writer.start()
    writer.put({"event": "e", **values})
    writer.stop()
    (line,) = stream.getvalue().splitlines()
    assert isinstance(json.loads(line), dict)


def test_value_that_cannot_be_shown_does_not_end_the_log() -> None:
    """An event that cannot be rendered is named as such, and those behind it are written."""

    class Unspeakable:
        def __repr__(self) -> str:
            raise RuntimeError("no")

    class Broken(Numbered):
        def render(self, at: float) -> str:
            raise RuntimeError("no")

    itself: list[object] = []
    itself.append(itself)
    with recorded_logs() as lines:
        log = structlog.get_logger()
        log.info("first", value=Unspeakable())
        log.info("second", value=itself)
        write_soon(Broken(1))
        log.info("third")
    assert [(line["event"], line.get("problem")) for line in lines] == [
        ("first", "RuntimeError"),
        ("second", "RecursionError"),
        ("line", "RuntimeError"),
        ("third", None),
    ]


def test_exceptions_are_logged_with_their_trace() -> None:
    """`exc_info` becomes the text of the trace, in one value."""
    with recorded_logs() as lines:
        try:
            {}["missing"]
        except KeyError as error:
            structlog.get_logger().error("bug", exc_info=error)
    assert "KeyError: 'missing'" in lines[0]["exception"]
    assert lines[0]["level"] == "error"


def test_lines_below_the_level_are_not_written() -> None:
    """`logging.level` is the least level that is written."""
    with recorded_logs("warning") as lines:
        log = structlog.get_logger()
        log.debug("a")
        log.info("b")
        log.warning("c")
        log.error("d")
    assert [line["event"] for line in lines] == ["c", "d"]


def test_libraries_join_with_their_warnings() -> None:
    """Warnings and traces of the standard library's loggers are lines like ours; their chatter is left out."""
    with recorded_logs("debug") as lines:
        library = logging.getLogger("some.library")
        library.info("chatter")
        library.warning("odd %s", "thing\n")
        try:
            raise OSError("gone")
        except OSError:
            library.exception("failed")
    assert [(line["event"], line["level"], line["logger"]) for line in lines] == [
        ("odd thing\n", "warning", "some.library"),
        ("failed", "error", "some.library"),
    ]
    assert "OSError: gone" in lines[1]["trace"]


def test_clients_of_grpc_that_leave_are_no_news() -> None:
    """gRPC says an error, with its trace, of each that leaves while it is answered; what else it says is written."""
    with recorded_logs() as lines:
        log = logging.getLogger("grpc._cython.cygrpc")
        log.error(
            "ExecuteBatchError raised in core by servicer method [/inference.GRPCInferenceService/ModelInfer]"
        )
        log.error(
            "Unexpected [ValueError] raised by servicer method [/inference.GRPCInferenceService/ModelInfer]"
        )
    assert [line["event"].split()[0] for line in lines] == ["Unexpected"]


def test_configuration_is_undone_at_the_end() -> None:
    """After the block, the root logger is as it was and structlog has its defaults."""
    root = logging.getLogger()
    before = root.level, list(root.handlers)
    with recorded_logs():
        assert len(root.handlers) == len(before[1]) + 1
    assert (root.level, list(root.handlers)) == before
    assert not structlog.is_configured()


def test_lines_and_events_are_written_in_their_order() -> None:
    """A line that is written soon stands before the event that came after it."""
    with recorded_logs() as lines:
        log = structlog.get_logger()
        for number in range(0, 600, 2):
            write_soon(Numbered(number))
            log.info("event", number=number + 1)
    assert [line["number"] for line in lines] == list(range(600))


def test_line_is_written_without_an_event_behind_it() -> None:
    """What is written soon is there a moment later, though nothing follows."""
    stream = io.StringIO()
    with logging_to(stream):
        write_soon(Numbered(1))
        deadline = time.monotonic() + 10
        while not stream.getvalue() and time.monotonic() < deadline:
            time.sleep(0.001)
        assert json.loads(stream.getvalue()) == {"event": "line", "number": 1}


def test_lines_are_of_level_info() -> None:
    """Where the least level is above `info`, now or from now on, lines are not written."""
    with recorded_logs("warning") as lines:
        write_soon(Numbered(1))
        set_level("info")
        write_soon(Numbered(2))
        set_level("error")
        write_soon(Numbered(3))
    assert [line["number"] for line in lines] == [2]


def test_line_without_a_log_goes_nowhere() -> None:
    """Outside of `logging_to`, where a library may call, nothing is written and nothing breaks."""
    with recorded_logs() as lines:
        pass
    write_soon(Numbered(1))
    assert lines == []


class BlockedStream(io.StringIO):
    """A terminal that nobody reads, until it is released."""

    def __init__(self) -> None:
        super().__init__()
        self.reached = threading.Event()
        self.released = threading.Event()

    def write(self, text: str) -> int:
        self.reached.set()
        self.released.wait(30)
        return super().write(text)


@pytest.mark.parametrize("kind", ["events", "lines"])
def test_blocked_stream_does_not_block_the_caller(monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    """While the stream blocks, all that comes is queued up to the limit, then dropped at once, and its number is logged."""
    monkeypatch.setattr(logs, "_QUEUE_SIZE", 100)
    stream = BlockedStream()
    writer = LogWriter(stream)
    writer.start()
    writer.put({"event": "first"})
    assert stream.reached.wait(10)
    started = time.monotonic()
    for number in range(1000):
        if kind == "events":
            writer.put({"event": "line", "number": number})
        else:
            writer.put_line(Numbered(number))
    assert time.monotonic() - started < 1
    stream.released.set()
    writer.stop()
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert [line["event"] for line in lines] == ["first", *["line"] * 100, "log_events_dropped"]
    assert (lines[-1]["count"], lines[-1]["level"]) == (900, "warning")
    assert [line["number"] for line in lines[1:-1]] == list(range(100))


def test_blocked_stream_does_not_hold_up_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stopping waits a bounded time for a stream that blocks, though the queue is full."""
    monkeypatch.setattr(logs, "_QUEUE_SIZE", 1)
    monkeypatch.setattr(logs, "_STOP_SECONDS", 0.05)
    stream = BlockedStream()
    writer = LogWriter(stream)
    writer.start()
    writer.put({"event": "first"})
    assert stream.reached.wait(10)
    writer.put({"event": "second"})
    stopping = threading.Thread(target=writer.stop, daemon=True)
    stopping.start()
    stopping.join(10)
    is_stuck = stopping.is_alive()
    stream.released.set()
    monkeypatch.setattr(logs, "_STOP_SECONDS", 10)
    writer.stop()
    assert not is_stuck
    assert not writer._thread.is_alive()


@pytest.mark.parametrize(
    "error", [BrokenPipeError(), ValueError("I/O operation on closed file"), OSError(28, "full")]
)
def test_stream_that_fails_is_outlived(error: Exception) -> None:
    """A closed terminal or a full disk costs the lines, not the service: when it can be written again, it is."""

    tried = threading.Event()

    class Failing(io.StringIO):
        def write(self, text: str) -> int:
            if "first" in text:
                tried.set()
                raise error
            return super().write(text)

    stream = Failing()
    with logging_to(stream):
        structlog.get_logger().info("first")
        assert tried.wait(10)
        structlog.get_logger().info("second")
    assert json.loads(stream.getvalue())["event"] == "second"
