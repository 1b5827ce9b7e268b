"""One generation: its request, its tokens and where it stands."""

from __future__ import annotations

import time
from array import array
from collections.abc import Sequence as Tokens
from typing import TYPE_CHECKING

from llmengine.core import Request, Sink, Timings, TokenLogprob, Usage
from llmengine.engine.placed import Placed
from llmengine.engine.pool import Region
from llmengine.engine.text import TextStream

if TYPE_CHECKING:
    from llmengine.engine.drafter import Drafter
    from llmengine.engine.encoder import Encoding
    from llmengine.engine.fast_forward import FastForward
    from llmengine.engine.fetcher import Fetch
    from llmengine.engine.forecast import Forecast
    from llmengine.engine.slot import Slot
    from llmengine.llama.sampler import Sampler


class Sequence:
    """All state of a request in the engine. Tokens are the prompt's, then the completion's."""

    def __init__(
        self,
        request: Request,
        sink: Sink,
        sampler: Sampler,
        room: int,
        scope: str = "",
        window: int = 0,
        media: tuple[Placed, ...] = (),
    ) -> None:
        """`room` is the number of tokens that the completion may have at most.

        Prefixes are shared within one `scope` only. With a `request.keep`, a sequence of `window`
        tokens is full. `media` are in the prompt.
        """
        self.scope = scope
        self.request = request
        self.sink = sink
        self.sampler = sampler
        self.longest = len(request.prompt) + room  # tokens
        self.window = window
        self.dropped = 0  # tokens that made room for later ones
        self.moved = False  # whether its KV is complete only after the next step
        # A token's log-probability comes with its text: no text of a token that is held in part.
        self.text = TextStream(request.params.stop, whole=request.params.logprobs is not None)
        self.tokens = array("i", request.prompt)
        self.media = media
        self.encodings: dict[bytes, Encoding] = {}  # of what is still to be computed, by digest
        self.held = False  # whether it was to wait when last looked at
        self.checkpoints: tuple[int, ...] = ()  # where its state is kept, in tokens, ascending
        self.slot: Slot | None = None
        self.fetch: Fetch | None = None  # a stored state that it is to start from
        self.saved: Region | None = None  # the state of a preempted sequence
        self.saved_length = 0  # tokens in that state
        self.cached_tokens = 0
        self.drafter: Drafter | None = None  # once it decodes, where drafts are made
        self.fast_forward: FastForward | None = None  # the same, where it follows a grammar
        self.forecast: Forecast | None = None  # where a draft model makes them
        self.held_logprobs: list[TokenLogprob] = []  # of text that is held back
        self.reported = len(self.tokens)  # tokens that outputs had
        self._unreported = array("i")  # those before that were dropped first
        self.turn = (0.0, 0)  # its place among the waiting ones of its tenant
        self.submitted = time.monotonic()
        self.started: float | None = None  # when it first got a slot
        self.first_token: float | None = None
        self._go_on(request.completion)

    def _go_on(self, completion: Tokens[int]) -> None:
        """Stand where an earlier sequence was that had written this, and dropped what it did."""
        for token in completion:
            self.tokens.append(token)
            self.reported = len(self.tokens)
            if self.full:
                self.drop(*self.oldest)

    @property
    def id(self) -> str:
        return self.request.id

    @property
    def prompt_length(self) -> int:
        return len(self.request.prompt)

    @property
    def completion_length(self) -> int:
        return len(self.tokens) + self.dropped - self.prompt_length

    @property
    def full(self) -> bool:
        """Whether its oldest tokens have to go before the next one is computed."""
        return self.request.keep is not None and len(self.tokens) >= self.window

    @property
    def oldest(self) -> tuple[int, int]:
        """Where those tokens begin that go first, and how many: half of what may go."""
        keep = self.request.keep or 0
        return keep, (len(self.tokens) - keep) // 2

    def drop(self, start: int, count: int) -> None:
        """Forget `count` tokens from `start` on.

        What is computed after them has seen them: no other prompt may start from it.
        """
        end = start + count
        self._unreported.extend(self.tokens[self.reported : end])
        self.reported = max(self.reported, end) - count
        del self.tokens[start:end]
        self.dropped += count
        self.longest -= count
        self.checkpoints = ()
        self.scope = f"of {self.id} alone"

    def start_from(self, cached: int) -> None:
        """Note how much of the prompt was at hand; what is computed again later is not counted."""
        if self.first_token is None:
            self.cached_tokens = min(cached, self.prompt_length)

    @property
    def computed(self) -> int:
        """Tokens whose KV is in the slot."""
        return self.slot.length if self.slot else 0

    @property
    def pending(self) -> int:
        """Tokens still to be computed before the next one can be sampled.

        At least 1, but for a request that samples none.
        """
        return len(self.tokens) - self.computed

    @property
    def ahead(self) -> int:
        """Tokens that may be computed in one step: those up to a checkpoint or an image."""
        computed = self.computed
        ends = [each for each in self.checkpoints if each > computed][:1]
        ends += [each.span.start for each in self.media if each.span.start > computed][:1]
        return min(ends, default=len(self.tokens)) - computed

    @property
    def coming(self) -> Placed | None:
        """The part of an image or a recording whose embeddings come next."""
        if not self.media:
            return None
        computed = self.computed
        return next((each for each in self.media if computed in each.span), None)

    @property
    def blind(self) -> bool:
        """Whether it has to compute an image again whose embeddings were let go."""
        computed = self.computed
        missing = (
            each.digest not in self.encodings for each in self.media if each.span.end > computed
        )
        return any(missing)

    def position(self, index: int) -> int:
        """The position of a token."""
        if not self.media:
            return index
        return index - sum(each.span.skip for each in self.media if each.span.start < index)

    @property
    def ready(self) -> bool:
        """Whether something that it waited for is there now."""
        if self.fetch:
            return self.fetch.done
        encodings = self.encodings.values()
        return bool(encodings) and all(each.done for each in encodings)

    @property
    def left(self) -> int:
        """Tokens that it may still get."""
        return self.longest - len(self.tokens)

    @property
    def space(self) -> int:
        """Tokens that it may get in one step."""
        keeps = self.request.keep is not None
        return min(self.left, self.window - len(self.tokens)) if keeps else self.left

    @property
    def decoding(self) -> bool:
        """Whether one more token is all it needs, as in every step after prefill."""
        return self.pending == 1 and self.first_token is not None

    def report(self) -> tuple[int, ...]:
        """The tokens of the next output: those that no output had."""
        found = (*self._unreported, *self.tokens[self.reported :])
        self._unreported, self.reported = array("i"), len(self.tokens)
        return found

    @property
    def usage(self) -> Usage:
        hits = self.drafter.hits if self.drafter else 0
        return Usage(
            self.prompt_length,
            self.completion_length,
            self.cached_tokens,
            self.dropped,
            accepted_prediction_tokens=hits,
            rejected_prediction_tokens=len(self.request.prediction) - hits,
        )

    def timings(self, now: float) -> Timings:
        started = self.started or now
        first = self.first_token or now
        return Timings(started - self.submitted, max(first - started, 0.0), max(now - first, 0.0))
