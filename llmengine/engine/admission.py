"""Whether a waiting sequence may start, and what it starts from."""

from __future__ import annotations

import time
from collections.abc import Sequence as Sequences
from enum import Enum, auto

from llmengine.engine.encoder import Encoder
from llmengine.engine.fetcher import Fetch, Fetcher
from llmengine.engine.keeper import Keeper
from llmengine.engine.pacer import Pacer
from llmengine.engine.pool import Pool
from llmengine.engine.sequence import Sequence
from llmengine.engine.slot import Match
from llmengine.engine.slots import Slots

WORTH_WAITING = 32  # tokens of a prefix that another sequence is just computing
HEADROOM = 16  # cells kept free per running sequence when another is admitted
ENCODING = 4  # sequences that may wait for embeddings, or with them for room


class Place(Enum):
    FOUND = auto()
    WAIT = auto()  # for a prefix that is being computed or read; others may start
    NO_ROOM = auto()


class Admission:
    """Places sequences into slots: with a shared prefix, a stored state, or nothing."""

    def __init__(
        self,
        slots: Slots,
        pool: Pool,
        pacer: Pacer,
        keeper: Keeper | None,
        fetcher: Fetcher | None,
        encoder: Encoder | None = None,
        *,
        checkpoints: bool,
    ) -> None:
        """With `checkpoints`, a state that was loaded stays for others to start from."""
        self._slots = slots
        self._pool = pool
        self._pacer = pacer
        self._keeper = keeper
        self._fetcher = fetcher
        self._encoder = encoder
        self._encoding: list[Sequence] = []  # wait for embeddings, or for room with them
        self._checkpoints = checkpoints

    def place(self, sequence: Sequence, running: Sequences[Sequence]) -> Place:
        """Give a waiting sequence its slot, if it may start now beside the running ones."""
        if sequence.saved:
            return self._resume(sequence, running)
        match = self._slots.match(sequence.tokens, sequence.scope)
        if not sequence.fetch:
            if match.coming - match.length >= WORTH_WAITING:
                return Place.WAIT
            if not self._fetch(sequence, match.length):
                return Place.WAIT
        if sequence.fetch:
            fetch = sequence.fetch
            if not fetch.done:
                return Place.WAIT
            stored = 0 if fetch.state is None else fetch.found.length
            if not self._encoded(sequence, max(match.length, stored)):
                return Place.WAIT
            if self._restore(sequence, fetch, match.length, running):
                return Place.FOUND
            # Making room may have taken what was matched.
            match = self._slots.match(sequence.tokens, sequence.scope)
        if not self._encoded(sequence, match.length):
            return Place.WAIT
        if not self._reserve(len(sequence.tokens) - match.length, match, running):
            return Place.NO_ROOM
        if not self._slots.open(match, sequence):
            return Place.NO_ROOM
        self.forget(sequence)
        self._slots.count(match.length)
        sequence.start_from(match.length)
        return Place.FOUND

    def _encoded(self, sequence: Sequence, have: int) -> bool:
        """Whether the embeddings of all that comes after `have` tokens are there."""
        missing = [each for each in sequence.media if each.span.end > have]
        if not missing:
            return True
        if sequence not in self._encoding:
            if len(self._encoding) >= ENCODING:
                return False
            self._encoding.append(sequence)
        assert self._encoder is not None
        begun = sequence.encodings
        sequence.encodings = {
            each.digest: begun.get(each.digest) or self._encoder.start(each.media, each.digest)
            for each in missing
        }
        return all(each.done and not each.error for each in sequence.encodings.values())

    def forget(self, sequence: Sequence) -> None:
        """Let go of what the sequence was to start from: it does, or never will."""
        if sequence in self._encoding:
            self._encoding.remove(sequence)
        if sequence.fetch and self._fetcher:
            self._fetcher.drop(sequence.fetch)
        sequence.fetch = None

    def _fetch(self, sequence: Sequence, have: int) -> bool:
        """Get the stored state that beats the `have` tokens of a slot; False to ask again."""
        if not self._keeper or not self._fetcher:
            return True
        speed = self._pacer.seconds_per_token
        found = self._keeper.find(sequence.scope, sequence.tokens, have, speed)
        if found is None:
            return True
        sequence.fetch = self._fetcher.start(found)
        return sequence.fetch is not None

    def _restore(
        self, sequence: Sequence, fetch: Fetch, have: int, running: Sequences[Sequence]
    ) -> bool:
        """Start from a stored state; False if it is of no use, or has no room yet."""
        found, state = fetch.found, fetch.state
        if state is None or found.length <= have:
            return False
        size = len(found.entry.tokens)
        if not self._reserve(max(size, len(sequence.tokens)), Match(), running):
            return False
        started = time.perf_counter()
        slot = self._slots.load(state, size, found.length, sequence)
        if slot is None:
            return False
        assert self._keeper is not None
        self._keeper.cache.restored(len(state), time.perf_counter() - started)
        self.forget(sequence)
        self._slots.count(0)
        sequence.start_from(found.length)
        if self._checkpoints:
            self._slots.checkpoint(slot, kept=True)
        return True

    def _resume(self, sequence: Sequence, running: Sequences[Sequence]) -> Place:
        region = sequence.saved
        assert region is not None
        if not self._encoded(sequence, sequence.saved_length):
            return Place.WAIT
        if not self._reserve(len(sequence.tokens), Match(), running):
            return Place.NO_ROOM
        length = sequence.saved_length
        slot = self._slots.load(region.buffer, length, length, sequence)
        self._pool.give(region)
        sequence.saved = None
        if slot is None:  # llama.cpp could not place the state: compute it again
            return self.place(sequence, running)
        self.forget(sequence)
        return Place.FOUND

    def _reserve(self, need: int, match: Match, running: Sequences[Sequence]) -> bool:
        """Whether `need` more cells may be promised, idle slots evicted if that helps."""
        promised = sum(each.pending for each in running)
        headroom = HEADROOM * len(running)
        while self._slots.cells.free < need + promised + headroom:
            if not (self._slots.evict(match.source, for_cells=True) or self._slots.shorten(match)):
                # Alone, a sequence may use the last cell: its length was checked on arrival.
                return not running and self._slots.cells.free >= need
        return True
