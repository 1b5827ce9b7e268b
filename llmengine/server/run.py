"""Binding, serving until told to stop, and stopping without cutting answers off."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from sanic.server import HttpProtocol

from llmengine.chat.warm_file import WarmFile
from llmengine.core import Host
from llmengine.errors import ConfigError, EngineError
from llmengine.loading import Loading
from llmengine.loop import new as new_loop
from llmengine.server import tls
from llmengine.server.app import App
from llmengine.server.batch_work import work_on_batches
from llmengine.server.lifecycle import Lifecycle
from llmengine.server.notify import Notifier
from llmengine.server.state import State
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
    loop = new_loop()
    asyncio.set_event_loop(loop)
    try:
        loop.run_until_complete(main)
        loop.run_until_complete(loop.shutdown_asyncgens())
    finally:
        asyncio.set_event_loop(None)
        loop.close()


async def serve(
    app: App,
    open_host: Callable[[Loading], Host],
    listener: socket.socket,
    stop: asyncio.Event,
    *,
    warm: Sequence[WarmFile] = (),
    ready: Callable[[State], None] = lambda _: None,
) -> None:
    """Serve on `listener` until `stop` is set, from the time before the model is there.

    `open_host` loads it, on another thread, and `ready` hears of it; then the prompts of `warm` are
    computed. In the end, what runs may finish; what still runs after `server.drain_seconds` is
    cancelled: its clients get an error, not silence. Raises what `open_host` does.
    """
    lifecycle: Lifecycle = app.ctx.lifecycle
    server: Any = await app.create_server(
        sock=listener,
        protocol=HttpProtocol,
        backlog=BACKLOG,
        ssl=tls.context(lifecycle.config.server),
    )
    await server.startup()
    await server.start_serving()
    notifier = Notifier()
    notifier.tell(STATUS="loading the model")
    alive = asyncio.create_task(notifier.keep_alive())
    try:
        lifecycle.state = state = await _load(lifecycle, open_host, stop, warm)
        if state:
            notifier.tell(READY="1", STATUS=f"serving {state.model}")
            ready(state)
            chores = [
                asyncio.create_task(warm_all(state)),
                asyncio.create_task(work_on_batches(app, state)),
            ]
            await stop.wait()
            for chore in chores:
                chore.cancel()
            await asyncio.wait(chores)
            lifecycle.draining = True
            notifier.tell(STOPPING="1", STATUS="finishing what runs")
            await _drain(state.host, lifecycle.config.server.drain_seconds)
    finally:
        alive.cancel()
        server.close()
        await _close_connections(server)
        if lifecycle.state:
            lifecycle.state.close()


async def _load(
    lifecycle: Lifecycle,
    open_host: Callable[[Loading], Host],
    stop: asyncio.Event,
    warm: Sequence[WarmFile],
) -> State | None:
    """Load the model; None if it was told to stop before that was done."""

    def load() -> State:
        host = open_host(lifecycle.loading)
        try:
            return State(host, lifecycle.config, warm)
        except BaseException:
            host.close()
            raise

    loading = asyncio.get_running_loop().run_in_executor(None, load)
    stopping = asyncio.create_task(stop.wait())
    await asyncio.wait((loading, stopping), return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    if stop.is_set():
        lifecycle.loading.stop()
    try:
        return await loading
    except EngineError:
        if stop.is_set():
            return None
        raise


async def _drain(host: Host, seconds: float) -> None:
    loop = asyncio.get_running_loop()
    if not await loop.run_in_executor(None, host.drain, seconds):
        _logger.warning("requests still ran after %g s and were cancelled", seconds)
    await loop.run_in_executor(None, host.close)


async def _close_connections(server: Any) -> None:
    """Close each connection when its answer is sent, and at last whatever the answer."""
    end = asyncio.get_running_loop().time() + FLUSH_SECONDS
    while server.connections and asyncio.get_running_loop().time() < end:
        for connection in list(server.connections):
            connection.close_if_idle()
        await asyncio.sleep(0.02)
    for connection in list(server.connections):
        connection.abort()
