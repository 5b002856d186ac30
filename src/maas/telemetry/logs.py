"""Structured logs: one JSON object a line on standard error, written by a thread of their own.

The loop only puts an event into a bounded queue; rendering and writing, which a slow terminal or disk can hold up,
happen elsewhere. When the queue is full, events are dropped and their number is logged.

What may come with every request takes a shorter way (`write_soon`): no processors, a line that knows how it reads, and no
thread that is woken for it alone.
"""

from __future__ import annotations

import logging
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping, MutableMapping
from contextlib import contextmanager, suppress
from typing import Any, Protocol, TextIO

import structlog

_QUEUE_SIZE = 10_000  # events
_MAX_TEXT = 256  # characters of a value; a traceback may be longer
_MAX_TRACE = 16 << 10
_STOP_SECONDS = 2.0
_WRITTEN_AT_ONCE = 256  # events
_GATHERING_SECONDS = 0.01  # that a line waits for others

Event = MutableMapping[str, Any]


class Line(Protocol):
    """An event of level `info` that is put into words when it is written."""

    def render(self, at: float) -> str:
        """One JSON object, in plain ASCII without line ends; `at` is its timestamp (seconds since the epoch)."""
        ...


_Dated = tuple[Line, float]


class LogWriter:
    """Takes events from structlog's loggers, on any thread, and writes them on its own. Lines are those of level `least`,
    for events have been judged by then."""

    def __init__(self, stream: TextIO) -> None:
        self.least = logging.INFO
        self._stream = stream
        self._queue: deque[Event | _Dated] = deque()
        self._dropped = 0
        self._render = structlog.processors.JSONRenderer(ensure_ascii=True)
        self._has_news = threading.Event()
        self._is_urgent = threading.Event()
        self._is_ending = False
        self._thread = threading.Thread(target=self._run, name="maas-logs", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Write what is queued, for at most some seconds."""
        self._is_ending = True
        self._wake()
        self._thread.join(_STOP_SECONDS)

    def put(self, event: Event) -> None:
        """To be written now."""
        self._add(event)
        self._wake()

    def put_line(self, line: Line) -> None:
        """To be written soon, with others: waking the thread costs more than the line, and takes the interpreter away."""
        self._add((line, time.time()))
        if not self._has_news.is_set():
            self._has_news.set()

    def _add(self, event: Event | _Dated) -> None:
        if len(self._queue) < _QUEUE_SIZE:
            self._queue.append(event)
        else:
            self._dropped += 1

    def _wake(self) -> None:
        self._is_urgent.set()
        self._has_news.set()

    def _run(self) -> None:
        is_ending = False
        while not is_ending:
            self._has_news.wait()
            self._is_urgent.wait(_GATHERING_SECONDS)
            self._is_urgent.clear()
            self._has_news.clear()  # before the queue is looked at: what comes from now on says so again
            is_ending = self._is_ending
            while self._queue or self._dropped:
                self._write(list(self._take_lines()))

    def _take_lines(self) -> Iterator[str]:
        """What is queued, up to a limit: a write for each line would cost more than the rest."""
        for _ in range(min(len(self._queue), _WRITTEN_AT_ONCE)):
            yield self._to_line(self._queue.popleft())
        if self._dropped and not self._queue:
            dropped, self._dropped = self._dropped, 0
            yield self._to_line({"event": "log_events_dropped", "level": "warning", "count": dropped})

    def _write(self, lines: list[str]) -> None:
        with suppress(OSError, ValueError):  # nobody reads the log any more; the service goes on
            self._stream.write("".join(f"{line}\n" for line in lines))
            self._stream.flush()

    def _to_line(self, event: Event | _Dated) -> str:
        """JSON; of an event with a value that cannot be shown, which must not end the log, its name and the problem."""
        try:
            if isinstance(event, tuple):
                line, at = event
                return line.render(at)
            shown = {_clip("", key): _clip(key, value) for key, value in event.items()}
            return str(self._render(None, "", shown))
        except Exception as error:
            name = _clip("", str(event.get("event")) if isinstance(event, MutableMapping) else "line")
            return str(
                self._render(None, "", {"event": name, "level": "error", "problem": type(error).__name__})
            )


class _QueueLogger:
    """structlog's last link: whatever the level's method, the event goes to the writer."""

    def __init__(self, writer: LogWriter) -> None:
        self._writer = writer

    def _put(self, **event: Any) -> None:
        self._writer.put(event)

    debug = info = warning = error = critical = exception = msg = _put


# What gRPC says, as an error and with a trace, of every client that leaves while it is answered.
_NO_NEWS = "ExecuteBatchError raised in core"


class _Forward(logging.Handler):
    """Lines of libraries (uvicorn, asyncio) and Python's warnings join ours."""

    def __init__(self, writer: LogWriter) -> None:
        super().__init__()
        self._writer = writer

    def emit(self, record: logging.LogRecord) -> None:
        if str(record.msg).startswith(_NO_NEWS):
            return
        event: Event = {
            "event": record.getMessage(),
            "level": record.levelname.lower(),
            "logger": record.name,
            "timestamp": record.created,
        }
        if record.exc_info:
            event["trace"] = logging.Formatter().formatException(record.exc_info)
        self._writer.put(event)


_writers: list[LogWriter] = []  # the last is the one that structlog's loggers write to


@contextmanager
def logging_to(stream: TextIO = sys.stderr, level: str = "info") -> Iterator[None]:
    """Configure structlog and the standard library's root logger to write JSON lines of `level` and up to `stream`."""
    writer = LogWriter(stream)
    _writers.append(writer)
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(utc=True, fmt=None),
            structlog.processors.format_exc_info,
        ],
        logger_factory=lambda *_: _QueueLogger(writer),
        cache_logger_on_first_use=False,
    )
    root = logging.getLogger()
    handler = _Forward(writer)
    previous = root.level
    root.addHandler(handler)
    set_level(level)
    logging.captureWarnings(True)
    writer.start()
    try:
        yield
    finally:
        logging.captureWarnings(False)
        root.removeHandler(handler)
        root.setLevel(previous)
        structlog.reset_defaults()
        _writers.remove(writer)
        writer.stop()


def set_level(level: str) -> None:
    """The least level that is written from now on; of libraries' lines, no less than warnings."""
    least = logging.getLevelNamesMapping()[level.upper()]
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(least))
    logging.getLogger().setLevel(max(least, logging.WARNING))
    for writer in _writers:
        writer.least = least


def write_soon(line: Line) -> None:
    """Have the line in the log, if its level is, where there is one: in its order, a moment later than an event would be."""
    if _writers and (writer := _writers[-1]).least <= logging.INFO:
        writer.put_line(line)


def _clip(key: str, value: Any) -> Any:
    """Values that came from outside are cut; JSON's own escapes do the rest against injected lines."""
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, Mapping):
        return {_clip("", str(name)): _clip("", part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [_clip("", part) for part in value]
    value = value if isinstance(value, str) else repr(value)
    limit = _MAX_TRACE if key in ("trace", "exception") else _MAX_TEXT
    return value if len(value) <= limit else value[: limit - 1] + "…"
