"""This server beside others' on the same machine, in paired rounds.

    python -m benchmarks.peers ROW ... [--peer llama-server|llama-cpp-python] [--rounds 3] [--json]
    python -m benchmarks.peers ROW ... --program PATH [--shape llama-8b:q4_k]
    python -m benchmarks.peers --list

Both run at the same time with as many slots, cells and threads, over one model; in each round each
is asked the same kind of thing, and they take turns to be first. They need the extra `peers`
(pip install '.[peers]'): llama.cpp's own server, prebuilt, or llama-cpp-python's. What the peer's
build lacks of ours is told: without it the same code is slower. `--program` names a llama-server
that was built here, as for a GPU, and `--shape` a model of another size.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from benchmarks import peer_restart
from benchmarks.peer_restart import Start
from benchmarks.peer_rows import COMPARISONS, Comparison
from benchmarks.peer_server import PEERS
from benchmarks.report import report, right
from benchmarks.rows import measured
from llmengine import hardware
from llmengine.bench import shapes, weights
from llmengine.bench.compare import Difference
from llmengine.bench.machine import machine
from llmengine.bench.own_server import own_server
from llmengine.bench.report import Machine, Row, Spread
from llmengine.cli.table import Column
from llmengine.config import Config
from llmengine.llama import library

EMBEDDED = Path(__file__).parent.parent / "models" / "tiny-chat.gguf"

Measured = dict[str, list[float]]  # figures by name, by round


class Peer(Struct, frozen=True):
    """What the first line of `benchmarks.peer_server` says."""

    url: str
    name: str
    features: str


class Result(Struct, frozen=True, kw_only=True):
    row: str
    what: str
    peer: str
    lacks: list[str]  # CPU features that our build of llama.cpp has and the peer's has not
    machine: Machine
    figures: list[Difference]  # before: the peer's; after: ours
    errors: dict[str, int]


@contextmanager
def peer_server(kind: Sequence[str], model: Path, wanted: Comparison) -> Iterator[Peer]:
    """One of `benchmarks.peer_server`; raises RuntimeError where it does not start."""
    command = [sys.executable, "-m", "benchmarks.peer_server", *kind, str(model)]
    command += ["--slots", str(wanted.slots), "--context", str(wanted.context)]
    command += ["--threads", str(hardware.cores())]
    # How long OpenMP's threads spin is our own setting: the peer has what it would have alone.
    environment = {key: value for key, value in os.environ.items() if key != "GOMP_SPINCOUNT"}
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, env=environment)
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            if not line:
                log.seek(0)
                raise RuntimeError(f"{kind[0]} did not start: {log.read().decode()[-500:]}")
            yield msgspec.json.decode(line, type=Peer)
        finally:
            process.terminate()
            process.wait()


@contextmanager
def busy(cores: int) -> Iterator[None]:
    """Other processes that compute all the time."""
    loops = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(cores)]
    try:
        yield
    finally:
        for each in loops:
            each.kill()
            each.wait()


def config(model: Path, wanted: Comparison) -> Config:
    settings = {
        "model": {"model_path": str(model), "context_size": wanted.context},
        "server": {"max_concurrent_requests": wanted.slots},
    }
    return msgspec.convert(settings, Config)


class Models:
    """Files of random weights in a folder, one for each shape."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._made: dict[str, Path] = {}

    def of(self, named: str) -> Path:
        """That of a shape; without a name, the embedded model."""
        if not named:
            return EMBEDDED
        if named not in self._made:
            _, shape, quantization = shapes.parse(named)
            path = self._folder / f"{len(self._made)}.gguf"
            self._made[named] = weights.write(path, shape, quantization)
        return self._made[named]


def compare(name: str, kind: Sequence[str], rounds: int, model: Path) -> Result:
    wanted = COMPARISONS[name]
    with tempfile.TemporaryDirectory() as folder:
        settings = config(model, wanted)
        cache = Path(folder) / "cache"
        starts: dict[str, Start] = {
            "ours": lambda: own_server(settings, cache),
            "peer": lambda: _url(peer_server(kind, model, wanted)),
        }
        with peer_server(kind, model, wanted) as peer:
            pass  # only to ask what it is
        found, errors = _rounds(wanted, starts, rounds)
    return Result(
        row=name,
        what=wanted.what,
        peer=peer.name,
        lacks=lacking(peer),
        machine=machine(),
        figures=[
            Difference(
                row=name,
                figure=figure,
                before=Spread.of(found["peer"][figure]),
                after=Spread.of(found["ours"][figure]),
            )
            for figure in wanted.figures
            if found["peer"][figure] and found["ours"][figure]
        ],
        errors=errors,
    )


