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
from patience import PATIENCE
from sanic import Sanic

from llmengine.chat.warm_file import WarmFile
from llmengine.config import Config, LoggingConfig, ServerConfig
from llmengine.core import Host
from llmengine.errors import EngineError
from llmengine.loading import Loading
from llmengine.server import run
from llmengine.server.app import create_app

# Sanic rewrites its own methods when it starts; only in this mode it can do so again.
Sanic.test_mode = True


def config(**server: Any) -> Config:
    return Config(server=ServerConfig(**{"drain_seconds": 5, **server}), logging=LoggingConfig())


class Server:
    """A server on a thread of its own; `open_host` gives it its host, `stop` ends it."""

    def __init__(
        self,
        open_host: Callable[[Loading], Host],
        settings: Config | None = None,
        warm: Sequence[WarmFile] = (),
    ) -> None:
        self.ready = threading.Event()
        self.error: BaseException | None = None
        app = create_app(settings or config())
        listener = run.bind("127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None
        started = threading.Event()

        async def main() -> None:
            self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
            started.set()
            try:
                await run.serve(
                    app, open_host, listener, self._stop, warm=warm,
                    ready=lambda _: self.ready.set(),
                )  # fmt: skip
            except EngineError as error:
                self.error = error
            finally:
                listener.close()

        # A test that fails leaves it behind, and must not hang for it.
        self._thread = threading.Thread(target=run.run, args=(main(),), name="server", daemon=True)
        self._thread.start()
        assert started.wait(PATIENCE)

    def client(self) -> httpx.Client:
        return httpx.Client(base_url=self.url, timeout=PATIENCE)

    def tell_to_stop(self) -> None:
        assert self._loop is not None
        assert self._stop is not None
        self._loop.call_soon_threadsafe(self._stop.set)

    def join(self) -> None:
        self._thread.join(PATIENCE)
        assert not self._thread.is_alive()


@contextlib.contextmanager
def serving(
    host: Host, settings: Config | None = None, warm: Sequence[WarmFile] = ()
) -> Iterator[httpx.Client]:
    """A client of a server for `host`, which is closed with it."""
    server = Server(lambda _: host, settings, warm)
    assert server.ready.wait(PATIENCE)
    try:
        with server.client() as client:
            yield client
    finally:
        server.tell_to_stop()
        server.join()


def eventually(condition: Callable[[], object], seconds: float = PATIENCE) -> bool:
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
