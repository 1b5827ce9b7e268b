"""Whether anything is lost or mixed up when requests of all kinds come at once.

    python -m benchmarks.mixed_load [--seconds 120] [--clients 32] [--model FILE] [--json]

Each client sends one request after the other, of a kind drawn by chance. Each request has a
marker that its answer has to repeat, and that no other answer may have. At the end nothing may
run or wait, and every cell of the KV cache has to be accounted for.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import random
import statistics
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import msgspec
from msgspec import Struct

from benchmarks.mixed_requests import KINDS, Marker
from benchmarks.report import report, right
from benchmarks.soak import MEBIBYTE, resident
from llmengine.cli.table import number
from llmengine.config import Config
from llmengine.core import Host
from llmengine.engine.engine import Engine
from llmengine.server import run
from llmengine.server.app import create_app

EMBEDDED = Path(__file__).parent.parent / "models" / "tiny-chat.gguf"


class Row(Struct, frozen=True):
    kind: str
    requests: int
    failed: int
    median: float  # seconds
    slowest: float


class MixedLoad:
    """Clients of a server at `url`, and how their requests went."""

    def __init__(self, url: str, clients: int, *, seed: int = 0) -> None:
        self.failures: list[str] = []
        self.seconds: dict[str, list[float]] = {name: [] for name in KINDS}
        self._url = url
        self._clients = clients
        self._random = random.Random(seed)
        self._numbers = itertools.count(10_000)

    async def run(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        limits = httpx.Limits(max_connections=None)
        async with httpx.AsyncClient(base_url=self._url, timeout=120, limits=limits) as client:
            await asyncio.gather(*(self._client(client, end) for _ in range(self._clients)))

    async def _client(self, client: httpx.AsyncClient, end: float) -> None:
        while time.monotonic() < end:
            name = self._random.choice(list(KINDS))
            marker = Marker(self._random, next(self._numbers))
            started = time.monotonic()
            try:
                await KINDS[name](client, marker)
            except (AssertionError, httpx.HTTPError, LookupError, ValueError) as error:
                self.failures.append(f"{name} {marker.word}: {type(error).__name__}: {error}")
            self.seconds[name].append(time.monotonic() - started)

    @property
    def rows(self) -> list[Row]:
        return [
            Row(
                name,
                len(times),
                sum(each.startswith(f"{name} ") for each in self.failures),
                statistics.median(times),
                max(times),
            )
            for name, times in self.seconds.items()
            if times
        ]


def settle(engine: Engine, seconds: float = 10.0) -> None:
    """Wait for the last requests; raises AssertionError if one, a slot or a cell is lost."""
    end = time.monotonic() + seconds
    while (stats := engine.stats()).running or stats.waiting:
        assert time.monotonic() < end, f"{stats.running} still run, {stats.waiting} wait"
        time.sleep(0.02)
    assert engine.drain(seconds), "a request had no last output"
    engine._slots.check()
    for slot in engine._slots:
        assert slot.owner is None, f"slot {slot.id} has an owner"


class Served:
    """A server in a thread of this process."""

    def __init__(self, url: str, loop: asyncio.AbstractEventLoop) -> None:
        self.url = url
        self._loop = loop

    def tasks(self) -> int:
        """How many run on its loop."""

        async def count() -> int:
            return len(asyncio.all_tasks()) - 1

        return asyncio.run_coroutine_threadsafe(count(), self._loop).result()


@contextlib.contextmanager
def served(engine: Host, config: Config) -> Iterator[Served]:
    """The engine is left open where it is not closed by the end of the server."""
    listener = run.bind("127.0.0.1", 0)
    app = create_app(config)
    ready, loops, stops = threading.Event(), [], []

    async def main() -> None:
        loops.append(asyncio.get_running_loop())
        stops.append(asyncio.Event())
        await run.serve(app, lambda _: engine, listener, stops[0], ready=lambda _: ready.set())

    thread = threading.Thread(target=run.run, args=(main(),), daemon=True)
    thread.start()
    ready.wait()
    try:
        yield Served(f"http://127.0.0.1:{listener.getsockname()[1]}", loops[0])
    finally:
        loops[0].call_soon_threadsafe(stops[0].set)
        thread.join()


COLUMNS = [
    right("kind", lambda row: row.kind),
    right("requests", lambda row: number(row.requests)),
    right("failed", lambda row: row.failed),
    right("median, s", lambda row: f"{row.median:.2f}"),
    right("slowest, s", lambda row: f"{row.slowest:.2f}"),
]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seconds", type=float, default=120)
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--model", type=Path, default=EMBEDDED)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    options = {
        "model": {"model_path": str(arguments.model), "context_size": 8192},
        "performance": {"threads": arguments.threads},
        "cache": {"disk": False, "max_size_mb": 64},
    }
    config = msgspec.convert(options, Config)
    with Engine(config) as engine, served(engine, config) as server:
        load = MixedLoad(server.url, arguments.clients)
        asyncio.run(load.run(arguments.seconds / 4))
        before = resident()
        asyncio.run(load.run(arguments.seconds * 3 / 4))
        after = resident()
        settle(engine)
    report(load.rows, COLUMNS, as_json=arguments.json)
    if not arguments.json:
        print(
            f"memory: {before / MEBIBYTE:.0f} MiB after a quarter, {after / MEBIBYTE:.0f} at last"
        )
    if load.failures:
        raise SystemExit("\n".join(load.failures[:20]))


if __name__ == "__main__":
    main()
