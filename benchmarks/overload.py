"""Whether a server keeps its order when twice as much is asked as it can do.

    python -m benchmarks.overload [--minutes 15] [--slots 8] [--queue 32] [--load 2] [--json]
                                  [--model FILE] [-- FLAGS OF SERVE ...]

A server of its own is asked first by as many clients as it has slots, for its capacity; then
requests of all kinds arrive by chance, `--load` times as many, whether those before were answered
or not. Each is answered with its own marker, or refused with 429 or 503 and a Retry-After. In the
end the server's counters have to agree with what the clients saw, and its memory, files and
threads to be what they were.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import random
import re
import subprocess
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx
import msgspec
import numpy as np
import psutil
from msgspec import Struct
from prometheus_client.parser import text_string_to_metric_families

from benchmarks.mixed_requests import KINDS, Marker

EMBEDDED = Path(__file__).parent.parent / "models" / "tiny-chat.gguf"
MEBIBYTE = 2**20
REFUSED = (429, 503)
GONE = 499  # how the server counts clients that went away
PROBES = ("/health", "/metrics")
CAPACITY_SECONDS = 20.0
SAMPLE_SECONDS = 5.0
PATIENCE = 120.0  # seconds until a client gives up: nobody should wait as long


class Refused(Exception):
    """The server had too much to do."""


class Sample(Struct, frozen=True):
    """What a server takes, its engine's process included."""

    memory: int  # bytes
    files: int
    threads: int

    @staticmethod
    def of(server: psutil.Process) -> Sample:
        family = [server, *server.children(recursive=True)]
        return Sample(
            sum(each.memory_info().rss for each in family),
            sum(each.num_fds() for each in family),
            sum(each.num_threads() for each in family),
        )


class Result(Struct, frozen=True, kw_only=True):
    seconds: float
    capacity: float  # requests per second
    asked: int
    answered: int
    refused: int
    failures: list[str]
    median: float  # seconds of the answered ones
    p99: float
    refusal_p99: float  # seconds until a client knew that it was refused
    first: Sample  # once all is in use
    last: Sample
    peak_memory: int

    @property
    def complete(self) -> bool:
        """Whether each request was answered or refused."""
        return not self.failures and self.asked == self.answered + self.refused


class Load:
    """Requests of all kinds, and how they went."""

    def __init__(self, url: str, seed: int = 0) -> None:
        self.asked = 0
        self.answers: list[float] = []  # seconds
        self.refusals: list[float] = []
        self.failures: list[str] = []
        self.statuses: Counter[int] = Counter()
        self._url = url
        self._random = random.Random(seed)
        self._numbers = itertools.count(10_000)

    @contextlib.asynccontextmanager
    async def _client(self) -> AsyncIterator[httpx.AsyncClient]:
        limits = httpx.Limits(max_connections=None)
        hooks = {"response": [self._look]}
        async with httpx.AsyncClient(
            base_url=self._url, timeout=PATIENCE, limits=limits, event_hooks=hooks
        ) as client:
            yield client

    async def _look(self, response: httpx.Response) -> None:
        self.statuses[response.status_code] += 1
        if response.status_code in REFUSED:
            await response.aread()
            assert int(response.headers["retry-after"]) >= 1
            raise Refused

    async def closed(self, clients: int, seconds: float) -> float:
        """Clients that ask again when they have an answer; requests per second."""
        end = time.monotonic() + seconds

        async def one(client: httpx.AsyncClient) -> None:
            while time.monotonic() < end:
                await self._ask(client)

        started, before = time.monotonic(), len(self.answers)
        async with self._client() as client:
            await asyncio.gather(*(one(client) for _ in range(clients)))
        return (len(self.answers) - before) / (time.monotonic() - started)

    async def open(self, rate: float, seconds: float) -> None:
        """Arrivals by chance, `rate` per second on average."""
        end = time.monotonic() + seconds
        async with self._client() as client:
            arrival, asking = time.monotonic(), []
            while arrival < end:
                await asyncio.sleep(arrival - time.monotonic())
                asking.append(asyncio.create_task(self._ask(client)))
                arrival += self._random.expovariate(rate)
            await asyncio.gather(*asking)

    async def _ask(self, client: httpx.AsyncClient) -> None:
        name = self._random.choice(list(KINDS))
        marker = Marker(self._random, next(self._numbers))
        self.asked += 1
        started = time.monotonic()
        try:
            await KINDS[name](client, marker)
        except Refused:
            self.refusals.append(time.monotonic() - started)
        except (AssertionError, httpx.HTTPError, LookupError, ValueError) as error:
            self.failures.append(f"{name} {marker.word}: {type(error).__name__}: {error}")
        else:
            self.answers.append(time.monotonic() - started)


