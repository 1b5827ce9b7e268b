"""What the engine costs in a process of its own, paired with the same one in this process.

    python -m benchmarks.host [--rounds 6] [--streams 16] [--tokens 200] [--model FILE] [--json]

Both engines serve the same requests in turns, each first in every other round: streams at once, for
the throughput, and single requests of one token, for the time to it.
"""

from __future__ import annotations

import argparse
import queue
import statistics
import time
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from benchmarks.report import report, right
from llmengine.bench.report import Spread
from llmengine.cli.table import Column
from llmengine.config import Config
from llmengine.core import Host, Request
from llmengine.engine.engine import Engine
from llmengine.host.process_host import ProcessHost
from llmengine.sampling import SamplingParams

EMBEDDED = Path(__file__).parent.parent / "models" / "tiny-chat.gguf"
SINGLES = 20  # requests of one token in a round


class Row(Struct, frozen=True):
    what: str
    here: Spread
    apart: Spread
    difference: Spread  # of pairs: a share for the throughput, else seconds


def config(model: Path, streams: int) -> Config:
    options = {
        "model": {"model_path": str(model), "context_size": 16_384},
        "server": {"max_concurrent_requests": streams},
        "cache": {"enabled": False},
    }
    return msgspec.convert(options, Config)


def throughput(host: Host, streams: int, tokens: int) -> float:
    """Tokens per second of streams that run together."""
    params = SamplingParams(temperature=0.8, seed=1, ignore_eos=True, max_tokens=tokens)
    outputs: queue.SimpleQueue[Any] = queue.SimpleQueue()
    started = time.perf_counter()
    for number in range(streams):
        prompt = tuple(range(10 + number, 42 + number))
        host.submit(Request(id=str(number), prompt=prompt, params=params), outputs.put)
    left = streams
    while left:
        left -= sum(each.finish_reason is not None for each in outputs.get())
    return streams * tokens / (time.perf_counter() - started)


def first_token(host: Host) -> float:
    """Seconds, the median of single requests."""
    params, found = SamplingParams(temperature=0, max_tokens=1), []
    for number in range(SINGLES):
        outputs: queue.SimpleQueue[Any] = queue.SimpleQueue()
        prompt = tuple(range(10 + number, 42 + number))
        started = time.perf_counter()
        host.submit(Request(id=str(number), prompt=prompt, params=params), outputs.put)
        while not any(each.finish_reason for each in outputs.get()):
            pass
        found.append(time.perf_counter() - started)
    return statistics.median(found)


def measure(here: Host, apart: Host, *, rounds: int, streams: int, tokens: int) -> list[Row]:
    rates: list[tuple[float, float]] = []
    firsts: list[tuple[float, float]] = []
    for number in range(-1, rounds):  # the first warms up
        rate, first = {}, {}
        for host in (here, apart) if number % 2 else (apart, here):
            rate[host], first[host] = throughput(host, streams, tokens), first_token(host)
        if number >= 0:
            rates.append((rate[here], rate[apart]))
            firsts.append((first[here], first[apart]))
    return [
        _row("throughput, tok/s", rates, [one / two - 1 for two, one in rates]),
        _row("time to first token, s", firsts, [one - two for two, one in firsts]),
    ]


def _row(what: str, pairs: list[tuple[float, float]], differences: list[float]) -> Row:
    here, apart = zip(*pairs, strict=True)
    return Row(what, Spread.of(here), Spread.of(apart), Spread.of(differences))


COLUMNS = [
    Column("", lambda row: row.what),
    right("in process", lambda row: row.here.worded(1, 4)),
    right("apart", lambda row: row.apart.worded(1, 4)),
    right("difference", lambda row: row.difference.worded(1, 4)),
]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--streams", type=int, default=16)
    parser.add_argument("--tokens", type=int, default=200)
    parser.add_argument("--model", type=Path, default=EMBEDDED)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    settings = config(given.model, given.streams)
    with Engine(settings) as here, ProcessHost(settings) as apart:
        rows = measure(here, apart, rounds=given.rounds, streams=given.streams, tokens=given.tokens)
    report(rows, COLUMNS, as_json=given.json)


if __name__ == "__main__":
    main()
