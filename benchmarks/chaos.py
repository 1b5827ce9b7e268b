"""Whether clients notice that the engine dies, again and again.

    python -m benchmarks.chaos [--streams 32] [--deaths 5] [--tokens 300] [--stop] [--seed 0]
                               [--model FILE] [--json] [-- FLAGS OF SERVE ...]

A server of its own, in the deterministic mode, is asked by all clients at once: greedy, seeded and
with penalties, as streams and whole; half of them have to wait. It is asked the same again, and at
random moments the engine's process is killed by SIGKILL, or with `--stop` halted by SIGSTOP. Every
answer has to be what it was, and the longest time is told in which a stream stood still.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import random
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import httpx
import psutil
from msgspec import Struct

from benchmarks.report import report, right
from benchmarks.stories import Told, ask_all, bodies, same
from llmengine.cli.table import Column

EMBEDDED = Path(__file__).parent.parent / "models" / "tiny-chat.gguf"
WATCHDOG_SECONDS = 3.0


class Row(Struct, frozen=True):
    clients: int
    complete: int
    equal: int
    deaths: int
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
        process = subprocess.Popen([*command, *flags], stderr=subprocess.PIPE, text=True)
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
    done = [each for each in stormy if isinstance(each, Told)]
    pairs = list(zip(calm, stormy, strict=True))
    wrong = [
        f"{index}: {one} != {two}" for index, (one, two) in enumerate(pairs) if not same(one, two)
    ]
    async with httpx.AsyncClient(base_url=url) as client:
        restarts = (await client.get("/health")).json()["engine_restarts"]
    row = Row(
        clients=len(asked),
        complete=len(done),
        equal=len(asked) - len(wrong),
        deaths=restarts,
        longest_gap=max((each.gap for each in done), default=0.0),
        undisturbed_gap=max((each.gap for each in calm if isinstance(each, Told)), default=0.0),
    )
    return row, wrong


COLUMNS = [
    right("clients", lambda row: str(row.clients)),
    right("complete", lambda row: str(row.complete)),
    right("equal", lambda row: str(row.equal)),
    right("deaths", lambda row: str(row.deaths)),
    right("longest gap, s", lambda row: f"{row.longest_gap:.2f}"),
    Column("undisturbed, s", lambda row: f"{row.undisturbed_gap:.2f}", right=True),
]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--streams", type=int, default=32)
    parser.add_argument("--deaths", type=int, default=5)
    parser.add_argument("--tokens", type=int, default=300)
    parser.add_argument("--stop", action="store_true", help="halt the process, do not kill it")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--model", type=Path, default=EMBEDDED)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("flags", nargs="*", help="of the server, behind --")
    given = parser.parse_args()
    number = signal.SIGSTOP if given.stop else signal.SIGKILL
    asked = bodies(given.streams, given.tokens)
    with served(given.model, *given.flags) as (server, url):
        chance = random.Random(given.seed)
        row, wrong = asyncio.run(measure(server, url, asked, given.deaths, number, chance))
    report([row], COLUMNS, as_json=given.json)
    if wrong:
        raise SystemExit("\n".join(wrong))


if __name__ == "__main__":
    main()
