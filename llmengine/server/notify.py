"""What systemd is told of the server, as by its `sd_notify`."""

from __future__ import annotations

import asyncio
import logging
import os
import socket

log = logging.getLogger("llmengine.server")


class Notifier:
    """Sends to the socket that systemd names in the environment; without one, nothing."""

    def __init__(self) -> None:
        # Taken out: it is not for the processes that this one starts.
        path = os.environ.pop("NOTIFY_SOCKET", "")
        self._path = "\0" + path[1:] if path.startswith("@") else path
        meant = os.environ.pop("WATCHDOG_PID", "") in ("", str(os.getpid()))
        usec = os.environ.pop("WATCHDOG_USEC", "")
        self._watchdog = int(usec) / 1e6 if meant and usec.isdecimal() else 0.0  # seconds

    def tell(self, *, seconds: float = 1.0, **state: str) -> None:
        """Send `NAME=value` lines, as READY="1"; wait so long where nobody reads them."""
        if not self._path:
            return
        message = "\n".join(f"{name}={value}" for name, value in state.items())
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
                sender.settimeout(seconds)
                sender.sendto(message.encode(), self._path)
        except OSError as error:  # the service goes on, whoever listens
            log.warning("the service manager could not be told %s: %s", message, error)

    async def keep_alive(self) -> None:
        """Say twice as often as asked for that the event loop runs; for ever."""
        while self._path and self._watchdog:
            self.tell(seconds=0, WATCHDOG="1")  # the loop must not wait, and another one follows
            await asyncio.sleep(self._watchdog / 2)
