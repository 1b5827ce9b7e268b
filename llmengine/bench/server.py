"""`llmengine bench serve`: workloads under rising load, as far as they get."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator, Sequence
from typing import Any

from msgspec import Struct

from llmengine.bench.client import Client
from llmengine.bench.figures import Goodput, errors, figures
from llmengine.bench.load import Load, poisson
from llmengine.bench.local import Found
from llmengine.bench.probe import Target, probe
from llmengine.bench.progress import Progress
from llmengine.bench.record import Record
from llmengine.bench.report import Row, Spread
from llmengine.bench.words import Ruler
from llmengine.bench.workloads import WORKLOADS, Conversation

NOMINAL = 8  # clients that the size of a workload is for, where arrivals come at a rate


class Step(Struct, frozen=True):
    """A workload under a load: clients that wait, arrivals a second, or as they were recorded."""

    workload: str
    clients: int = 0
    rate: float = 0.0

    @property
    def load(self) -> str:
        if self.rate:
            return f"{self.rate:g}/s"
        if not self.clients:
            return "as recorded"
        return f"{self.clients} client{'s' if self.clients > 1 else ''}"

    @property
    def name(self) -> str:
        return f"{self.workload} @ {self.load}"


class Plan(Struct, frozen=True, kw_only=True):
    workloads: tuple[str, ...] = ("random",)
    clients: tuple[int, ...] = (1, 2, 4, 8)
    rates: tuple[float, ...] = ()  # in place of clients
    recorded: Sequence[Conversation] = ()  # in place of workloads
    sizes: dict[str, int] = {}  # what was chosen of `workloads.Size`
    rounds: int = 1
    seed: int | None = None
    goodput: Goodput = Goodput()
    model: str = ""  # as the server calls it
    body: dict[str, Any] = {}  # parameters of every request

    def steps(self) -> Iterator[Step]:
        names = ("replay",) if self.recorded else self.workloads
        for name in names:
            if self.rates:
                yield from (Step(name, rate=rate) for rate in self.rates)
            elif self.recorded and self.recorded[0].at is not None:
                yield Step(name)
            else:
                yield from (Step(name, clients) for clients in self.clients)

    def conversations(
        self, step: Step, chance: random.Random, ruler: Ruler
    ) -> Sequence[Conversation]:
        if self.recorded:
            return self.recorded
        workload = WORKLOADS[step.workload]
        return workload.make(chance, ruler, workload.size(step.clients or NOMINAL, self.sizes))


async def measure(url: str, key: str, plan: Plan, found: Found, progress: Progress) -> None:
    """Raises ModelUnavailable and Unauthorized where the server cannot be measured at all."""
    async with Client(url, key) as client:
        progress.begin("asking what the server can do", 1)
        target = await probe(client, plan.model, plan.body)
        progress.advance()
        found.target = found.target or target.model
        found.target += f" at {client.url}"
        found.notes += target.notes
        # Nothing that an earlier run asked is in the server's cache.
        chance = random.Random(plan.seed)
        for step in plan.steps():
            await _measure(client, step, plan, target, chance, found, progress)


async def _measure(
    client: Client,
    step: Step,
    plan: Plan,
    target: Target,
    chance: random.Random,
    found: Found,
    progress: Progress,
) -> None:
    """All rounds of a step; also of those that are interrupted there are rows."""
    rounds: list[tuple[Sequence[Record], float]] = []
    common = {"model": target.model, **plan.body}
    try:
        for number in range(plan.rounds):
            conversations = plan.conversations(step, chance, target.ruler)
            if not number:
                progress.begin(step.name, len(conversations) * plan.rounds)
            load = Load(client, common, target.filling, progress.advance)
            started = time.perf_counter()
            try:
                await _run(load, step, conversations, chance)
            finally:
                if load.records:
                    rounds.append((load.records, time.perf_counter() - started))
    finally:
        found.rows += rows(step, rounds, plan.goodput)


async def _run(
    load: Load, step: Step, conversations: Sequence[Conversation], chance: random.Random
) -> None:
    if step.rate:
        await load.arriving(conversations, poisson(len(conversations), step.rate, chance))
    elif not step.clients:
        await load.arriving(conversations, [each.at or 0.0 for each in conversations])
    elif step.workload in WORKLOADS and WORKLOADS[step.workload].at_once:
        await load.arriving(conversations, [0.0] * len(conversations))
    else:
        await load.closed(conversations, step.clients)


def rows(
    step: Step, rounds: Sequence[tuple[Sequence[Record], float]], goodput: Goodput
) -> list[Row]:
    """One of all requests, and where a workload has several parts one of each."""
    parts = dict.fromkeys(record.part for records, _ in rounds for record in records)
    made = [_row(step.workload, step.load, rounds, goodput)] if rounds else []
    if len(parts) < 2:
        return made
    for part in parts:
        own = [
            ([record for record in records if record.part == part], seconds)
            for records, seconds in rounds
        ]
        made.append(_row(f"{step.workload}, {part}", step.load, own, goodput))
    return made


def _row(
    group: str, load: str, rounds: Sequence[tuple[Sequence[Record], float]], goodput: Goodput
) -> Row:
    found = [figures(records, seconds, goodput) for records, seconds in rounds]
    names = dict.fromkeys(name for each in found for name in each)
    return Row(
        group=group,
        load=load,
        figures={name: Spread.of([each[name] for each in found if name in each]) for name in names},
        errors=errors([record for records, _ in rounds for record in records]),
    )
