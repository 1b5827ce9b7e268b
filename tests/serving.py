"""A real server on a free port of 127.0.0.1, in a thread."""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import httpx
from sanic import Sanic

from llmengine.chat.warm_file import WarmFile
from llmengine.config import Config, LoggingConfig, ServerConfig
from llmengine.core import Host
from llmengine.server import run
from llmengine.server.app import create_app

# Sanic rewrites its own methods when it starts; only in this mode it can do so again.
Sanic.test_mode = True


def config(**server: Any) -> Config:
    return Config(server=ServerConfig(**{"drain_seconds": 5, **server}), logging=LoggingConfig())


@contextlib.contextmanager
def serving(
    host: Host, settings: Config | None = None, warm: Sequence[WarmFile] = ()
) -> Iterator[httpx.Client]:
    """A client of a server for `host`, which is closed with it."""
    settings = settings or config()
    app = create_app(host, settings, warm)
    listener = run.bind("127.0.0.1", 0)
    port = listener.getsockname()[1]
    loops: list[asyncio.AbstractEventLoop] = []
    stops: list[asyncio.Event] = []
    ready = threading.Event()

    async def main() -> None:
        loops.append(asyncio.get_running_loop())
        stops.append(asyncio.Event())
        drain = settings.server.drain_seconds
        await run.serve(app, host, listener, stops[0], drain_seconds=drain, ready=ready.set)

    thread = threading.Thread(target=run.run, args=(main(),), name="server")
    thread.start()
    assert ready.wait(10)
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=20) as client:
            yield client
    finally:
        loops[0].call_soon_threadsafe(stops[0].set)
        thread.join(20)
        assert not thread.is_alive()


def eventually(condition: Callable[[], object], seconds: float = 5.0) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.005)
    return False


def events(text: str) -> list[Any]:
    """The data of a stream's events; JSON decoded, `[DONE]` as it is."""
    assert text.endswith("\n\n")
    found = []
    for event in text[:-2].split("\n\n"):
        assert event.startswith("data: "), event
        data = event.removeprefix("data: ")
        assert "\n" not in data
        found.append(data if data == "[DONE]" else json.loads(data))
    return found
