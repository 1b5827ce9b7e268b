"""Who is next: tenants share what is computed evenly, whatever each of them asks for."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Iterator
from heapq import heapify, heappop, heappush

from llmengine.engine.sequence import Sequence

LEVEL = 4096  # tokens that a level of priority is worth


class Tenant:
    """Whose requests wait in one line, the most urgent first."""

    def __init__(self) -> None:
        self.used = 0.0  # tokens computed for it, and what it missed while it had nothing to ask
        self.waiting = 0
        self.ticket = -1  # its place in the queue of tenants; others of its tickets are void
        self.line: list[tuple[float, int, Sequence]] = []  # a heap; some may have left


class FairQueue:
    """Sequences that wait for a slot. Adding, taking and leaving cost O(log n).

    Time is virtual: it passes as tokens are computed, for each tenant by itself. The tenant for
    whom the fewest were computed is next (see Sheng et al., Fairness in Serving Large Language
    Models, OSDI 2024). A level of priority is a head start, or a handicap, of LEVEL tokens, so
    that time makes up for any: nobody waits for ever.
    """

    def __init__(self) -> None:
        self._waiting: dict[str, Sequence] = {}
        self._front: deque[Sequence] = deque()  # those that ran already, before all others
        self._tenants: dict[str, Tenant] = {}
        self._tickets: list[tuple[float, int, str]] = []  # a heap; some may be void
        self._numbers = itertools.count()
        self._time = 0.0  # of the tenant that was served last

    def __len__(self) -> int:
        return len(self._waiting)

    def __iter__(self) -> Iterator[Sequence]:
        """All, in no order that means anything."""
        return iter(self._waiting.values())

    def add(self, sequence: Sequence) -> None:
        tenant = self._tenants.setdefault(sequence.request.tenant, Tenant())
        if not tenant.waiting:
            tenant.used = max(tenant.used, self._time)  # nothing is saved up by not asking
        rank = tenant.used + sequence.request.priority * LEVEL
        sequence.turn = (rank, next(self._numbers))
        self.put_back(sequence)

    def pop(self) -> Sequence:
        """Take the next one out. Raises IndexError where there is none."""
        if self._front:
            sequence = self._front.popleft()
            del self._waiting[sequence.id]
            return sequence
        while True:
            key, number, name = heappop(self._tickets)
            tenant = self._tenants[name]
            if number != tenant.ticket:
                continue
            if self._key(tenant) > key:  # tokens were computed for it since
                self._offer(name, tenant)
                continue
            sequence = tenant.line[0][2]
            self.remove(sequence)
            return sequence

    def put_back(self, sequence: Sequence) -> None:
        """Give a sequence that was taken out its place again, the first if it ran already."""
        self._waiting[sequence.id] = sequence
        if sequence.started is not None:
            self._front.appendleft(sequence)
            return
        name = sequence.request.tenant
        tenant = self._tenants[name]
        tenant.waiting += 1
        heappush(tenant.line, (*sequence.turn, sequence))
        if tenant.line[0][2] is sequence:
            self._offer(name, tenant)

    def remove(self, sequence: Sequence) -> None:
        del self._waiting[sequence.id]
        if sequence.started is not None:
            self._front.remove(sequence)
            return
        name = sequence.request.tenant
        tenant = self._tenants[name]
        tenant.waiting -= 1
        first = tenant.line[0][2]
        self._tidy(tenant)
        if first is sequence:
            self._offer(name, tenant)

    def start(self, sequence: Sequence, tokens: int) -> None:
        """Note that a sequence got its slot, with so many tokens of its prompt to compute."""
        tenant = self._tenants[sequence.request.tenant]
        head_start = min(0, sequence.request.priority) * LEVEL
        self._time = max(self._time, tenant.used + head_start)
        tenant.used += tokens

    def charge(self, sequence: Sequence, tokens: int) -> None:
        """Note that tokens were computed for a sequence."""
        self._tenants[sequence.request.tenant].used += tokens

    def position(self, sequence: Sequence) -> int:
        """How many may start before it, itself included; with several tenants it is a guess."""
        if sequence.started is not None:
            return self._front.index(sequence) + 1
        own = self._tenants[sequence.request.tenant]
        before = sum(turn[:2] < sequence.turn for turn in own.line if self._waits(turn))
        others = (each.waiting for each in self._tenants.values() if each is not own)
        return len(self._front) + before + 1 + sum(min(each, before + 1) for each in others)

    def clear(self) -> None:
        self._waiting.clear()
        self._front.clear()
        self._tickets.clear()
        for tenant in self._tenants.values():
            tenant.line.clear()
            tenant.waiting = 0

    def _key(self, tenant: Tenant) -> float:
        return tenant.used + tenant.line[0][2].request.priority * LEVEL

    def _offer(self, name: str, tenant: Tenant) -> None:
        """A new ticket for a tenant whose key or first request is another now."""
        tenant.ticket = next(self._numbers)
        if tenant.waiting:
            heappush(self._tickets, (self._key(tenant), tenant.ticket, name))
        if len(self._tickets) > 2 * len(self._tenants) + 16:
            self._tickets = [
                each for each in self._tickets if each[1] == self._tenants[each[2]].ticket
            ]
            heapify(self._tickets)

    def _tidy(self, tenant: Tenant) -> None:
        """Drop those that left: from the head always, from within when they are the most."""
        while tenant.line and not self._waits(tenant.line[0]):
            heappop(tenant.line)
        if len(tenant.line) > 2 * tenant.waiting + 16:
            tenant.line = [each for each in tenant.line if self._waits(each)]
            heapify(tenant.line)

    def _waits(self, turn: tuple[float, int, Sequence]) -> bool:
        return self._waiting.get(turn[2].id) is turn[2]
