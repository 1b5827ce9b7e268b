"""Whether clients notice that the engine dies, again and again.

    python -m benchmarks.chaos [--streams 32] [--deaths 5] [--tokens 300] [--stop | --ceiling]
                               [--seed 0] [--model FILE] [--json] [-- FLAGS OF SERVE ...]

A server of its own, in the deterministic mode, is asked by all clients at once: greedy, seeded and
with penalties, as streams and whole; half of them have to wait. It is asked the same again, and at
random moments the engine's process is killed by SIGKILL, or with `--stop` halted by SIGSTOP. With
`--ceiling` a second server is asked, whose engine takes more memory than it may so often that it
drops its caches as many times. Every answer has to be what it was, and the longest time is told in
which a stream stood still.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import httpx
import psutil
from msgspec import Struct

from benchmarks import pressure
from benchmarks.report import report, right
from benchmarks.stories import Told, ask_all, bodies, same
from llmengine.cli.table import Column

EMBEDDED = Path(__file__).parent.parent / "models" / "tiny-chat.gguf"
WATCHDOG_SECONDS = 3.0
LONGEST = 300.0  # seconds under pressure


class Row(Struct, frozen=True):
    clients: int
    complete: int
    equal: int
    deaths: int
    drops: int
    longest_gap: float  # seconds
    undisturbed_gap: float


@contextlib.contextmanager
def served(model: Path, *flags: str) -> Iterator[tuple[psutil.Process, str]]:
    """A server's process, and its URL."""
    with TemporaryDirectory() as folder:
        settings = (
            "performance.deterministic=true", f"cache.path={folder}",
            f"worker.watchdog_seconds={WATCHDOG_SECONDS}", "logging.log_requests=false",
        )  # fmt: skip
        command = [sys.executable, "-m", "llmengine", "serve", "-m", str(model), "--port", "0"]
        command += [part for each in settings for part in ("--set", each)]
        # Python's own allocator keeps a mebibyte for each small thing that is left in it.
        variables = {**os.environ, "PYTHONMALLOC": "malloc"}
        process = subprocess.Popen(
            [*command, *flags], stderr=subprocess.PIPE, text=True, env=variables
        )
        try:
            yield psutil.Process(process.pid), _url(process)
        finally:
            process.terminate()
            process.communicate()


def _url(process: subprocess.Popen[str]) -> str:
    assert process.stderr is not None
    lines = []
    for line in process.stderr:
        lines.append(line)
        if found := re.search(r"serves .* at (http://\S+:\d+)/v1", line):
            return found[1]
    raise SystemExit("".join(lines))


async def disturb(
    server: psutil.Process, url: str, deaths: int, number: signal.Signals, chance: random.Random
) -> int:
    """Send the engine's process a signal, once it is there and some time has passed."""
    async with httpx.AsyncClient(base_url=url) as client:
        for _ in range(deaths):
            while (await client.get("/health")).json()["status"] != "ok":
                await asyncio.sleep(0.05)
            await asyncio.sleep(chance.uniform(0.05, 1.0))
            for child in server.children():
                child.send_signal(number)
            while (await client.get("/health")).json()["status"] == "ok":
                await asyncio.sleep(0.05)
    return deaths


async def measure(
    server: psutil.Process, url: str, asked: Sequence[dict[str, Any]], deaths: int,
    number: signal.Signals, chance: random.Random,
) -> tuple[Row, list[str]]:  # fmt: skip
    """How it went, and a line for each answer that is not as it should be."""
    calm = await ask_all(url, asked)
    disturbing = asyncio.create_task(disturb(server, url, deaths, number, chance))
    stormy = await ask_all(url, asked)
    disturbing.cancel()
    async with httpx.AsyncClient(base_url=url) as client:
        restarts = (await client.get("/health")).json()["engine_restarts"]
    return compared(calm, stormy, deaths=restarts)


async def measure_pressed(
    url: str, asked: Sequence[dict[str, Any]], calm: Sequence[Told | Exception], drops: int
) -> tuple[Row, list[str]]:
    """The same under pressure, where all ask again until the caches were dropped so often."""
    pressing = asyncio.create_task(pressure.press(url, drops))
    stormy: list[Told | Exception] = []
    rounds, end = 0, time.monotonic() + LONGEST
    while not rounds or (not pressing.done() and time.monotonic() < end):
        stormy += await ask_all(url, asked)
        rounds += 1
    if not pressing.cancel():
        await pressing  # it may have failed
    found = await pressure.dropped(url)
    row, wrong = compared([*calm] * rounds, stormy, drops=found)
    return row, wrong if found >= drops else [*wrong, f"caches were dropped {found} times only"]


def compared(
    calm: Sequence[Told | Exception], stormy: Sequence[Told | Exception], *,
    deaths: int = 0, drops: int = 0,
) -> tuple[Row, list[str]]:  # fmt: skip
    done = [each for each in stormy if isinstance(each, Told)]
    pairs = list(zip(calm, stormy, strict=True))
    wrong = [
        f"{index}: {one} != {two}" for index, (one, two) in enumerate(pairs) if not same(one, two)
    ]
    row = Row(
        clients=len(stormy),
        complete=len(done),
        equal=len(stormy) - len(wrong),
        deaths=deaths,
        drops=drops,
        longest_gap=max((each.gap for each in done), default=0.0),
        undisturbed_gap=max((each.gap for each in calm if isinstance(each, Told)), default=0.0),
    )
    return row, wrong


COLUMNS = [
    right("clients", lambda row: str(row.clients)),
    right("complete", lambda row: str(row.complete)),
    right("equal", lambda row: str(row.equal)),
    right("deaths", lambda row: str(row.deaths)),
    right("drops", lambda row: str(row.drops)),
    right("longest gap, s", lambda row: f"{row.longest_gap:.2f}"),
    Column("undisturbed, s", lambda row: f"{row.undisturbed_gap:.2f}", right=True),
]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--streams", type=int, default=32)
    parser.add_argument("--deaths", type=int, default=5)
    parser.add_argument("--tokens", type=int, default=300)
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--stop", action="store_true", help="halt the process, do not kill it")
    how.add_argument("--ceiling", action="store_true", help="give it too little memory")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--model", type=Path, default=EMBEDDED)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("flags", nargs="*", help="of the server, behind --")
    given = parser.parse_args()
    number = signal.SIGSTOP if given.stop else signal.SIGKILL
    asked = bodies(given.streams, given.tokens)
    with served(given.model, *given.flags) as (server, url):
        chance = random.Random(given.seed)
        if given.ceiling:
            calm, limits = asyncio.run(pressure.limits(server, url, asked))
        else:
            row, wrong = asyncio.run(measure(server, url, asked, given.deaths, number, chance))
    if given.ceiling:
        with served(given.model, *limits, *given.flags) as (_, url):
            row, wrong = asyncio.run(measure_pressed(url, asked, calm, given.deaths))
    report([row], COLUMNS, as_json=given.json)
    if wrong:
        raise SystemExit("\n".join(wrong))


if __name__ == "__main__":
    main()
