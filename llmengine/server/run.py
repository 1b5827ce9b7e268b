"""Binding, serving until told to stop, and stopping without cutting answers off."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import Callable, Coroutine
from typing import Any

from sanic.server import HttpProtocol

from llmengine.core import Host
from llmengine.errors import ConfigError
from llmengine.server.app import App
from llmengine.server.warming import warm_all

BACKLOG = 1024  # connections that wait to be accepted
FLUSH_SECONDS = 5.0  # for the last bytes of answers that are complete

_logger = logging.getLogger("llmengine.server")


def bind(host: str, port: int) -> socket.socket:
    """A listening socket; port 0 takes a free one. Raises ConfigError where it cannot be had."""
    try:
        family, *_, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        with contextlib.ExitStack() as stack:
            listener = stack.enter_context(socket.socket(family, socket.SOCK_STREAM))
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
            listener.listen(BACKLOG)
            stack.pop_all()
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ConfigError(
            f"cannot listen on {host}:{port}: {reason}; --host and --port choose another address"
        ) from error
    listener.setblocking(False)
    return listener


def run(main: Coroutine[Any, Any, None]) -> None:
    """Run `main` on the fastest event loop there is."""
    loop = _new_loop()
    asyncio.set_event_loop(loop)
    try:
        loop.run_until_complete(main)
        loop.run_until_complete(loop.shutdown_asyncgens())
    finally:
        asyncio.set_event_loop(None)
        loop.close()


def _new_loop() -> asyncio.AbstractEventLoop:
    try:
        import uvloop
    except ImportError:  # it has no build for every platform
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()


async def serve(
    app: App,
    host: Host,
    listener: socket.socket,
    stop: asyncio.Event,
    *,
    drain_seconds: float,
    ready: Callable[[], None] = lambda: None,
) -> None:
    """Serve on `listener` until `stop` is set; then let what runs finish and close `host`.

    What still runs after `drain_seconds` is cancelled: its clients get an error, not silence.
    """
    server: Any = await app.create_server(sock=listener, protocol=HttpProtocol, backlog=BACKLOG)
    await server.startup()
    await server.start_serving()
    ready()
    warming = asyncio.create_task(warm_all(app.ctx.state))
    await stop.wait()
    warming.cancel()
    server.close()
    loop = asyncio.get_running_loop()
    if not await loop.run_in_executor(None, host.drain, drain_seconds):
        _logger.warning("requests still ran after %g s and were cancelled", drain_seconds)
    await loop.run_in_executor(None, host.close)
    await _close_connections(server)
    app.ctx.state.close()


async def _close_connections(server: Any) -> None:
    """Close each connection when its answer is sent, and at last whatever the answer."""
    end = asyncio.get_running_loop().time() + FLUSH_SECONDS
    while server.connections and asyncio.get_running_loop().time() < end:
        for connection in list(server.connections):
            connection.close_if_idle()
        await asyncio.sleep(0.02)
    for connection in list(server.connections):
        connection.abort()
