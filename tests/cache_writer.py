"""Processes that write to a disk tier until they are killed.

For every line on stdin one is forked, which is faster than starting Python anew; its process id
is printed as soon as it writes.
"""

from __future__ import annotations

import os
import signal
import sys
from itertools import count
from pathlib import Path

from llmengine.cache.disk_tier import DiskTier
from llmengine.cache.entry import State
from llmengine.cache.policy import LRU
from llmengine.cache.prefix_tree import Tokens
from tests.cache_fakes import state_of, tokens_of

MAX_BYTES, MAX_ENTRIES = 4_000_000, 25


def open_tier(directory: Path) -> DiskTier:
    return DiskTier(directory, MAX_BYTES, MAX_ENTRIES, 0, LRU())


def prompts() -> list[tuple[Tokens, State]]:
    """All that is written, made once: a writer that is killed shall have been writing."""
    sizes = (100, 1000, 10_000)
    made = [tokens_of(number) for number in range(40)]
    return [(tokens, state_of(tokens, sizes[n % 3])) for n, tokens in enumerate(made)]


def write(directory: Path, prompts: list[tuple[Tokens, State]], seed: int) -> None:
    tier = open_tier(directory)
    print(os.getpid(), flush=True)
    for number in count(seed * 7):
        tokens, state = prompts[number % len(prompts)]
        tier.put("s", tokens, state)
        if number % 7 == 0 and (found := tier.find("s", tokens)):
            tier.remove(found.entry.id)
        tier.flush()


if __name__ == "__main__":
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # those killed leave no zombies
    made = prompts()
    for seed, _ in enumerate(sys.stdin):
        if os.fork() == 0:
            write(Path(sys.argv[1]), made, seed)
