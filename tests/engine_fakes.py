"""A llama.cpp for the scheduler's tests: its next token follows from all that it remembers."""

from __future__ import annotations

import queue
from collections.abc import Callable
from collections.abc import Sequence as Tokens
from dataclasses import dataclass, field

import numpy as np

from llmengine.cache.memory_tier import MemoryTier
from llmengine.cache.policy import LRU
from llmengine.cache.prompt_cache import PromptCache
from llmengine.core import Media, Output, Request
from llmengine.engine.cells import Cells
from llmengine.engine.checkpoints import Checkpoints
from llmengine.engine.draft_model import SHARE, DraftModel
from llmengine.engine.encoder import Encoding
from llmengine.engine.fetcher import Fetcher
from llmengine.engine.keeper import Keeper
from llmengine.engine.pacer import Pacer
from llmengine.engine.placed import placed
from llmengine.engine.pool import Pool
from llmengine.engine.readings import Readings
from llmengine.engine.runner import Runner
from llmengine.engine.scheduler import Scheduler
from llmengine.engine.sequence import Sequence
from llmengine.engine.slots import Limits, Slots
from llmengine.engine.speculate import Speculator
from llmengine.llama.context import Status
from llmengine.llama.vectors import Vectors
from llmengine.media.spans import ids
from llmengine.sampling import SamplingParams

VOCABULARY = 509
END = VOCABULARY - 1


def next_token(tokens: Tokens[int]) -> int:
    """What the fake model says after `tokens`: it depends on every one and on its place."""
    value = 7
    for token in tokens:
        value = (value * 31 + token + 1) % 1_000_003
    return value % (VOCABULARY - 1)  # never END


def answer(prompt: Tokens[int], count: int) -> list[int]:
    """The completion that a lone, undisturbed sequence gets."""
    tokens = list(prompt)
    for _ in range(count):
        tokens.append(next_token(tokens))
    return tokens[len(prompt) :]


class FakeModel:
    end_tokens = frozenset({END})
    vocabulary = VOCABULARY

    def piece(self, token: int, special: bool = True) -> bytes:
        return f"{token} ".encode()


class GreedySampler:
    ended = False
    matcher = None

    def sample(self, context: object, row: int, logits: np.ndarray) -> int:
        return int(logits.argmax())


@dataclass
class FakeBatch:
    rows: int = 0
    items: list[tuple[int, int, list[int], bool]] = field(default_factory=list)

    @property
    def outputs(self) -> int:
        return sum(output for _, _, _, output in self.items)

    def clear(self) -> None:
        self.rows, self.items = 0, []

    def add(self, sequence: int, position: int, tokens: Tokens[int], output: bool) -> None:
        self.items.append((sequence, position, list(tokens), output))
        self.rows += len(tokens)

    def add_row(self, sequence: int, position: int, token: int) -> None:
        self.add(sequence, position, [token], True)


