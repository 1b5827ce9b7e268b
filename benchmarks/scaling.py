"""How this server's speed goes with its load: a curve, point by point.

    python -m benchmarks.scaling clients|context|cached [--shape qwen2.5-0.5b:q8_0]
                                 [--points N,N,...] [--rounds N] [--json] [--plot FILE.html]

`clients` is how many ask at once, `context` the tokens that come before what is written, `cached`
the share of a prompt, in percent, that another one had in common with it. An empty shape means the
embedded model. The JSON is a report like that of `llmengine bench serve`, for `bench compare`.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import datetime
from pathlib import Path

import msgspec
from msgspec import Struct

from benchmarks import rows
from benchmarks.peer_rows import HALF_B
from benchmarks.report import report, right
from llmengine.bench import plot
from llmengine.bench.machine import machine
from llmengine.bench.own_server import own_server
from llmengine.bench.report import Report, Row, Spread, encode
from llmengine.bench.server import Plan
from llmengine.bench.shaped import shaped
from llmengine.cli.bench_output import say
from llmengine.cli.bench_shape import numbers
from llmengine.cli.table import Column
from llmengine.config import Config

PROMPT = 2000  # tokens, of which a share is cached
SLOTS = 8  # where there are not more clients


class Curve(Struct, frozen=True, kw_only=True):
    """What is asked at each point, and what is told of it."""

    points: tuple[int, ...]
    plan: Callable[[int], Plan]
    cells: Callable[[int], int]  # of the KV cache, by the largest point
    columns: tuple[Column, ...]
    part: str = ""  # of the workload's rows, where it has several
    keeps: bool = True  # whether cells of finished prompts stay


def _clients(clients: int) -> Plan:
    sizes = {"count": max(4, 2 * clients), "input": 205, "output": 48}
    return Plan(clients=(clients,), sizes=sizes)


def _context(tokens: int) -> Plan:
    return Plan(clients=(1,), sizes={"count": 1, "input": tokens, "output": 48})


def _cached(share: int) -> Plan:
    """The first request is there for the others to share its prefix."""
    prefix = PROMPT * share // 100
    sizes = {"count": 4, "prefix": prefix, "input": PROMPT - prefix, "output": 8}
    return Plan(workloads=("shared-prefix",), clients=(1,), sizes=sizes)


def _figure(head: str, name: str, digits: int = 0) -> Column:
    def value(row: Row) -> str | None:
        spread = row.figures.get(name)
        return spread.worded(1, digits) if spread else None

    return right(head, value)


def _decode_speed(row: Row) -> str | None:
    """Tokens per second of one stream."""
    each = row.figures.get("median_tpot_ms")
    if each is None:
        return None
    return Spread(1000 / each.median, 1000 / each.most, 1000 / each.least, each.rounds).worded()


def _share(row: Row) -> str:
    """How much of the prompts was cached."""
    cached, all = row.figures["total_cached_tokens"], row.figures["total_input_tokens"]
    return f"{cached.median / all.median:.1%}" if all.median else ""


TTFT = _figure("median TTFT, ms", "median_ttft_ms")
FAILED = right("failed", lambda row: sum(row.errors.values()))

CURVES = {
    "clients": Curve(
        points=(1, 2, 4, 8, 16, 32),
        plan=_clients,
        cells=lambda most: 512 * max(SLOTS, most),
        columns=(
            _figure("tok/s", "output_throughput", 1),
            TTFT,
            _figure("median ITL, ms", "median_itl_ms", 1),
            _figure("p99 ITL, ms", "p99_itl_ms", 1),
        ),
    ),
    "context": Curve(
        points=(1024, 2048, 4096, 8192, 16_384),
        plan=_context,
        cells=lambda most: most + most // 8 + 1024,
        columns=(
            _figure("tokens in", "total_input_tokens"),
            TTFT,
            right("decode tok/s", _decode_speed),
        ),
        keeps=False,  # or a step would have to look past those of the points before
    ),
    "cached": Curve(
        points=(0, 25, 50, 75, 100),
        plan=_cached,
        cells=lambda _: 4 * PROMPT,
        columns=(right("of the prompts", _share), TTFT),
        part="later requests",
    ),
}


@contextmanager
def serving(curve: Curve, points: Sequence[int], shape: str) -> Iterator[tuple[str, str]]:
    """Name of the model, and URL of a server that has room for every point."""
    cells = curve.cells(max(points))
    slots = max(SLOTS, *(clients for each in points for clients in curve.plan(each).clients))
    settings = {
        "model": {"context_size": cells},
        "server": {"max_concurrent_requests": slots},
        "cache": {"enabled": curve.keeps},
    }
    name, config = "the embedded model", msgspec.convert(settings, Config)
    with ExitStack() as stack:
        if shape:
            name, config = stack.enter_context(shaped(shape, config, cells, say))
        yield name, stack.enter_context(own_server(config))


def measure(curve: str, points: Sequence[int], rounds: int, url: str) -> Iterator[Row]:
    """A row of each point."""
    wanted = CURVES[curve]
    for point in points:
        say(f"{curve}: {point}")
        plan = msgspec.structs.replace(wanted.plan(point), rounds=rounds)
        row = rows.measured(url, plan, wanted.part)
        yield msgspec.structs.replace(row, group=curve, load=str(point))


def measured(curve: str, points: Sequence[int], rounds: int, shape: str) -> Report:
    """All points, or those that were measured when it was interrupted."""
    started = datetime.now().astimezone().isoformat(timespec="seconds")
    done: list[Row] = []
    target, interrupted = "", False
    try:
        with serving(CURVES[curve], points, shape) as (target, url):
            for row in measure(curve, points, rounds, url):
                done.append(row)
    except KeyboardInterrupt:
        interrupted = True
    return Report(
        kind="server", target=target, started=started, machine=machine(), rows=done,
        interrupted=interrupted,
    )  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("curve", choices=CURVES)
    parser.add_argument("--shape", default=HALF_B)
    parser.add_argument("--points", default="", help="in place of the usual ones")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--plot", type=Path)
    given = parser.parse_args()
    if given.plot:
        plot.check()
    curve = CURVES[given.curve]
    points = numbers("--points", given.points, 0, 2**24) or curve.points
    found = measured(given.curve, points, given.rounds, given.shape)
    if given.plot:
        given.plot.write_text(plot.page(found), encoding="utf-8")
    if given.json:
        sys.stdout.write(encode(found))
        return
    say(f"{found.target}, {found.machine.processor}, {found.machine.cores} cores")
    columns = [Column(given.curve, lambda row: row.load), *curve.columns, FAILED]
    report(found.rows, columns, as_json=False)


if __name__ == "__main__":
    main()
