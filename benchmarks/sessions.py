"""How much is prefilled of what has to be, by eviction policy, and by who asks when.

    python -m benchmarks.sessions [--seed 0] [--share 0.5] [--json]

200 sessions take 1,200 turns, four at a time, each with a prompt of all that was said before. Four
finished prompts stay in slots, and memory holds half of what all sessions come to. The scheduler,
the slots and the tiers are the engine's; the model is a fake, so that only counts matter. With a
disk, that one has room for everything.
"""

from __future__ import annotations

import argparse
import tempfile
from collections import deque
from pathlib import Path

import numpy as np
from msgspec import Struct

from benchmarks.arrivals import ANSWER, QUESTION, Workload, workloads
from benchmarks.fake_llama import BYTES, FakeContext, FakeFetcher, FakeModel, FakePacer, FakeSampler
from benchmarks.report import report, right
from llmengine.cache.disk_tier import DiskTier
from llmengine.cache.memory_tier import MemoryTier
from llmengine.cache.policy import POLICIES
from llmengine.cache.prompt_cache import PromptCache
from llmengine.cli.table import Column, number
from llmengine.config import CacheConfig
from llmengine.core import Request
from llmengine.engine.cells import Cells
from llmengine.engine.keeper import Keeper
from llmengine.engine.pool import Pool
from llmengine.engine.runner import Runner
from llmengine.engine.scheduler import Scheduler
from llmengine.engine.sequence import Sequence
from llmengine.engine.slots import Limits, Slots
from llmengine.sampling import SamplingParams

AT_ONCE = 4  # requests, and as many finished ones in slots
ROWS = 512
MIN_TOKENS = CacheConfig().min_tokens
PARAMS = SamplingParams(temperature=0, max_tokens=ANSWER, ignore_eos=True)


class Row(Struct, frozen=True):
    arrivals: str
    policy: str
    disk: bool
    least: int  # tokens that nobody can spare
    prefilled: int
    prompts: int  # tokens of all prompts
    memory_hits: int
    disk_hits: int

    @property
    def of_least(self) -> float:
        return self.prefilled / self.least


class Sessions:
    """What was said so far in each session, and the least that its prompts can cost."""

    def __init__(self, workload: Workload, seed: int) -> None:
        self._random = np.random.default_rng(seed)
        self._workload = workload
        self._system = self._tokens(workload.system)
        self.said: dict[int, tuple[int, ...]] = {}
        self.least = workload.system
        self.prompts = 0

    def _tokens(self, count: int) -> tuple[int, ...]:
        return tuple(self._random.integers(2**31 - 1, size=count).tolist())

    def ask(self, session: int) -> tuple[int, ...]:
        """The prompt of the session's next turn."""
        before = self.said.get(session)
        drawn = int(self._random.uniform(0.2, 1.8) * QUESTION)
        question = self._workload.first.get(session, drawn)
        # The last token of an answer was sampled, but nothing was computed with it.
        self.least += question + (before is not None)
        prompt = (self._system if before is None else before) + self._tokens(question)
        self.prompts += len(prompt)
        return prompt


def simulate(workload: Workload, policy: str, seed: int, share: float, folder: Path | None) -> Row:
    """One run; `share` of what all sessions come to fits into memory."""
    make = POLICIES[policy]
    memory = MemoryTier(int(total(workload, seed) * BYTES * share), 10**6, 0, make())
    disk = DiskTier(folder, 2**40, 10**6, 0, make()) if folder else None
    runner = assemble(workload, policy, PromptCache(memory, disk))
    sessions = Sessions(workload, seed)
    play(workload, sessions, runner, np.random.default_rng(seed + 1), disk)
    row = Row(
        arrivals=workload.name,
        policy=policy,
        disk=disk is not None,
        least=sessions.least,
        prefilled=runner.prefilled_tokens,
        prompts=sessions.prompts,
        memory_hits=memory.stats().hits,
        disk_hits=disk.stats().hits if disk else 0,
    )
    memory.check()
    if disk:
        disk.close()
    return row


def total(workload: Workload, seed: int) -> int:
    """Tokens that the sessions come to, each with its own copy of what they share."""
    sessions = Sessions(workload, seed)
    for session in workload.order:
        sessions.said[session] = sessions.ask(session) + (0,) * ANSWER
    return sum(len(said) for number, said in sessions.said.items() if number not in workload.first)


def assemble(workload: Workload, policy: str, cache: PromptCache) -> Runner:
    context = FakeContext()
    cells = 2 * AT_ONCE * workload.longest
    pacer = FakePacer(0.4, ROWS)
    keeper = Keeper(cache, context, min_tokens=MIN_TOKENS, whole=False)
    slots = Slots(
        2 * AT_ONCE, Cells(cells), context, Limits(AT_ONCE), POLICIES[policy], keeper=keeper
    )
    scheduler = Scheduler(
        slots, context, Pool(0), pacer,
        limit=AT_ONCE, rows=ROWS, keep=True, keeper=keeper, fetcher=FakeFetcher(cache),
    )  # fmt: skip
    return Runner(FakeModel(), context, scheduler, pacer)  # type: ignore[arg-type]


def play(
    workload: Workload,
    sessions: Sessions,
    runner: Runner,
    random: np.random.Generator,
    disk: DiskTier | None,
) -> None:
    """Take the turns in their order, AT_ONCE at a time; nobody asks before he was answered."""
    left = deque(enumerate(workload.order))
    asking: dict[str, tuple[int, Sequence]] = {}
    while left or asking:
        while left and len(asking) < AT_ONCE:
            turn, session = left[0]
            if any(session == other for other, _ in asking.values()):
                break
            left.popleft()
            request = Request(id=str(turn), prompt=sessions.ask(session), params=PARAMS)
            sampler = FakeSampler(random)
            sequence = Sequence(request, print, sampler, ANSWER)  # type: ignore[arg-type]
            asking[request.id] = session, sequence
            runner.add(sequence)
        for outputs in runner.step().values():
            for output in outputs:
                if output.finish_reason:
                    session, sequence = asking.pop(output.request_id)
                    sessions.said[session] = tuple(sequence.tokens)
        if disk:
            disk.flush()  # as if it were as fast as memory: the same in every run


COLUMNS = [
    Column("arrivals", lambda row: row.arrivals),
    Column("policy", lambda row: row.policy),
    Column("disk", lambda row: row.disk),
    right("tokens of prompts", lambda row: number(row.prompts)),
    right("least", lambda row: number(row.least)),
    right("prefilled", lambda row: number(row.prefilled)),
    right("of the least", lambda row: f"{row.of_least:.2f}"),
    right("hits in memory", lambda row: row.memory_hits),
    right("on disk", lambda row: row.disk_hits),
]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--share", type=float, default=0.5, help="of all sessions, in memory")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    rows = []
    for workload in workloads(arguments.seed):
        for policy in POLICIES:
            rows.append(simulate(workload, policy, arguments.seed, arguments.share, None))
        with tempfile.TemporaryDirectory() as folder:
            default = next(iter(POLICIES))
            path = Path(folder) / "states"
            rows.append(simulate(workload, default, arguments.seed, arguments.share, path))
    report(rows, COLUMNS, as_json=arguments.json)


if __name__ == "__main__":
    main()
