"""The engine's process, as its parent holds it."""

from __future__ import annotations

import logging
import os
import signal
import socket
import subprocess
import sys
import threading
from queue import SimpleQueue

from llmengine.config import Config
from llmengine.host import wire
from llmengine.host.channel import Channel, packed

COMMAND = (sys.executable, "-m", "llmengine.host.worker")
DYING = "Fatal Python error: "  # where each thread stands follows, which tells no reason

log = logging.getLogger("llmengine.host")


class Child:
    """What is sent goes out on a thread of its own: nobody waits for a process that hangs."""

    def __init__(self, config: Config, command: tuple[str, ...] = COMMAND) -> None:
        """Start the process, which loads the model at once."""
        own, its = socket.socketpair()
        with its:
            self._process = subprocess.Popen(
                [*command, str(its.fileno())],
                pass_fds=[its.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                env=_environment(),
            )
        self._channel = Channel[wire.FromEngine](own, wire.FromEngine)
        self._outbox: SimpleQueue[bytes | None] = SimpleQueue()
        self._level: int | None = None  # from which it was told to log
        self.last_words = ""  # the last line that it said past the log, of those with a reason
        self._threads = [
            threading.Thread(target=each, name="engine-process", daemon=True)
            for each in (self._write, self._listen)
        ]
        for thread in self._threads:
            thread.start()
        self.send(packed(wire.Setup(config)))

    @property
    def pid(self) -> int:
        return self._process.pid

    def send(self, data: bytes) -> None:
        """Send what `packed` made; what comes at the same time goes out together."""
        self._outbox.put(data)

    def log_from(self, level: int) -> None:
        """Have it log as this process does, which new settings may have changed."""
        if level != self._level:
            self._level = level
            self.send(packed(wire.LogFrom(level)))

    def receive(self, seconds: float) -> list[wire.FromEngine] | None:
        """What it sent, waiting for it up to `seconds`; None once it is gone."""
        return self._channel.receive(seconds)

    def kill(self) -> None:
        self._process.kill()

    def bury(self) -> str:
        """End what is left of it; how it died, in words."""
        self.kill()
        code = self._process.wait()
        self._outbox.put(None)
        for thread in self._threads:
            thread.join()
        self._channel.close()
        return _how(code)

    def _write(self) -> None:
        ended = False
        while not ended:
            parts = [self._outbox.get()]
            while not self._outbox.empty():
                parts.append(self._outbox.get())
            ended = None in parts
            try:
                self._channel.send(b"".join(filter(None, parts)))
            except OSError:
                return  # it is gone, as whoever receives will see

    def _listen(self) -> None:
        """Keep what it says past the log: the words of an abort."""
        assert self._process.stdout is not None
        dying = False
        with self._process.stdout as lines:
            for line in lines:
                text = line.decode("utf-8", "replace").rstrip()
                dying = dying or text.startswith(DYING)
                self.last_words = self.last_words if dying or not text else text
                log.warning("the engine's process says: %s", text)


def _environment() -> dict[str, str]:
    """It finds the same packages as this process, and none in the working directory besides.

    Its threads share one arena of glibc's allocator: what is free at the end of another's, up to
    64 MB each, `malloc_trim` leaves in the process, and a memory ceiling would count it.
    """
    path = os.pathsep.join(os.path.abspath(each) for each in sys.path)
    own = {"PYTHONPATH": path, "PYTHONSAFEPATH": "1"}
    return {"MALLOC_ARENA_MAX": "1", **os.environ, **own}


def _how(code: int) -> str:
    if code < 0:
        return f"was killed by {signal.Signals(-code).name}"
    return f"ended with exit code {code}"