@contextlib.contextmanager
def served(model: Path, flags: Sequence[str]) -> Iterator[tuple[psutil.Process, str]]:
    """The process of `llmengine serve`, and its URL."""
    with TemporaryDirectory() as folder:
        settings = (f"cache.path={folder}/states", f"server.responses_path={folder}/responses")
        command = [
            *(sys.executable, "-m", "llmengine", "serve", "-m", str(model), "--port", "0"),
            *(part for each in settings for part in ("--set", each)),
            *("--set", "logging.log_requests=false", "--set", "cache.max_size_mb=64", *flags),
        ]
        server = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        assert server.stderr is not None
        try:
            lines = []
            for line in server.stderr:
                lines.append(line)
                if found := re.search(r"serves .* at (http://\S+)/v1", line):
                    break
            else:
                raise SystemExit("".join(lines))
            yield psutil.Process(server.pid), found[1]
        finally:
            server.terminate()
            server.communicate()


class Books(Struct, frozen=True):
    """What a server counted."""

    statuses: Counter[int]  # of HTTP requests, those of probes left out
    taken: int  # by the engine
    finished: int  # by it, for any reason

    @staticmethod
    def of(url: str) -> Books:
        text = httpx.get(f"{url}/metrics").text
        samples = [each for found in text_string_to_metric_families(text) for each in found.samples]
        statuses: Counter[int] = Counter()
        totals: Counter[str] = Counter()
        for each in samples:
            totals[each.name] += int(each.value)
            asked = each.name == "llmengine_http_requests_total"
            if asked and each.labels["endpoint"] not in PROBES:
                statuses[int(each.labels["status"])] += int(each.value)
        return Books(
            statuses, totals["llmengine_requests_total"], totals["llmengine_finished_total"]
        )


def check(url: str, load: Load) -> None:
    """Raise AssertionError unless nothing runs any more and the books are balanced."""
    end = time.monotonic() + 60
    while (health := httpx.get(f"{url}/health").json())["running"] or health["waiting"]:
        assert time.monotonic() < end, f"requests run for ever: {health}"
        time.sleep(0.1)
    books = Books.of(url)
    counted, seen = Counter(books.statuses), load.statuses
    counted[200] += counted.pop(GONE, 0)  # who leaves in the middle of an answer has seen a 200
    assert counted == seen, f"the server counted {counted}, its clients {seen}"
    assert books.taken == books.finished, books


async def watched(load: Load, server: psutil.Process, rate: float, seconds: float) -> list[Sample]:
    """What the server takes while `load` arrives."""
    samples = []
    arriving = asyncio.create_task(load.open(rate, seconds))
    while not arriving.done():
        samples.append(Sample.of(server))
        await asyncio.wait((arriving,), timeout=SAMPLE_SECONDS)
    await arriving
    return samples


def measure(server: psutil.Process, url: str, slots: int, times: float, seconds: float) -> Result:
    load = Load(url)
    capacity = asyncio.run(load.closed(slots, min(CAPACITY_SECONDS, seconds)))
    alone = len(load.answers)
    started = time.monotonic()
    samples = asyncio.run(watched(load, server, capacity * times, seconds))
    took = time.monotonic() - started
    check(url, load)
    answers = load.answers[alone:]
    return Result(
        seconds=took,
        capacity=capacity,
        asked=load.asked,
        answered=len(load.answers),
        refused=len(load.refusals),
        failures=load.failures,
        median=float(np.median(answers)),
        p99=float(np.percentile(answers, 99)),
        refusal_p99=float(np.percentile(load.refusals or [0.0], 99)),
        first=samples[len(samples) // 4],
        last=Sample.of(server),
        peak_memory=max(each.memory for each in samples),
    )


def told(result: Result) -> str:
    first, last = result.first, result.last
    return "\n".join(
        (
            f"capacity           {result.capacity:.1f} requests/s",
            f"asked              {result.asked:,} in {result.seconds:.0f} s and before",
            f"answered           {result.answered:,}; {result.median:.2f} s (median), "
            f"{result.p99:.2f} s (p99)",
            f"refused            {result.refused:,}; within {result.refusal_p99:.2f} s (p99)",
            f"failed             {len(result.failures)}",
            f"memory             {first.memory / MEBIBYTE:.0f} MiB after a quarter, "
            f"{last.memory / MEBIBYTE:.0f} in the end, {result.peak_memory / MEBIBYTE:.0f} at most",
            f"files, threads     {first.files}, {first.threads} after a quarter; "
            f"{last.files}, {last.threads} in the end",
        )
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--minutes", type=float, default=15)
    parser.add_argument("--slots", type=int, default=8)
    parser.add_argument("--queue", type=int, default=32)
    parser.add_argument("--load", type=float, default=2)
    parser.add_argument("--model", type=Path, default=EMBEDDED)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("flags", nargs="*", help="more flags of `llmengine serve`")
    arguments = parser.parse_args()
    flags = ["--slots", str(arguments.slots), "--set", f"server.max_queue={arguments.queue}"]
    with served(arguments.model, [*flags, *arguments.flags]) as (server, url):
        result = measure(server, url, arguments.slots, arguments.load, arguments.minutes * 60)
    print(msgspec.json.encode(result).decode() if arguments.json else told(result))
    if result.failures:
        raise SystemExit("\n".join(result.failures[:20]))


if __name__ == "__main__":
    main()
