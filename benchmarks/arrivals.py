"""Who asks when: the order in which the turns of many conversations arrive."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from msgspec import Struct

SESSIONS, TURNS = 200, 6
QUESTION = 150  # tokens of a question, on average
ANSWER = 8  # tokens
SYSTEM = 1_000
SCAN = 400  # prompts that come once
SCANNED = 1_000  # tokens of each


class Workload(Struct, frozen=True):
    """`order` has a session's number for each of its turns."""

    name: str
    order: tuple[int, ...]
    system: int = 0  # tokens that all sessions begin with
    first: dict[int, int] = {}  # tokens of the question, for sessions that ask another length

    @property
    def longest(self) -> int:
        """Tokens that the longest session can come to."""
        turns = int(np.bincount(self.order).max())
        return self.system + turns * (2 * QUESTION + ANSWER) + SCANNED


def round_robin(random: np.random.Generator) -> list[int]:
    """Everybody's first turn, then everybody's second, and so on."""
    return list(range(SESSIONS)) * TURNS


def zipf(random: np.random.Generator) -> list[int]:
    """As many turns in all, but some sessions are far more active, as 1 / rank ** 0.7."""
    weights = np.arange(1, SESSIONS + 1) ** -0.7
    drawn = random.choice(SESSIONS, SESSIONS * TURNS - SESSIONS, p=weights / weights.sum())
    return list(random.permutation(np.concatenate([np.arange(SESSIONS), drawn])).tolist())


def bursts(random: np.random.Generator) -> list[int]:
    """Two sittings of three turns each; eight sessions sit at a time."""
    halves = [random.permutation(SESSIONS).tolist() for _ in range(2)]
    return _mixed(random, [*halves[0], *halves[1]], TURNS // 2, 8)


def coming_and_going(random: np.random.Generator) -> list[int]:
    """Sessions begin one after the other, take their turns and never return; half at a time."""
    return _mixed(random, list(range(SESSIONS)), TURNS, SESSIONS // 2)


def _mixed(random: np.random.Generator, sittings: list[int], turns: int, at_once: int) -> list[int]:
    """Each sitting is so many turns of a session; any of those `at_once` is next."""
    left: dict[int, int] = {}
    order = []
    while sittings or left:
        while sittings and len(left) < at_once:
            new = sittings.pop(0)
            left[new] = left.get(new, 0) + turns
        session = int(random.choice(list(left)))
        order.append(session)
        left[session] -= 1
        if not left[session]:
            del left[session]
    return order


def scanned(random: np.random.Generator) -> list[int]:
    """The zipf order, with prompts in its middle third that come once and never again."""
    order = zipf(random)
    start, end = len(order) // 3, 2 * len(order) // 3
    scan = range(SESSIONS, SESSIONS + SCAN)
    middle = [*order[start:end], *scan]
    places = np.argsort(
        np.concatenate([np.arange(end - start), random.uniform(0, end - start, SCAN)])
    )
    return [*order[:start], *(middle[place] for place in places), *order[end:]]


def workloads(seed: int) -> list[Workload]:
    def drawn(order: Callable[[np.random.Generator], list[int]]) -> tuple[int, ...]:
        return tuple(order(np.random.default_rng(seed)))

    scan = dict.fromkeys(range(SESSIONS, SESSIONS + SCAN), SCANNED)
    return [
        Workload("round robin", drawn(round_robin)),
        Workload("coming and going", drawn(coming_and_going)),
        Workload("bursts", drawn(bursts)),
        Workload("zipf", drawn(zipf)),
        Workload("zipf and a scan", drawn(scanned), first=scan),
        Workload("zipf, one system prompt", drawn(zipf), system=SYSTEM),
    ]
