"""What a look-up in the prompt cache's index costs: `python -m benchmarks.cache_index`."""

from __future__ import annotations

import resource
import statistics
import time

import numpy as np

from llmengine.cache.entry import Entry, entry_id
from llmengine.cache.index import Index, Limits
from llmengine.cache.policy import POLICIES
from llmengine.cache.prefix_tree import Tokens

ENTRIES, LENGTH, SYSTEM, LOOKUPS = 10_000, 4_000, 1_500, 2_000
VOCABULARY = 150_000


def prompts() -> list[Tokens]:
    """Conversations under one system prompt, ten at a time with the same first question."""
    chance = np.random.default_rng(0)
    system = chance.integers(0, VOCABULARY, SYSTEM, np.int32)
    made = []
    for number in range(ENTRIES):
        if number % 10 == 0:
            question = chance.integers(0, VOCABULARY, LENGTH // 4, np.int32)
        rest = chance.integers(0, VOCABULARY, LENGTH - SYSTEM - len(question), np.int32)
        made.append(np.concatenate([system, question, rest]))
    return made


def entry(tokens: Tokens) -> Entry:
    return Entry(
        id=entry_id("scope", tokens),
        scope="scope",
        tokens=tokens,
        size=len(tokens) * 12_000,
        created=0,
        last_used=0,
        expires=float("inf"),
        uses=1,
    )


def row(name: str, seconds: list[float]) -> None:
    ordered = sorted(seconds)
    median, worst = statistics.median(ordered), ordered[int(len(ordered) * 0.99)]
    print(f"  {name:<32} {median * 1e6:>9.1f} {worst * 1e6:>9.1f}")


def timed(work: list, call) -> list[float]:
    seconds = []
    for item in work:
        started = time.perf_counter()
        call(item)
        seconds.append(time.perf_counter() - started)
    return seconds


def measure(index: Index, entries: list[Entry]) -> None:
    chance = np.random.default_rng(1)
    chosen = [entries[number] for number in chance.integers(0, ENTRIES, LOOKUPS)]
    fresh = [np.append(each.tokens[:SYSTEM], np.int32(-1)) for each in chosen]
    half = [np.append(each.tokens[: LENGTH // 2], np.int32(-1)) for each in chosen]
    longer = [np.append(each.tokens, np.int32(-1)) for each in chosen]
    row("add", timed(entries, index.add))
    row("look-up, system prompt only", timed(fresh, lambda t: index.longest("scope", t)))
    row("look-up, half", timed(half, lambda t: index.longest("scope", t)))
    row("look-up, whole", timed(longer, lambda t: index.longest("scope", t)))
    row("look-up, whole entries only", timed(longer, lambda t: index.whole("scope", t)))
    row("use", timed(chosen, lambda each: index.touch(each, 1.0)))
    row("victim", timed(chosen, lambda _: index.leaving(2**60)))
    row("remove", timed(entries, lambda each: index.remove(each, "removed")))


def main() -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    entries = [entry(tokens) for tokens in prompts()]
    print(f"{ENTRIES} entries of {LENGTH} tokens, {SYSTEM} of them in common; microseconds")
    print(f"{'':<34} {'median':>9} {'99 %':>9}")
    for name, policy in POLICIES.items():
        print(name)
        measure(Index(Limits(2**60, ENTRIES), policy()), entries)
    tokens = ENTRIES * LENGTH * 4 / 2**20
    peak = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    print(f"peak memory {peak:.0f} MiB, of which the tokens are {tokens:.0f}")


if __name__ == "__main__":
    main()