@dataclass
class FakeContext:
    """Cells are numbered as llama.cpp fills them; a sequence is a list of (cell, token)."""

    capacity: int
    can_truncate: bool = True
    arena: bool = False  # then cells must lie in the order of their tokens
    scatters: bool = False
    says: Callable[[Tokens[int]], int] = next_token
    seconds_per_step: float = 0.0
    seconds_per_row: float = 0.0
    height: float = 1.0  # of the logit of what it says over all others
    clock: float = 0.0
    handle: None = None
    batch: FakeBatch = field(default_factory=FakeBatch)
    sequences: dict[int, list[tuple[int, int]]] = field(default_factory=dict)
    states: dict[int, list[int]] = field(default_factory=dict)
    steps: list[list[tuple[int, int, list[int], bool]]] = field(default_factory=list)
    statuses: list[Status] = field(default_factory=list)  # of the next decodes, then OK
    copies: int = 0
    shifts: int = 0
    seen: list[int] = field(default_factory=list)  # embeddings of each step that had any

    def _held(self) -> set[int]:
        return {cell for held in self.sequences.values() for cell, _ in held}

    def _place(self, sequence: int, tokens: Tokens[int]) -> None:
        free = sorted(set(range(self.capacity)) - self._held())
        assert len(free) >= len(tokens), "the scheduler promised more cells than there are"
        held = self.sequences.setdefault(sequence, [])
        held.extend(zip(free, tokens, strict=False))
        if self.arena:
            cells = [cell for cell, _ in held]
            assert cells == sorted(cells), "cells out of order"

    def tokens(self, sequence: int) -> list[int]:
        return [token for _, token in self.sequences.get(sequence, [])]

    def decode(self) -> Status:
        self.clock += self.seconds_per_step + self.seconds_per_row * self.batch.rows
        status = self.statuses.pop(0) if self.statuses else Status.OK
        if status is not Status.OK:
            return status
        self.steps.append(self.batch.items)
        rows = []
        for sequence, position, tokens, output in self.batch.items:
            assert position == len(self.tokens(sequence)), "a gap or an overlap of positions"
            self._place(sequence, tokens)
            if output:
                row = np.zeros(VOCABULARY, np.float32)
                row[self.says(self.tokens(sequence))] = self.height
                rows.append(row)
        self._logits = np.array(rows)
        return Status.OK

    def decode_vectors(self, sequence: int, vectors: Vectors, output: bool) -> Status:
        """An embedding is the id that stands for it; positions are those of tokens."""
        tokens = [int(each[0]) for each in vectors.values]
        self.batch.clear()
        self.batch.add(sequence, int(vectors.places[0][0]), tokens, output)
        self.seen.append(len(tokens))
        return self.decode()

    def logits(self, outputs: int) -> np.ndarray:
        assert len(self._logits) == outputs
        return self._logits

    def copy(self, source: int, target: int, length: int) -> None:
        assert not self.sequences.get(target)
        held = len(self.sequences[source])
        assert length <= held if self.can_truncate else length == held
        self.sequences[target] = self.sequences[source][:length]
        self.copies += 1

    def remove(self, sequence: int) -> None:
        assert not self.arena, "an arena has no holes"
        self.sequences.pop(sequence, None)

    def truncate(self, sequence: int, length: int) -> bool:
        if not self.can_truncate:
            return False
        self.sequences[sequence] = self.sequences.get(sequence, [])[:length]
        return True

    def clear(self) -> None:
        self.sequences.clear()

    def shift(self, sequence: int, start: int, count: int) -> None:
        held = self.sequences[sequence]
        moved = {cell for cell, _ in held[start + count :]}
        others = (each for name, each in self.sequences.items() if name != sequence)
        assert not moved & {cell for each in others for cell, _ in each}, "others were moved, too"
        self.sequences[sequence] = held[:start] + held[start + count :]
        self.shifts += 1

    def usable(self, sequence: int, length: int, wanted: int) -> int:
        return wanted if wanted == length or self.can_truncate else 0

    def state_size(self, sequence: int, end: int | None = None) -> int:
        return 8 * len(self.sequences[sequence][:end]) + 8

    def save(self, sequence: int, buffer: np.ndarray, end: int | None = None) -> bool:
        view = buffer.view(np.int64)
        tokens = self.tokens(sequence)[:end]
        view[0] = len(tokens)
        view[1 : len(tokens) + 1] = tokens
        return True

    def load(self, sequence: int, buffer: np.ndarray) -> bool:
        view = buffer.view(np.int64)
        self._place(sequence, view[1 : view[0] + 1].tolist())
        return True


class FakeDraftContext(FakeContext):
    """Nobody keeps books of its cells: it says when there are none left."""

    def decode(self) -> Status:
        if len(self._held()) + self.batch.rows > self.capacity:
            return Status.NO_ROOM
        return super().decode()


def image_tokens(media: Media) -> tuple[int, ...]:
    """An image has as many tokens as its first byte says."""
    return ids(media.digest, 0, media.data[0], 0)


@dataclass
class FakeEncoder:
    """Encodes at once, or when it is told to."""

    causal: bool = True
    holding: bool = False
    started: list[Encoding] = field(default_factory=list)

    def start(self, media: Media, digest: bytes) -> Encoding:
        encoding = Encoding(media, digest)
        tokens = np.array(image_tokens(media), np.float64)
        places = np.arange(len(tokens), dtype=np.int32)[None]
        encoding.parts = [Vectors(tokens[:, None], places, np.ones_like(places), self.causal)]  # type: ignore[arg-type]
        encoding.done = not self.holding
        self.started.append(encoding)
        return encoding

    def release(self) -> None:
        for each in self.started:
            each.done = True


def in_memory() -> PromptCache:
    return PromptCache(MemoryTier(1 << 20, 100, 0, LRU()), None)


