"""A stderr that nobody has to wait for."""

from __future__ import annotations

import contextlib
import io
import os
import sys
import threading
from collections.abc import Iterator
from queue import Full, Queue
from typing import TextIO, cast

MAX_WRITES = 10_000  # that wait for a reader; what comes then is lost
LAST_SECONDS = 1.0  # that the reader gets at the end


class Unhurried(io.TextIOBase):
    """Takes at once what is written; a thread of its own passes it on to `stream`.

    Whoever reads there may stop for a while, as a terminal does after Ctrl-S, or a log collector
    that is stuck: a server that waited for it would serve nobody.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._queue: Queue[str | None] = Queue(MAX_WRITES)
        self._lost = 0
        self._thread = threading.Thread(target=self._pass_on, name="stderr", daemon=True)
        self._thread.start()

    def isatty(self) -> bool:
        return self._stream.isatty()

    def fileno(self) -> int:
        return self._stream.fileno()

    def write(self, text: str) -> int:
        try:
            self._queue.put_nowait(text)
        except Full:
            self._lost += 1
        return len(text)

    def close(self) -> None:
        """Pass on what is left, if its reader takes it in time; the stream itself stays open."""
        with contextlib.suppress(Full):
            self._queue.put_nowait(None)
        self._thread.join(LAST_SECONDS)

    def _pass_on(self) -> None:
        while (text := self._queue.get()) is not None:
            if self._lost:
                text = f"({self._lost} lines are lost: nobody read them in time)\n{text}"
                self._lost = 0
            data = text.encode(self._stream.encoding, "backslashreplace")
            with contextlib.suppress(OSError):  # its reader is gone
                while data:  # not through the stream: at its end, the interpreter waits for that
                    data = data[os.write(self.fileno(), data) :]


@contextlib.contextmanager
def unhurried() -> Iterator[None]:
    """Let nobody wait for stderr meanwhile."""
    stream = sys.stderr
    sys.stderr = cast(TextIO, own := Unhurried(stream))
    try:
        yield
    finally:
        sys.stderr = stream
        own.close()
