"""What a process writes to its standard output and error, as lines: read from a pipe, bounded, never in its way for long.

a line    ends at `\\n`, `\\r` or the end of all output; it is cut at `_MAX_LINE` bytes, and empty ones are skipped
reading   takes what the pipe holds, at most every `_PAUSE_SECONDS`, so that a flood slows its writer, not the loop
rate      `_LINES_PER_SECOND`; what is over is counted, and the count is told when the second is over
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from dataclasses import dataclass

_PIPE_BYTES = 64 << 10  # what the kernel holds of a pipe
_PAUSE_SECONDS = 0.01
_MAX_LINE = 1024  # bytes
_LINES_PER_SECOND = 100


@dataclass(frozen=True, slots=True)
class PrintedLine:
    """One line that the process `pid` wrote; or none, and how many were dropped."""

    pid: int
    text: str
    dropped: int = 0


OnLine = Callable[[PrintedLine], None]


class StandardOutput:
    """A pipe: `writer` is the descriptor for the process to be; once that has it, `listen` calls `on_line` for each line."""

    def __init__(self, on_line: OnLine) -> None:
        self._on_line = on_line
        self._loop = asyncio.get_running_loop()
        self._reader, self.writer = os.pipe()
        os.set_blocking(self._reader, False)
        self._pid = 0
        self._tail = b""  # of a line whose end has not been read
        self._left = _LINES_PER_SECOND  # in this second
        self._dropped = 0
        self._pause: asyncio.TimerHandle | None = None
        self._second: asyncio.TimerHandle | None = None

    def listen(self, pid: int) -> None:
        """The process `pid` has its end: from now on the pipe ends with the last process that holds it."""
        self._pid = pid
        self._close_writer()
        self._loop.add_reader(self._reader, self._read)

    def close(self) -> None:
        """Tell what is in the pipe, without waiting for more, and close it."""
        self._close_writer()
        if self._reader >= 0:
            self._take()
            self._end()

    def _close_writer(self) -> None:
        if self.writer >= 0:
            os.close(self.writer)
            self.writer = -1

    def _read(self) -> None:
        if self._take():
            self._loop.remove_reader(self._reader)
            self._pause = self._loop.call_later(
                _PAUSE_SECONDS, self._loop.add_reader, self._reader, self._read
            )
        else:
            self._end()

    def _take(self) -> bool:
        """Read what the pipe holds; False where nobody will write any more."""
        try:
            data = os.read(self._reader, _PIPE_BYTES)
        except BlockingIOError:
            return True
        self._split(data)
        return bool(data)

    def _split(self, data: bytes) -> None:
        data = self._tail + data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        *lines, rest = data.split(b"\n", self._left)
        for line in lines:
            self._tell(line)
        over, newline, tail = rest.rpartition(b"\n")
        if newline:
            self._drop(over.count(b"\n") + 1)
        self._tail = tail[:_MAX_LINE]

    def _tell(self, line: bytes) -> None:
        self._left -= 1
        self._start_second()
        if line:
            self._on_line(PrintedLine(self._pid, line[:_MAX_LINE].decode("utf-8", "backslashreplace")))

    def _drop(self, count: int) -> None:
        self._dropped += count
        self._start_second()

    def _start_second(self) -> None:
        if self._second is None:
            self._second = self._loop.call_later(1.0, self._end_second)

    def _end_second(self) -> None:
        self._second = None
        self._left = _LINES_PER_SECOND
        if self._dropped:
            dropped, self._dropped = self._dropped, 0
            self._on_line(PrintedLine(self._pid, "", dropped))

    def _end(self) -> None:
        """Nothing more comes, or is waited for: the last line may have no end."""
        self._loop.remove_reader(self._reader)
        os.close(self._reader)
        self._reader = -1
        if self._tail:
            self._split(b"\n")
        for timer in (self._pause, self._second):
            if timer is not None:
                timer.cancel()
        self._end_second()
