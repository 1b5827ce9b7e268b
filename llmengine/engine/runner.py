"""The engine's step: schedule, decode, postprocess."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable
from functools import partial

from llmengine.core import FinishReason, Output, Sink, TokenLogprob
from llmengine.engine.pacer import Pacer
from llmengine.engine.scheduler import Scheduler, Work
from llmengine.engine.sequence import Sequence
from llmengine.errors import DeadlineExceeded, EngineError, Internal, OutOfMemory
from llmengine.llama import sampler
from llmengine.llama.context import Context, Logits, Status
from llmengine.llama.model import Model

log = logging.getLogger("llmengine.engine")

Outputs = dict[Sink, list[Output]]


class Runner:
    """Runs sequences through a context. Only the engine's thread may use it."""

    def __init__(self, model: Model, context: Context, scheduler: Scheduler, pacer: Pacer) -> None:
        self.finished: Counter[str] = Counter()
        self.steps = self.prompt_tokens = self.cached_tokens = 0
        self.prefilled_tokens = self.completion_tokens = 0
        self.prefill_seconds = self.decode_seconds = self.last_step_seconds = 0.0
        self._model = model
        self._context = context
        self._scheduler = scheduler
        self._pacer = pacer
        self._outputs: Outputs = {}
        self._step: list[Work] = []  # being computed

    @property
    def in_step(self) -> frozenset[str]:
        """The ids of the requests that are being computed; from any thread."""
        return frozenset(work.sequence.id for work in self._step)

    @property
    def busy(self) -> bool:
        """Whether a step has anything to do, be it only to hand out what is left."""
        return bool(self._scheduler.running or self._scheduler.waiting or self._outputs)

    @property
    def blocked(self) -> bool:
        """Whether a step would do nothing before another thread is done."""
        return self._scheduler.reading and not self._outputs

    @property
    def patience(self) -> float | None:
        """Seconds until the next deadline of a request; None: there is none."""
        requests = [each.request for each in self._scheduler.sequences]
        deadlines = [each.deadline for each in requests if each.deadline is not None]
        return max(0.0, min(deadlines) - time.monotonic()) if deadlines else None

    def add(self, sequence: Sequence) -> None:
        """Queue a sequence, unless the prompt it is to keep is there already."""
        if sequence.request.warm and self._scheduler.is_kept(sequence):
            sequence.cached_tokens = sequence.prompt_length
            self._count_prompt(sequence)
            self._end(sequence, "stop", "", None)
        else:
            self._scheduler.add(sequence)

    def step(self) -> Outputs:
        """Compute one batch; returns what it added to each request, by sink."""
        self._expire()
        step = self._scheduler.schedule()
        if step:
            status, sampled = self._decode(step)
            self._postprocess(step, status, sampled)
        outputs, self._outputs = self._outputs, {}
        return outputs

    # Decode

    def _decode(self, step: list[Work]) -> tuple[Status, list[tuple[Sequence, int]]]:
        """Compute the step; with it come the sequences that have logits now, and their rows."""
        if step[0].sequence.coming:
            return self._decode_vectors(step[0])
        batch = self._context.batch
        batch.clear()
        sampled = []
        for work in step:
            sequence, slot = work.sequence, work.sequence.slot
            assert slot is not None
            start = slot.length
            position = sequence.position(start)
            if work.decoding:
                batch.add_row(slot.id, position, sequence.tokens[start])
            else:
                tokens = sequence.tokens[start : start + work.count]
                batch.add(slot.id, position, tokens, work.output)
            if work.output:
                sampled.append((sequence, batch.rows - 1))
        return self._compute(step, self._context.decode), sampled

    def _decode_vectors(self, work: Work) -> tuple[Status, list[tuple[Sequence, int]]]:
        """As `_decode`, a step of embeddings."""
        sequence, slot, coming = work.sequence, work.sequence.slot, work.sequence.coming
        assert slot is not None
        assert coming is not None
        vectors = (
            sequence.encodings[coming.digest]
            .parts[coming.part]
            .rows(slot.length - coming.span.start, work.count, sequence.position(coming.span.start))
        )
        decode = partial(self._context.decode_vectors, slot.id, vectors, work.output)
        return self._compute([work], decode), [(sequence, work.count - 1)] * work.output

    def _compute(self, step: list[Work], decode: Callable[[], Status]) -> Status:
        self._step = step
        started = time.perf_counter()
        status = decode()
        self._measure(step, status, time.perf_counter() - started)
        self._step = []
        return status

    def _measure(self, step: list[Work], status: Status, seconds: float) -> None:
        decoding = prefilled = 0
        for work in step:
            if work.decoding:
                decoding += 1
            else:
                prefilled += work.count
        self._pacer.observe(decoding, prefilled, seconds)
        self.steps += 1
        self.last_step_seconds = seconds
        if prefilled:
            self.prefill_seconds += seconds
            self.prefilled_tokens += prefilled if status is Status.OK else 0
        else:
            self.decode_seconds += seconds

    # Postprocess

    def _postprocess(
        self, step: list[Work], status: Status, sampled: list[tuple[Sequence, int]]
    ) -> None:
        if status is Status.OK:
            self._scheduler.commit(step)
            self._sample(sampled)
            for work in reversed(step):
                if work.decoding:
                    break  # and so are all before it
                if work.sequence.request.warm and not work.sequence.pending:
                    self._keep(work.sequence)
            return
        for work in step:
            if work.sequence.slot:
                self._scheduler.slots.rollback(work.sequence.slot)
        if status is Status.NO_ROOM:
            self._relieve(step)
        elif status is Status.FAILED:
            for work in step:
                self.fail(work.sequence, Internal("llama.cpp could not compute the batch"))

    def _keep(self, sequence: Sequence) -> None:
        """End a request whose prompt was to be computed and kept, and nothing more."""
        self._count_prompt(sequence)
        if self._scheduler.keep(sequence):
            self._finish(sequence, "stop")
        else:
            error = OutOfMemory(
                f"the prompt cache has no room to keep {sequence.prompt_length} tokens: "
                "raise cache.max_size_mb or unpin others"
            )
            self.fail(sequence, error)

    def _relieve(self, step: list[Work]) -> None:
        """llama.cpp found no room where our books said there is some: make more of it."""
        log.warning("llama.cpp found no room for a batch of %d sequences", len(step))
        if len(self._scheduler.running) > 1 or self._scheduler.slots.idle:
            self._scheduler.make_room()
        else:
            self.fail(step[0].sequence, OutOfMemory("the KV cache has no room for this request"))

    def _sample(self, sampled: list[tuple[Sequence, int]]) -> None:
        if not sampled:
            return
        logits = self._context.logits(len(sampled))
        # All tokens are chosen before any is looked at: sampling runs through megabytes, and what
        # comes after it would find the caches of the processor cold each time.
        chosen = [
            (sequence, self._choose(sequence, row, values))
            for (sequence, row), values in zip(sampled, logits, strict=True)
        ]
        now = time.monotonic()
        for sequence, token in chosen:
            if token is None:
                continue
            if sequence.first_token is None:
                sequence.first_token = now
                sequence.encodings.clear()
                self._count_prompt(sequence)
            self._append(sequence, token)

    def _count_prompt(self, sequence: Sequence) -> None:
        self.prompt_tokens += sequence.prompt_length
        self.cached_tokens += sequence.cached_tokens

    def _choose(self, sequence: Sequence, row: int, logits: Logits) -> int | None:
        """The next token; None if there is none, which ends the request."""
        try:
            token = sequence.sampler.sample(self._context.handle, row, logits)
            wanted = sequence.request.params.logprobs
            if wanted is not None:
                found = sampler.logprobs(self._model, logits, token, wanted)
                sequence.held_logprobs.append(found)
            return token
        except EngineError as error:
            self.fail(sequence, error)
        except Exception:
            log.exception("request %s failed while sampling", sequence.id)
            self.fail(sequence, Internal("the next token could not be chosen"))
        return None

    def _append(self, sequence: Sequence, token: int) -> None:
        """Add a sampled token and report what is sure of the text."""
        sequence.tokens.append(token)
        self.completion_tokens += 1
        params = sequence.request.params
        if token in self._model.end_tokens and params.ends_at_eos:
            self._finish(sequence, "stop", sequence.text.flush())
            return
        text = sequence.text.push(self._model.piece(token, sequence.request.special))
        if sequence.text.stop is not None:
            self._finish(sequence, "stop", text)
        elif sequence.sampler.ended:
            self._finish(sequence, "stop", text + sequence.text.flush())
        elif len(sequence.tokens) >= sequence.longest:
            self._finish(sequence, "length", text + sequence.text.flush())
        elif text:
            self._report(sequence, text)

    def _report(self, sequence: Sequence, text: str) -> None:
        logprobs = _release(sequence, text) if sequence.held_logprobs else ()
        self._emit(sequence, Output(sequence.request.id, text, sequence.report(), logprobs))

    def _emit(self, sequence: Sequence, output: Output) -> None:
        self._outputs.setdefault(sequence.sink, []).append(output)

    # The end of a request

    def _finish(
        self,
        sequence: Sequence,
        reason: FinishReason,
        text: str = "",
        error: EngineError | None = None,
    ) -> None:
        self._scheduler.remove(sequence, keep=reason != "error")
        self._end(sequence, reason, text, error)

    def _end(
        self, sequence: Sequence, reason: FinishReason, text: str, error: EngineError | None
    ) -> None:
        """Report the end of a sequence that the scheduler has forgotten."""
        logprobs = _release(sequence, text)
        self.finished[reason] += 1
        self._emit(
            sequence,
            Output(
                sequence.id,
                text,
                token_ids=sequence.report(),
                logprobs=logprobs,
                finish_reason=reason,
                stop=sequence.text.stop,
                usage=sequence.usage,
                timings=sequence.timings(time.monotonic()),
                error=error.info if error else None,
            ),
        )

    def fail(self, sequence: Sequence, error: EngineError) -> None:
        self._finish(sequence, "error", error=error)

    def cancel(self, request_id: str) -> None:
        for sequence in self._scheduler.sequences:
            if sequence.id == request_id:
                self._finish(sequence, "cancelled", sequence.text.flush())

    def end_all(self, reason: FinishReason, error: EngineError | None = None) -> Outputs:
        """End every request, as when the engine closes, whatever became of the books."""
        self._step = []
        for sequence in self._scheduler.clear():
            self._end(sequence, reason, "", error)
        outputs, self._outputs = self._outputs, {}
        return outputs

    def _expire(self) -> None:
        now = time.monotonic()
        for sequence in self._scheduler.sequences:
            errors = [each.error for each in sequence.encodings.values() if each.error]
            if errors:
                self.fail(sequence, errors[0])
                continue
            deadline = sequence.request.deadline
            if deadline is not None and deadline <= now:
                self.fail(sequence, DeadlineExceeded("the request's deadline has passed"))


def _release(sequence: Sequence, text: str) -> tuple[TokenLogprob, ...]:
    """The log-probabilities that belong to reported text; those of a stop string are dropped."""
    held, sequence.held_logprobs = sequence.held_logprobs, []
    if sequence.text.stop is None:
        return tuple(held)
    left = len(text.encode())
    kept = []
    for each in held:
        if left <= 0:
            break
        kept.append(each)
        left -= len(each.piece)
    return tuple(kept)