def _rounds(
    wanted: Comparison, starts: dict[str, Start], rounds: int
) -> tuple[dict[str, Measured], dict[str, int]]:
    """The figures of each side; the first round warms up and does not count."""
    found: dict[str, Measured] = {side: defaultdict(list) for side in starts}
    errors: dict[str, int] = defaultdict(int)
    with ExitStack() as stack:
        if wanted.restart:
            measures = {side: _restarted(start, wanted) for side, start in starts.items()}
        else:
            measures = {
                side: _asked(stack.enter_context(start()), wanted) for side, start in starts.items()
            }
        stack.enter_context(busy(wanted.busy))
        for number in range(rounds + 1):
            for side in sorted(measures, reverse=bool(number % 2)):
                print(f"round {number} of {rounds}: {side}", file=sys.stderr)
                row = measures[side]()
                for error, count in row.errors.items():
                    errors[f"{side}: {error}"] += count
                for figure, spread in row.figures.items() if number else ():
                    found[side][figure].append(spread.median)
    return found, errors


def _asked(url: str, wanted: Comparison) -> Callable[[], Row]:
    return lambda: measured(url, wanted.plan, wanted.part)


def _restarted(start: Start, wanted: Comparison) -> Callable[[], Row]:
    return lambda: peer_restart.measure(start, wanted.plan)


@contextmanager
def _url(peer: AbstractContextManager[Peer]) -> Iterator[str]:
    with peer as opened:
        yield opened.url


def lacking(peer: Peer) -> list[str]:
    """CPU features that our build has and the peer's has not, if that tells its own."""
    if not peer.features:
        return []
    return sorted(features(library.system_info()) - features(peer.features))


def features(text: str) -> set[str]:
    """The names that llama.cpp's system info says are there."""
    return set(re.findall(r"(\w+) = 1", text))


COLUMNS = [
    Column("figure", lambda each: each.figure),
    right("llmengine", lambda each: each.after.worded()),
    right("peer", lambda each: each.before.worded()),
    right("ratio", lambda each: each.ratio and f"{each.ratio:.2f}"),
    Column("", lambda each: each.mark),
]


def show(result: Result) -> None:
    print(f"{result.what}; peer: {result.peer}")
    report(result.figures, COLUMNS, as_json=False)
    if result.lacks:
        print(f"the peer's build lacks {', '.join(result.lacks)}, which ours has")
    for error, count in result.errors.items():
        print(f"{count} x {error}")


def encoded(result: Result) -> str:
    """JSON, with what follows from the figures."""
    built: dict[str, Any] = msgspec.to_builtins(result)
    for written, each in zip(built["figures"], result.figures, strict=True):
        written |= {"ratio": each.ratio, "mark": each.mark}
    return json.dumps(built, indent=2)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("rows", nargs="*", metavar="ROW")
    parser.add_argument("--peer", choices=PEERS, default="llama-server")
    parser.add_argument("--program", default="", help="a llama-server that was built here")
    parser.add_argument("--shape", default="", help="in place of that of the rows")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--list", action="store_true")
    arguments = parser.parse_args()
    if unknown := [row for row in arguments.rows if row not in COMPARISONS]:
        parser.error(f"there is no row {unknown[0]}; --list names them")
    if arguments.list or not arguments.rows:
        for name, each in COMPARISONS.items():
            print(f"{name:<12} {each.what}")
        return
    kind = (arguments.peer, *(["--program", arguments.program] if arguments.program else []))
    with tempfile.TemporaryDirectory() as folder:
        models = Models(Path(folder))
        for row in arguments.rows:
            model = models.of(arguments.shape or COMPARISONS[row].shape)
            result = compare(row, kind, arguments.rounds, model)
            print(encoded(result)) if arguments.json else show(result)
            sys.stdout.flush()  # what was measured is not lost with the next row


if __name__ == "__main__":
    main()
