"""Whether anything breaks or leaks when clients send what no client should.

    python -m benchmarks.fuzz [--requests 10000] [--clients 24] [--seed 0] [--model FILE] [--json]

The requests go to a real server on raw sockets. A canary streams the same answer all the while:
it must never be cut, wrong or refused. At the end nothing may run or wait, and what the process
holds (connections, files, tasks, slots, cells, memory) must be what it was when it began.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import json
import os
import random
import socket
import struct
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import msgspec
from msgspec import Struct

from benchmarks.fuzz_requests import Attack, attack
from benchmarks.mixed_load import EMBEDDED, Served, served, settle
from benchmarks.report import report, right
from benchmarks.soak import MEBIBYTE, resident
from llmengine.cli.table import number
from llmengine.config import Config
from llmengine.engine.engine import Engine

GROWTH = 64  # MiB of memory that 10,000 requests may cost: caches that fill, and fragments
PAUSE = 0.02  # seconds between the pieces of a slow sender


class Row(Struct, frozen=True):
    kind: str
    requests: int
    answered: dict[str, int]  # by status; "none" where the connection ended without one


BODY = {"prompt": "Once upon a time", "max_tokens": 64, "temperature": 0, "stream": True}


class Canary:
    """One client that behaves, and counts what it gets."""

    def __init__(self, url: str) -> None:
        self.answers = 0
        self.longest = 0.0  # seconds between two events
        self.failures: list[str] = []
        self._url = url
        self._text: str | None = None
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="canary")

    def __enter__(self) -> Canary:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _run(self) -> None:
        with httpx.Client(base_url=self._url, timeout=120) as client:
            while not self._ended.is_set():
                try:
                    self._stream(client)
                except (AssertionError, httpx.HTTPError, LookupError, ValueError) as error:
                    self.failures.append(f"the canary: {type(error).__name__}: {error}")

    def _stream(self, client: httpx.Client) -> None:
        text, last = "", time.monotonic()
        with client.stream("POST", "/v1/completions", json=BODY) as response:
            assert response.status_code == 200, response.read()
            for line in response.iter_lines():
                now = time.monotonic()
                self.longest, last = max(self.longest, now - last), now
                data = line.removeprefix("data: ")
                if data.startswith("{"):
                    text += json.loads(data)["choices"][0]["text"]
        assert data == "" or line == "", line
        if self._text is None:
            self._text = text
        assert text == self._text, f"{text!r} is not {self._text!r}"
        self.answers += 1


class Fuzz:
    """Attacks on a server at `url`, numbered: each follows from the seed and its number."""

    def __init__(self, url: str, *, clients: int, seed: int = 0) -> None:
        self.failures: list[str] = []
        self.answered: dict[str, Counter[str]] = {}
        self._seed = seed
        self._clients = clients
        self._lock = threading.Lock()
        parts = urlsplit(url)
        self._at = (parts.hostname or "", parts.port or 80)

    def run(self, numbers: range) -> None:
        with ThreadPoolExecutor(self._clients, thread_name_prefix="attacker") as pool:
            for _ in pool.map(self._one, numbers):
                pass

    def _one(self, at: int) -> None:
        found = attack(random.Random(self._seed * 1_000_003 + at))
        try:
            answer = self._send(found)
        except OSError as error:
            answer = b""
            if isinstance(error, ConnectionRefusedError):
                self.failures.append(f"attack {at}, {found.kind}: the server is gone")
        status = answer[9:12].decode("latin-1") if answer.startswith(b"HTTP/1.1 ") else ""
        if answer and not status:
            self.failures.append(f"attack {at}, {found.kind}: no HTTP: {answer[:80]!r}")
        if status == "500":
            self.failures.append(f"attack {at}, {found.kind}: {answer[-200:]!r}")
        with self._lock:
            self.answered.setdefault(found.kind, Counter())[status or "none"] += 1

    def _send(self, attack: Attack) -> bytes:
        with contextlib.ExitStack() as stack:
            for _ in range(attack.connections - 1):
                stack.enter_context(socket.create_connection(self._at, 10))
            stream = stack.enter_context(socket.create_connection(self._at, 10))
            size = max(1, -(-len(attack.data) // attack.pieces))
            for start in range(0, len(attack.data), size):
                stream.sendall(attack.data[start : start + size])
                if attack.pieces > 1:
                    time.sleep(PAUSE)
            if attack.half_closed:
                stream.shutdown(socket.SHUT_WR)
            answer = _received(stream, attack.patience)
            if attack.aborted:
                linger = struct.pack("ii", 1, 0)  # closing resets the connection
                stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            return answer

    @property
    def rows(self) -> list[Row]:
        return [
            Row(kind, found.total(), dict(sorted(found.items())))
            for kind, found in sorted(self.answered.items())
        ]


def _received(stream: socket.socket, seconds: float) -> bytes:
    """What comes until the connection ends, or no longer comes."""
    found, end = b"", time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        stream.settimeout(left)
        try:
            chunk = stream.recv(65536)
        except TimeoutError:
            break
        if not chunk:
            break
        found += chunk
    return found


class Held(Struct, frozen=True):
    """What the process holds."""

    files: Counter[str]
    tasks: int

    @staticmethod
    def by(server: Served) -> Held:
        return Held(Counter(_files()), server.tasks())

    def beyond(self, other: Held) -> list[str]:
        """What is more than there."""
        found = [f"{count} {name}" for name, count in (self.files - other.files).items()]
        more = self.tasks - other.tasks
        return [*found, f"{more} tasks"] if more > 0 else found


def _files() -> Iterator[str]:
    """What each open descriptor is of."""
    for each in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):
            name = os.readlink(each).partition(":")[0]
            if "cache.db" not in name:  # SQLite has some for each thread that asks it
                yield name


def returned(server: Served, before: Held, seconds: float = 90.0) -> Held:
    """What is held as soon as it is no more than before, or when connections have timed out."""
    end = time.monotonic() + seconds
    while (after := Held.by(server)).beyond(before) and time.monotonic() < end:
        time.sleep(0.1)
    return after


@contextlib.contextmanager
def attacked(url: str, *, clients: int, seed: int) -> Iterator[tuple[Fuzz, Canary]]:
    fuzz = Fuzz(url, clients=clients, seed=seed)
    with Canary(url) as canary:
        yield fuzz, canary
    fuzz.failures += canary.failures


COLUMNS = [
    right("kind", lambda row: row.kind),
    right("requests", lambda row: number(row.requests)),
    right("answers", lambda row: ", ".join(f"{k}: {v}" for k, v in row.answered.items())),
]


def _config(arguments: argparse.Namespace, folder: str) -> Config:
    options = {
        "model": {"model_path": str(arguments.model), "context_size": 8192},
        "performance": {"threads": arguments.threads, "deterministic": True},
        "cache": {"disk": False, "max_size_mb": 16},
        "server": {"responses_path": folder, "responses_max_size_mb": 1},
        "logging": {"log_requests": False},
    }
    return msgspec.convert(options, Config)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--clients", type=int, default=24)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--model", type=Path, default=EMBEDDED)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    first = arguments.requests // 4
    with (
        tempfile.TemporaryDirectory() as folder,
        Engine(config := _config(arguments, folder)) as engine,
        served(engine, config) as server,
    ):
        with attacked(server.url, clients=arguments.clients, seed=arguments.seed) as (warm, _):
            warm.run(range(first))
        before = returned(server, Held(Counter(), 1), 5.0)
        gc.collect()
        memory = resident()
        started = time.monotonic()
        with attacked(server.url, clients=arguments.clients, seed=arguments.seed) as (fuzz, canary):
            fuzz.answered, fuzz.failures = warm.answered, warm.failures
            fuzz.run(range(first, arguments.requests))
        seconds = time.monotonic() - started
        after = returned(server, before)
        gc.collect()
        grown = (resident() - memory) / MEBIBYTE
        settle(engine)
    report(fuzz.rows, COLUMNS, as_json=arguments.json)
    if not arguments.json:
        print(f"{arguments.requests - first} of them in {seconds:.0f} s; memory {grown:+.1f} MiB")
        print(f"canary: {canary.answers} answers, longest gap {canary.longest:.2f} s")
    if more := after.beyond(before):
        fuzz.failures.append(f"the process holds {', '.join(more)} more than before")
    if grown > GROWTH:
        fuzz.failures.append(f"the memory grew by {grown:.0f} MiB")
    if fuzz.failures:
        raise SystemExit("\n".join(fuzz.failures[:20]))


if __name__ == "__main__":
    main()
