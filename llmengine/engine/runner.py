"""The engine's step: schedule, decode, postprocess."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable
from functools import partial

from llmengine.core import FinishReason, Output
from llmengine.engine import rows
from llmengine.engine.chosen import Chosen, choose, ends, release
from llmengine.engine.delivery import Outputs
from llmengine.engine.mix import mix_of
from llmengine.engine.pacer import Pacer
from llmengine.engine.progress import ProgressReports
from llmengine.engine.scheduler import Scheduler
from llmengine.engine.sequence import Sequence
from llmengine.engine.work import Work
from llmengine.errors import DeadlineExceeded, EngineError, Internal, OutOfMemory
from llmengine.llama.context import Context, Status
from llmengine.llama.model import Model

log = logging.getLogger("llmengine.engine")


class Runner:
    """Runs sequences through a context. Only the engine's thread may use it."""

    def __init__(self, model: Model, context: Context, scheduler: Scheduler, pacer: Pacer) -> None:
        self.finished: Counter[str] = Counter()
        self.steps = self.prompt_tokens = self.cached_tokens = 0
        self.prefilled_tokens = self.completion_tokens = 0
        self.drafted_tokens = self.accepted_tokens = 0
        self.prefill_seconds = self.decode_seconds = self.last_step_seconds = 0.0
        self._model = model
        self._context = context
        self._scheduler = scheduler
        self._pacer = pacer
        self._outputs: Outputs = {}
        self._step: list[Work] = []  # being computed
        self._progress = ProgressReports(scheduler.waiting)

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
            self._progress.watch(sequence)

    def step(self) -> Outputs:
        """Compute one batch; returns what it added to each request, by sink."""
        self._expire()
        step = self._scheduler.schedule()
        if step:
            status, sampled = self._decode(step)
            self._postprocess(step, status, sampled)
        for sequence, told in self._progress.news():
            self._emit(sequence, told)
        outputs, self._outputs = self._outputs, {}
        return outputs

    # Decode

    def _decode(self, step: list[Work]) -> tuple[Status, list[tuple[Work, int]]]:
        """Compute the step; with it come the works that have logits now, and their first rows."""
        context, first = self._context, step[0]
        if first.sequence.coming:  # a step of embeddings
            slot = first.sequence.slot
            assert slot is not None
            decode = partial(context.decode_vectors, slot.id, rows.vectors(first), first.output)
            return self._compute(step, decode), [(first, first.count - 1)] * first.output
        context.batch.clear()
        sampled = rows.fill(context.batch, step)
        return self._compute(step, context.decode), sampled

    def _compute(self, step: list[Work], decode: Callable[[], Status]) -> Status:
        self._step = step
        self._pacer.prepare(prompts=not step[-1].decoding)  # they come last
        started = time.perf_counter()
        status = decode()
        self._measure(step, status, time.perf_counter() - started)
        self._step = []
        return status

    def _measure(self, step: list[Work], status: Status, seconds: float) -> None:
        decoding = prefilled = drafted = 0
        for work in step:
            if work.decoding:
                decoding += 1
                drafted += len(work.draft)
            else:
                prefilled += work.count
        if prefilled:
            self._pacer.prefilled(mix_of(step, self._scheduler.slots.running_cells), seconds)
        else:
            self._pacer.decoded(decoding, seconds, drafted)
        seconds += self._scheduler.drafting_seconds
        self.steps += 1
        self.last_step_seconds = seconds
        if prefilled:
            self.prefill_seconds += seconds
            self.prefilled_tokens += prefilled if status is Status.OK else 0
        else:
            self.decode_seconds += seconds

    # Postprocess

    def _postprocess(
        self, step: list[Work], status: Status, sampled: list[tuple[Work, int]]
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
                "raise cache.max_size_mb or cache.disk_max_size_mb, or unpin others"
            )
            self.fail(sequence, error)

    def _relieve(self, step: list[Work]) -> None:
        """llama.cpp found no room where our books said there is some: make more of it."""
        log.warning("llama.cpp found no room for a batch of %d sequences", len(step))
        if len(self._scheduler.running) > 1 or self._scheduler.slots.idle:
            self._scheduler.make_room()
        else:
            self.fail(step[0].sequence, OutOfMemory("the KV cache has no room for this request"))

    def _sample(self, sampled: list[tuple[Work, int]]) -> None:
        if not sampled:
            return
        logits = self._context.logits(sum(1 + len(work.draft) for work, _ in sampled))
        chosen, start = [], 0
        # All tokens are chosen before any is looked at: sampling runs through megabytes, and what
        # comes after it would find the caches of the processor cold each time.
        for work, row in sampled:
            end = start + 1 + len(work.draft)
            chosen.append(choose(self._model, self._context, work, row, logits[start:end]))
            start = end
        now = time.monotonic()
        for found in chosen:
            sequence = found.work.sequence
            if found.tokens:
                if sequence.first_token is None:
                    sequence.first_token = now
                    sequence.encodings.clear()
                    self._count_prompt(sequence)
                self._append(found)
            if found.error and sequence.slot:
                self.fail(sequence, found.error)

    def _count_prompt(self, sequence: Sequence) -> None:
        self.prompt_tokens += sequence.prompt_length
        self.cached_tokens += sequence.cached_tokens

    def _append(self, found: Chosen) -> None:
        """Add what was sampled, up to an end, and report what is sure of the text."""
        work, text, reason, taken = found.work, "", None, 0
        sequence = work.sequence
        while reason is None and taken < len(found.tokens):
            more, reason = self._take(found, taken)
            text += more
            taken += 1
        sequence.held_logprobs += found.logprobs[:taken]
        self.completion_tokens += taken
        if work.draft:
            accepted = min(found.accepted, taken)
            self._scheduler.settle(work, accepted)
            self.drafted_tokens += len(work.draft)
            self.accepted_tokens += accepted
        if reason:
            self._finish(sequence, reason, text)
        elif text:
            self._report(sequence, text)

    def _take(self, found: Chosen, at: int) -> tuple[str, FinishReason | None]:
        """Add one token; the text that is sure now, and whether it was the last."""
        sequence, token = found.work.sequence, found.tokens[at]
        sequence.tokens.append(token)
        if ends(self._model, sequence, token):
            return sequence.text.flush(), "stop"
        text = sequence.text.push(self._model.piece(token, sequence.request.special))
        if sequence.text.stop is not None:
            return text, "stop"
        # The sampler is ahead of all but its newest token.
        if at == len(found.tokens) - 1 and sequence.sampler.ended:
            return text + sequence.text.flush(), "stop"
        if sequence.left <= 0:
            return text + sequence.text.flush(), "length"
        return text, None

    def _report(self, sequence: Sequence, text: str) -> None:
        logprobs = release(sequence, text) if sequence.held_logprobs else ()
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
        self._progress.forget(sequence)
        logprobs = release(sequence, text)
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
