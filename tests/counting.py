"""Counters: of calls, of imports, of frames and writes; and streams that do nothing but decode."""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any

import llama_cpp
import numpy as np
import pytest
from engine_fakes import Bench
from patience import PATIENCE
from serving import eventually

from benchmarks.fake_llama import FakeContext, FakeModel
from benchmarks.requests import settle
from llmengine.core import Request
from llmengine.engine import runner
from llmengine.engine.cells import Cells
from llmengine.engine.engine import Engine
from llmengine.engine.pacer import Pacer
from llmengine.engine.pool import Pool
from llmengine.engine.runner import Runner
from llmengine.engine.scheduler import Scheduler
from llmengine.engine.sequence import Sequence
from llmengine.engine.slots import Limits, Slots
from llmengine.engine.speculate import Speculator
from llmengine.llama.context import Status
from llmengine.llama.sampler import Sampler
from llmengine.sampling import SamplingParams

VOCABULARY = 151_936
MEMORY = ("copy", "remove", "truncate", "clear", "shift", "save", "load")
LLMENGINE = str(Path(__file__).parent.parent / "llmengine")


def _counting(calls: Counter[str], name: str, function: Callable[..., Any], *args: Any) -> Any:
    calls[name] += 1
    return function(*args)


def count_methods(owner: object, *names: str) -> Counter[str]:
    """Count the calls of an object's methods from here on."""
    calls: Counter[str] = Counter()
    for name in names:
        setattr(owner, name, partial(_counting, calls, name, getattr(owner, name)))
    return calls


def count_llama(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Count the calls of llama.cpp's functions from here on, and the rows of what is decoded."""
    calls: Counter[str] = Counter()

    def decode(context: Any, batch: Any) -> Any:
        calls["rows"] += batch.n_tokens
        return compute(context, batch)

    compute = llama_cpp.llama_decode
    monkeypatch.setattr(llama_cpp, "llama_decode", decode)
    for name, function in list(vars(llama_cpp).items()):
        if name.startswith("llama_") and callable(function) and not isinstance(function, type):
            monkeypatch.setattr(llama_cpp, name, partial(_counting, calls, name, function))
    return calls


def count_python(run: Callable[[], object]) -> Counter[str]:
    """The functions that llmengine's code calls meanwhile, its own and built-in ones, by name."""
    calls: Counter[str] = Counter()

    def profile(frame: Any, event: str, argument: Any) -> None:
        code = frame.f_code
        if event in ("call", "c_call") and code.co_filename.startswith(LLMENGINE):
            calls[code.co_name if event == "call" else argument.__qualname__] += 1

    sys.setprofile(profile)
    try:
        run()
    finally:
        sys.setprofile(None)
    return calls


class Work:
    """A runner over the fakes, and what it had llama.cpp do."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, **options: Any) -> None:
        options = {"seconds_per_step": 0.02, "seconds_per_row": 0.006, **options}
        self.bench = Bench(**options)
        self.calls = count_methods(self.bench.context, *MEMORY)
        monkeypatch.setattr(runner.time, "perf_counter", lambda: self.bench.context.clock)

    def run(self) -> None:
        while self.bench.runner.busy:
            self.bench.step()
            assert eventually(lambda: not self.bench.runner.blocked)

    @property
    def counts(self) -> dict[str, int]:
        steps = self.bench.context.steps
        rows = sum(len(item[2]) for step in steps for item in step)
        prefilled = self.bench.runner.prefilled_tokens
        return {"steps": len(steps), "rows": rows, "prefilled": prefilled, **self.calls}


class Vocabulary(FakeContext):
    """A llama.cpp with many tokens that says another one in every step, its logits in place."""

    def __init__(self, outputs: int) -> None:
        super().__init__()
        random = np.random.default_rng(0)
        self._rows = list(random.standard_normal((outputs, VOCABULARY), np.float32))
        self._said = 0

    def decode(self) -> Status:
        for row in self._rows:
            row[self._said] = 0
        self._said = (self._said + 7919) % VOCABULARY
        for row in self._rows:
            row[self._said] = 30
        return super().decode()

    def logits(self, outputs: int) -> Any:
        return self._rows[:outputs]


class Streams:
    """So many that decode, with the samplers that the engine has."""

    def __init__(self, count: int, *, speculates: bool = True, **params: Any) -> None:
        self.delivered = 0  # tokens
        context, pacer = Vocabulary(count), Pacer(0.4, 512)
        slots = Slots(count, Cells(1 << 20), context, Limits(0))
        scheduler = Scheduler(
            slots, context, Pool(0), pacer, limit=count, rows=512, keep=False,
            speculator=Speculator(pacer.costs, 15, 0.4) if speculates else None,
        )  # fmt: skip
        self._runner = Runner(FakeModel(), context, scheduler, pacer)  # type: ignore[arg-type]
        wanted = SamplingParams(**params)
        for number in range(count):
            request = Request(id=str(number), prompt=tuple(range(32)), params=wanted)
            sampler = Sampler(FakeModel(), wanted, (), 1 << 20)  # type: ignore[arg-type]
            self._runner.add(Sequence(request, self._take, sampler, 1 << 20))
        self.steps(3)  # the prompts, and what only first steps do

    def _take(self, outputs: Any) -> None:
        raise AssertionError("the sink is only a key here")

    def steps(self, count: int) -> None:
        for _ in range(count):
            for outputs in self._runner.step().values():
                self.delivered += sum(len(each.token_ids) for each in outputs)


def together(engine: Engine, requests: list[Request], calls: Counter[str]) -> dict[str, int]:
    """What llama.cpp is called for when all of them begin in one step, until they are at rest."""
    submitted = threading.Event()
    engine._post(lambda: submitted.wait(PATIENCE))
    outputs: list[Any] = []
    for each in requests:
        engine.submit(each, outputs.extend)
    calls.clear()
    submitted.set()
    assert eventually(
        lambda: sum(each.finish_reason is not None for each in outputs) == len(requests)
    )
    assert {each.finish_reason for each in outputs} <= {None, "length"}
    settle(engine)
    return dict(calls)


def streams(name: str, prompts: list[list[int]], count: int, **params: Any) -> list[Request]:
    wanted = SamplingParams(max_tokens=count, **params)
    return [
        Request(id=f"{name}-{number}", prompt=tuple(prompt), params=wanted)
        for number, prompt in enumerate(prompts)
    ]


class CountingLoop(asyncio.SelectorEventLoop):
    """Counts who wakes it up, by the name of the thread."""

    def __init__(self) -> None:
        super().__init__()
        self.woken: Counter[str] = Counter()

    def call_soon_threadsafe(self, callback: Any, *args: Any, context: Any = None) -> Any:
        self.woken[threading.current_thread().name] += 1
        return super().call_soon_threadsafe(callback, *args, context=context)


IMPORTED = """
import sys
before = {*sys.modules}
from llmengine.cli import main
code = main.run(sys.argv[1:])
print(*{name.partition(".")[0] for name in {*sys.modules} - before}, file=sys.stderr)
sys.exit(code)
"""


def imported(*arguments: str) -> set[str]:
    """Of the libraries that the project requires itself, those that a command imports."""
    command = [sys.executable, "-c", IMPORTED, *arguments]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    modules = metadata.packages_distributions()
    found = {_plain(each) for name in done.stderr.split() for each in modules.get(name, ())}
    required = [each for each in metadata.requires("llmengine") or () if "extra ==" not in each]
    return found & set(map(_plain, required))


def _plain(requirement: str) -> str:
    """The name in a requirement, as names are compared."""
    return re.split(r"[^\w.-]", requirement)[0].replace("_", "-").lower()
