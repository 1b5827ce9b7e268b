"""What the next step computes: who runs, who waits, and how much of each prompt."""

from __future__ import annotations

import time

from llmengine.engine.admission import HEADROOM, Admission, Place
from llmengine.engine.checkpoints import Checkpoints
from llmengine.engine.encoder import Encoder
from llmengine.engine.fetcher import Fetcher
from llmengine.engine.keeper import Keeper
from llmengine.engine.mix import Mix, mix_of
from llmengine.engine.overflow import slide
from llmengine.engine.pacer import Pacer
from llmengine.engine.pool import Pool
from llmengine.engine.queue import FairQueue
from llmengine.engine.sequence import Sequence
from llmengine.engine.shares import shares
from llmengine.engine.slot import Memory
from llmengine.engine.slots import Slots
from llmengine.engine.speculate import Speculator
from llmengine.engine.vacancy import vacate
from llmengine.engine.work import Work
from llmengine.media.spans import whole

PASSED = 64  # requests that wait for a prefix, beyond which a step looks for no other to start


class Scheduler:
    """Continuous batching: decoding sequences first, then chunks of prompts.

    Sequences are admitted in fair turns while there is room for their whole prompt. When the KV
    cache is full, idle slots go first, then the youngest sequence waits again.
    """

    def __init__(
        self, slots: Slots, memory: Memory, pool: Pool, pacer: Pacer, *,
        limit: int, rows: int, keep: bool, keeper: Keeper | None = None,
        fetcher: Fetcher | None = None, checkpoints: Checkpoints | None = None,
        encoder: Encoder | None = None, speculator: Speculator | None = None, arena: bool = False,
        vacates: int | None = None,
    ) -> None:  # fmt: skip
        """`limit` sequences run at once, a step has at most `rows` rows.

        With `keep`, finished sequences leave their slots for others to share. Models that can't
        drop a tail get `checkpoints`, others may have a `speculator`. `arena` says that freed cells
        come back only when everything is cleared (see Slots). Beyond `vacates` cells that they
        alone have, idle slots make way for those that run, into the prompt cache; None: never.
        """
        self.slots = slots
        self.waiting = FairQueue()
        self.running: list[Sequence] = []
        self.preemptions = 0
        self._memory = memory
        self._pool = pool
        self._pacer = pacer
        self._admission = Admission(
            slots, pool, pacer, keeper, fetcher, encoder, checkpoints=checkpoints is not None
        )
        self._checkpoints = checkpoints
        self._speculator = speculator
        self.limit = limit
        self._rows = rows
        self._keep = keep
        self._keeper = keeper
        self._arena = arena
        self._vacates = vacates
        self._sees = False  # whether the last step was one of embeddings
        self._looked = False  # at those that wait, since a running sequence ended
        self.drafting_seconds = 0.0  # that a draft model took before the last step

    @property
    def sequences(self) -> list[Sequence]:
        return [*self.running, *self.waiting]

    @property
    def reading(self) -> bool:
        """Whether nothing can be done until a state has been read, or an image encoded."""
        if self.running or not (self.waiting and self._looked):
            return False
        return all(each.held and not each.ready for each in self.waiting)

    def add(self, sequence: Sequence) -> None:
        if self._checkpoints:
            boundaries = sequence.request.boundaries
            chosen = self._checkpoints.of(sequence.prompt_length, boundaries)
            sequence.checkpoints = tuple(whole(sequence.tokens, each) for each in chosen)
        self.waiting.add(sequence)

    # One step

    def schedule(self) -> list[Work]:
        """The work of the next step; empty only when nothing runs or waits."""
        if self._keeper:
            self._keeper.begin_step()
        if self.slots.stale:
            self._compact()
        self._slide()
        self._admit()
        while self.running:
            step = self._plan()
            if step:
                return step
            self.make_room()
            self._admit()
        return []

    def _slide(self) -> None:
        """Make room in the sequences that are full; what cannot go on is computed again."""
        stuck = [each for each in self.running if each.full or (each.media and each.blind)]
        for sequence in stuck:
            if sequence.blind or not slide(sequence, self.slots, self._memory):
                self._requeue(sequence)

    def _plan(self) -> list[Work]:
        """Decoding rows and prefill chunks, or nothing if the decoding rows don't fit."""
        self.drafting_seconds = 0.0
        step, prefilling, seeing = [], [], []
        for each in self.running:
            if each.decoding:
                step.append(Work(each, 1, True))
            elif each.coming:
                seeing.append(each)
            else:
                prefilling.append(each)
        self._sees = bool(seeing) and not (self._sees and (step or prefilling))
        if self._sees:
            return self._see(seeing[0], len(step))
        free = self.slots.cells.free - len(step)
        if free < 0:
            return []
        if prefilling:
            wanted = [*step, *(Work(each, each.ahead, False) for each in prefilling)]
            mix = mix_of(wanted, self.slots.running_cells)
            chunk = min(self._pacer.chunk(mix), self._rows - len(step), free)
            step += [Work(each, count, False) for each, count in shares(prefilling, chunk)]
        elif self._speculator:
            self._speculator.draft(step, min(self._rows - len(step), free))
            self.drafting_seconds = self._speculator.seconds
        return step

    def _see(self, sequence: Sequence, decoding: int) -> list[Work]:
        """Embeddings of one sequence: they are a step of their own, between those of tokens."""
        coming, free = sequence.coming, self.slots.cells.free
        assert coming is not None
        count = coming.span.end - sequence.computed
        vectors = sequence.encodings[coming.digest].parts[coming.part]
        if vectors.causal:
            count = min(count, self._pacer.chunk(Mix(decoding)), self._rows, free)
        return [Work(sequence, count, False)] if 0 < count <= free else []

    def commit(self, step: list[Work]) -> None:
        """Note that the step's tokens are computed, its drafts left aside."""
        scatters = self._memory.scatters and len(step) > 1
        for work in step:
            slot = work.sequence.slot
            assert slot is not None
            if scatters and work.decoding and slot.scattered is None:
                slot.scattered = slot.length
            slot.length += work.count
            work.sequence.moved = False
            if work.decoding:
                self.waiting.charge(work.sequence, work.count)
        self.slots.cells.occupy(sum(work.count for work in step))
        if self._checkpoints:
            self._hold_checkpoints(step)

    def settle(self, work: Work, accepted: int) -> None:
        """Keep the first `accepted` tokens of a draft, which the sequence has now."""
        slot = work.sequence.slot
        assert slot is not None
        slot.length += accepted
        self.slots.cells.occupy(accepted)
        if accepted < len(work.draft):
            self.slots.rollback(slot)

    def _hold_checkpoints(self, step: list[Work]) -> None:
        for work in step:
            slot = work.sequence.slot
            if slot and not work.decoding and slot.length in work.sequence.checkpoints:
                self.slots.checkpoint(slot)

    # Admission

    def _admit(self) -> None:
        passed: list[Sequence] = []  # for want of room, or until what they start from is there
        changed, place, self._looked = not self._looked, Place.WAIT, True
        try:
            while self.waiting and len(self.running) < self.limit and place is not Place.NO_ROOM:
                if self.running and len(passed) >= PASSED:
                    break
                passed.append(self.waiting.pop())
                place = self._admission.place(passed[-1], self.running)
                passed[-1].held = place is Place.WAIT
                if place is Place.FOUND:
                    self._start(passed.pop())
                    changed = True
        finally:
            for sequence in reversed(passed):
                self.waiting.put_back(sequence)
        if changed and self.running and self._keeper and self._vacates is not None:
            vacate(self.slots, self._keeper, self._vacates)
        if place is Place.NO_ROOM and self._compaction_helps(passed[-1]):
            self._compact()
            self._admit()

    def _start(self, sequence: Sequence) -> None:
        self.running.append(sequence)
        if sequence.started is None:
            sequence.started = time.monotonic()
            self.waiting.start(sequence, sequence.pending)

    # Requests that only warm the prompt cache

    def is_kept(self, sequence: Sequence) -> bool:
        """Whether the prompt's state is stored already; then it is pinned and labelled."""
        request = sequence.request
        return self._keeper is not None and self._keeper.keep(
            sequence.scope, sequence.tokens, request.warm
        )

    def keep(self, sequence: Sequence) -> bool:
        """Store the state of a computed prompt, pinned; False if there is no room for it."""
        slot = sequence.slot
        assert slot is not None
        return self._keeper is not None and self._keeper.pin(
            slot.id, slot.scope, slot.tokens, sequence.request.warm
        )

    # Room

    def make_room(self) -> None:
        """Free cells for the running sequences, by the cheapest means that is left."""
        if self._arena:
            self._compact()
        elif not self.slots.evict(None, for_cells=True):
            self.preempt(max(self.running, key=lambda each: each.submitted))

    def _compaction_helps(self, sequence: Sequence) -> bool:
        """Whether `sequence` would fit beside the running ones in an arena without garbage."""
        live = sum(len(each.tokens) for each in self.running)
        headroom = HEADROOM * len(self.running)
        capacity = self.slots.cells.capacity
        return self._arena and live + len(sequence.tokens) + headroom <= capacity

    def _compact(self) -> None:
        """Set everything aside and clear the memory: its cells can only then be used again."""
        for sequence in reversed(list(self.running)):
            self.preempt(sequence)
        self.slots.reset()

    def preempt(self, sequence: Sequence) -> None:
        """Back to the head of the queue, with its state saved if the pool has room."""
        slot = sequence.slot
        assert slot is not None
        self.preemptions += 1
        worth, end = slot.compact and not sequence.moved, slot.end
        region = self._pool.take(self._memory.state_size(slot.id, end)) if worth else None
        if region and self._memory.save(slot.id, region.buffer, end):
            sequence.saved, sequence.saved_length = region, slot.compact
        elif region:
            self._pool.give(region)
        self._requeue(sequence)

    def _requeue(self, sequence: Sequence) -> None:
        """Take a running sequence's slot away."""
        slot, sequence.slot = sequence.slot, None
        assert slot is not None
        self.slots.release(slot, keep=False)
        self.running.remove(sequence)
        self.waiting.put_back(sequence)

    def drop_idle(self) -> None:
        """Forget what idle slots hold, without saving it."""
        for slot in self.slots.idle:
            self.slots.clear(slot)
        self.slots.stale = self._arena

    def relieve(self) -> None:
        """Leave the memory of the host alone, as far as that goes.

        Cells without prompts of old spare running requests from having their states set aside.
        """
        self.drop_idle()
        self._pool.trim()

    # The end of a sequence

    def remove(self, sequence: Sequence, *, keep: bool = True) -> None:
        """Take a sequence out, finished or not; its slot stays for its prefix if it may."""
        if sequence.slot:
            self.running.remove(sequence)
            self._looked = False  # somebody may have waited for its prefix
            slot, sequence.slot = sequence.slot, None
            self.slots.release(slot, keep=keep and self._keep and not sequence.dropped)
        else:
            self.waiting.remove(sequence)
            self._admission.forget(sequence)
        if sequence.saved:
            self._pool.give(sequence.saved)
            sequence.saved = None

    def clear(self) -> list[Sequence]:
        """Take all sequences out and forget every prefix, even if the books are wrong."""
        found = list(dict.fromkeys(self.sequences))
        for sequence in found:
            sequence.slot = sequence.saved = None
            self._admission.forget(sequence)
        self.running.clear()
        self.waiting.clear()
        self._pool.clear()
        self.slots.reset(save=False)  # nobody knows any more what they hold
        if self._speculator:
            self._speculator.reset()
        return found
