"""Structured logs: one JSON object a line on standard error, written by a thread of their own.

The loop only puts an event into a bounded queue; rendering and writing, which a slow terminal or disk can hold up,
happen elsewhere. When the queue is full, events are dropped and their number is logged.
"""

from __future__ import annotations

import logging
import queue
import sys
import threading
import time
from collections.abc import Iterator, Mapping, MutableMapping
from contextlib import contextmanager, suppress
from typing import Any, TextIO

import structlog

_QUEUE_SIZE = 10_000  # events
_MAX_TEXT = 256  # characters of a value; a traceback may be longer
_MAX_TRACE = 16 << 10
_STOP_SECONDS = 2.0
_WRITTEN_AT_ONCE = 256  # events

Event = MutableMapping[str, Any]


class LogWriter:
    """Takes events from structlog's loggers, on any thread, and writes them on its own."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._events: queue.Queue[Event | None] = queue.Queue(_QUEUE_SIZE)
        self._dropped = 0
        self._render = structlog.processors.JSONRenderer(ensure_ascii=True)
        self._thread = threading.Thread(target=self._run, name="maas-logs", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Write what is queued, for at most some seconds."""
        deadline = time.monotonic() + _STOP_SECONDS
        with suppress(queue.Full):
            self._events.put(None, timeout=_STOP_SECONDS)
        self._thread.join(max(0.0, deadline - time.monotonic()))

    def put(self, event: Event) -> None:
        try:
            self._events.put_nowait(event)
        except queue.Full:
            self._dropped += 1

    def _run(self) -> None:
        is_ending = False
        while not is_ending:
            lines = []
            for event in self._queued():
                if event is None:
                    is_ending = True
                    break
                lines.append(self._to_line(event))
            if self._dropped and (is_ending or self._events.empty()):
                dropped, self._dropped = self._dropped, 0
                lines.append(
                    self._to_line({"event": "log_events_dropped", "level": "warning", "count": dropped})
                )
            self._write(lines)

    def _queued(self) -> Iterator[Event | None]:
        """The next event, when it comes, and what is queued behind it: a write for each would cost more than the rest."""
        yield self._events.get()
        with suppress(queue.Empty):
            for _ in range(_WRITTEN_AT_ONCE):
                yield self._events.get_nowait()

    def _write(self, lines: list[str]) -> None:
        with suppress(OSError, ValueError):  # nobody reads the log any more; the service goes on
            self._stream.write("".join(f"{line}\n" for line in lines))
            self._stream.flush()

    def _to_line(self, event: Event) -> str:
        """JSON; of an event with a value that cannot be shown, which must not end the log, its name and the problem."""
        try:
            shown = {_clip("", key): _clip(key, value) for key, value in event.items()}
            return str(self._render(None, "", shown))
        except Exception as error:
            name = _clip("", str(event.get("event")))
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


class _Forward(logging.Handler):
    """Lines of libraries (uvicorn, asyncio) and Python's warnings join ours."""

    def __init__(self, writer: LogWriter) -> None:
        super().__init__()
        self._writer = writer

    def emit(self, record: logging.LogRecord) -> None:
        event: Event = {
            "event": record.getMessage(),
            "level": record.levelname.lower(),
            "logger": record.name,
            "timestamp": record.created,
        }
        if record.exc_info:
            event["trace"] = logging.Formatter().formatException(record.exc_info)
        self._writer.put(event)


@contextmanager
def logging_to(stream: TextIO = sys.stderr, level: str = "info") -> Iterator[None]:
    """Configure structlog and the standard library's root logger to write JSON lines of `level` and up to `stream`."""
    writer = LogWriter(stream)
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
        writer.stop()


def set_level(level: str) -> None:
    """The least level that is written from now on; of libraries' lines, no less than warnings."""
    least = logging.getLevelNamesMapping()[level.upper()]
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(least))
    logging.getLogger().setLevel(max(least, logging.WARNING))


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