class Bench:
    """A runner over the fakes, and what it put out."""

    def __init__(
        self,
        *,
        cells: int = 8192,
        limit: int = 16,
        kept: int = 16,
        rows: int = 512,
        pool: int = 1 << 20,
        max_itl: float = 0.4,
        arena: bool = False,
        cache: PromptCache | None = None,
        min_tokens: int = 16,
        checkpoint_tokens: int = 0,
        fetch_bytes: int = 1 << 30,
        ttl: float = 0.0,
        encoder: FakeEncoder | None = None,
        draft_tokens: int = 0,
        draft: FakeDraftContext | None = None,
        vacates: int | None = None,
        **context: object,
    ) -> None:
        self.context = FakeContext(cells, arena=arena, **context)  # type: ignore[arg-type]
        pacer = Pacer(max_itl, rows)
        whole = not self.context.can_truncate
        self.draft = draft
        keeper = Keeper(cache, self.context, min_tokens=min_tokens, whole=whole) if cache else None
        self.fetcher = Fetcher(cache, lambda: None, fetch_bytes) if cache else None
        self.slots = Slots(
            limit + kept, Cells(cells), self.context, Limits(kept, ttl), keeper=keeper, arena=arena
        )
        self.scheduler = Scheduler(
            self.slots, self.context, Pool(pool), pacer,
            limit=limit, rows=rows, keep=kept > 0 or cache is not None, keeper=keeper,
            fetcher=self.fetcher,
            checkpoints=Checkpoints(checkpoint_tokens, min_tokens) if whole else None,
            encoder=encoder,  # type: ignore[arg-type]
            speculator=self._speculator(pacer, draft_tokens, max_itl) if draft_tokens else None,
            arena=arena, vacates=vacates,
        )  # fmt: skip
        self.runner = Runner(FakeModel(), self.context, self.scheduler, pacer)  # type: ignore[arg-type]
        self.outputs: dict[str, list[Output]] = {}
        self.sink = queue.SimpleQueue().put  # one sink object for all, as a server has

    def _speculator(self, pacer: Pacer, draft_tokens: int, max_itl: float) -> Speculator:
        model = None
        if self.draft:
            model = DraftModel(
                Readings(self.draft),  # type: ignore[arg-type]
                Pacer(SHARE * max_itl, 128),
                rows=128, vocabulary=VOCABULARY, ends=frozenset({END}),
            )  # fmt: skip
        return Speculator(pacer.costs, draft_tokens, max_itl, model)

    @property
    def clock(self) -> float:
        return self.context.clock + (self.draft.clock if self.draft else 0.0)

    def add(
        self, name: str, prompt: Tokens[int], max_tokens: int = 8, *, warm: str = "",
        boundaries: tuple[int, ...] = (), keep: int | None = None, window: int = 0,
        completion: Tokens[int] = (), images: Tokens[Media] = (), tenant: str = "",
        priority: int = 0, prediction: tuple[int, ...] = (), sampler: object = None,
        **fields: object,
    ) -> None:  # fmt: skip
        params = SamplingParams(temperature=0, max_tokens=max_tokens, **fields)  # type: ignore[arg-type]
        request = Request(
            id=name, prompt=tuple(prompt), params=params, warm=warm, boundaries=boundaries,
            keep=keep, completion=tuple(completion), media=tuple(images), prediction=prediction,
            tenant=tenant, priority=priority,
        )  # fmt: skip
        sequence = Sequence(
            request, self.sink, sampler or GreedySampler(), max_tokens,  # type: ignore[arg-type]
            window=window, media=placed(request, image_tokens),
        )  # fmt: skip
        self.runner.add(sequence)
        self.outputs[name] = []

    def step(self) -> list[str]:
        """One step; the names of the requests that it added to."""
        batches = self.runner.step()
        names = []
        for output in batches.get(self.sink, []):
            self.outputs[output.request_id].append(output)
            names.append(output.request_id)
        self.slots.check()
        assert self.slots.cells.used >= len(self.context._held()) or not self.context.arena
        if not self.context.arena:
            assert self.slots.cells.used == len(self.context._held())
        return names

    def run(self, limit: int = 100_000) -> None:
        for _ in range(limit):
            if not self.runner.busy:
                return
            self.step()
        raise AssertionError("the work never ends")

    def text(self, name: str) -> str:
        return "".join(output.text for output in self.outputs[name])

    def last(self, name: str) -> Output:
        return self.outputs[name][-1]

    def check_told(self, name: str, full: str) -> None:
        """Raise AssertionError unless `name` got all of `full`, or was cancelled on the way."""
        if self.last(name).finish_reason == "length":
            assert self.text(name) == full
        else:
            assert self.last(name).finish_reason == "cancelled"
            assert full.startswith(self.text(name))


def text_of(tokens: Tokens[int]) -> str:
    return "".join(f"{token} " for token in tokens)
