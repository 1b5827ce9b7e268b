"""What was asked of the engine and is not answered: what a new one has to be told."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future
from itertools import chain
from typing import Any

import msgspec
from msgspec.structs import replace

from llmengine.core import FinishReason, Output, Request, Sink, Timings, Usage
from llmengine.engine.delivery import Outputs
from llmengine.engine.turnover import Turnover
from llmengine.errors import EngineError, Internal
from llmengine.host import wire
from llmengine.host.channel import packed

SUSPICIOUS = 2  # deaths in a row from which on something is given to an engine alone


class Entry:
    """Anything that a new engine is asked again, and how it fared so far."""

    def __init__(self) -> None:
        self.sent = False  # to the engine of now
        self.deaths = 0  # of engines that had it, in a row, without a sign of progress between
        self.progressed = False  # since it was sent

    @property
    def data(self) -> bytes:
        """The message that asks for it."""
        raise NotImplementedError

    def advance(self) -> None:
        self.progressed, self.deaths = True, 0

    def bereave(self) -> None:
        """Its engine has died."""
        self.deaths += 1
        self.sent = self.progressed = False


class Call(Entry):
    """What has one answer."""

    def __init__(self, message: wire.Message, kind: Any) -> None:
        """`kind` is the type of the answer. Raises UnicodeEncodeError."""
        super().__init__()
        self._data = packed(message)
        self._kind = kind
        self.future: Future[Any] = Future()

    @property
    def data(self) -> bytes:
        return self._data

    def answer(self, result: msgspec.Raw) -> None:
        if self.future.set_running_or_notify_cancel():
            self.future.set_result(msgspec.msgpack.decode(result, type=self._kind))

    def fail(self, error: EngineError) -> None:
        if not self.future.done() and self.future.set_running_or_notify_cancel():
            self.future.set_exception(error)


class Running(Entry):
    """A request, with what was written of it."""

    def __init__(self, request: Request, sink: Sink, call: int = 0) -> None:
        """With a `call`, the engine says whether it accepts it. Raises UnicodeEncodeError."""
        super().__init__()
        self.request = request
        self.sink = sink
        self.call = call
        self.accepted: Future[None] = Future()
        self.cancelled = False
        self._completion: list[int] = []
        self._submitted = self._sent_at = time.monotonic()
        self._first: bytes | None = packed(wire.Submit(request, call))

    @property
    def data(self) -> bytes:
        data, self._first = self._first, None
        if data is None:
            self._sent_at = time.monotonic()
            request = replace(self.request, completion=tuple(self._completion))
            data = packed(wire.Submit(request, self.call))
        return data

    def accept(self, error: EngineError | None = None) -> None:
        self.call = 0
        if error:
            self.accepted.set_exception(error)
        elif not self.accepted.done():
            self.accepted.set_result(None)

    def saw(self, output: Output) -> Output:
        """Note an output, and correct what the engine of now can't know."""
        if output.token_ids:
            self._completion += output.token_ids
            self.advance()
        if output.timings is None:
            return output
        lost = self._sent_at - self._submitted
        queued, prefill, decode = msgspec.structs.astuple(output.timings)
        return replace(output, timings=Timings(queued, prefill, decode + lost))

    def last(self, reason: FinishReason, error: EngineError | None = None) -> Output:
        """The last output, where no engine gives one."""
        return Output(
            self.request.id,
            finish_reason=reason,
            usage=Usage(len(self.request.prompt), len(self._completion)),
            timings=Timings(0.0, 0.0, time.monotonic() - self._submitted),
            error=error.info if error else None,
        )


class Journal:
    """Not thread-safe: whoever holds it has a lock."""

    def __init__(self, max_resumes: int) -> None:
        self.requests: dict[str, Running] = {}
        self.calls: dict[int, Call] = {}
        self.accepted = 0  # requests so far
        self.finished: Counter[str] = Counter()  # those that ended, by how
        self.active: set[str] = set()  # the ids of the others
        self.turnover = Turnover(time.monotonic())
        self._accepting: dict[int, Running] = {}
        self._max_resumes = max_resumes
        self._unsent: dict[Entry, None] = {}  # in the order of their arrival

    @property
    def entries(self) -> Iterator[Entry]:
        return chain(self.requests.values(), self.calls.values())

    def add(self, running: Running) -> None:
        self._admit(running.request.id)
        self.requests[running.request.id] = running
        self._unsent[running] = None
        if running.call:
            self._accepting[running.call] = running
        else:
            running.accept()

    def ask(self, number: int, call: Call, job: str = "") -> None:
        """`job` names a call that counts as a request; `finish` hears of its end."""
        if job:
            self._admit(job)
        self.calls[number] = call
        self._unsent[call] = None

    def finish(self, job: str, number: int, future: Future[Any]) -> bool:
        """Count the end of a call's future; whether the engine does not know of it."""
        failed = not future.cancelled() and future.exception()
        self._end(job, "cancelled" if future.cancelled() else "error" if failed else "stop")
        return self._settled(number) is not None

    def _admit(self, job: str) -> None:
        self.accepted += 1
        self.active.add(job)

    def _end(self, job: str, reason: FinishReason) -> None:
        self.finished[reason] += 1
        self.active.discard(job)
        self.turnover.ended(1, time.monotonic())

    def due(self) -> list[Entry]:
        """What to send now. Of what may have killed two engines, one at a time is tried."""
        found = [each for each in self._unsent if each.deaths < SUSPICIOUS]
        suspects = [each for each in self._unsent if each.deaths >= SUSPICIOUS]
        if suspects and not any(self._on_trial):
            found.append(min(suspects, key=lambda each: each.deaths))
        for each in found:
            del self._unsent[each]
            each.sent = True
        return found

    @property
    def _on_trial(self) -> Iterator[bool]:
        return (each.sent and each.deaths >= SUSPICIOUS for each in self.entries)

    def saw(self, outputs: Iterable[Output]) -> Outputs:
        """Note what a step gave; whom to tell."""
        found: Outputs = {}
        for output in outputs:
            running = self.requests.get(output.request_id)
            if running is not None:
                found.setdefault(running.sink, []).append(running.saw(output))
                if output.finish_reason:
                    self._forget(running, output.finish_reason)
        return found

    def answer(self, number: int, result: msgspec.Raw) -> None:
        if running := self._accepting.pop(number, None):
            running.accept()
        elif call := self._settled(number):
            call.answer(result)

    def refuse(self, number: int, error: EngineError) -> None:
        if running := self._accepting.pop(number, None):
            self.accepted -= 1
            self.active.discard(running.request.id)
            self._drop(running)
            running.accept(error)
        elif call := self._settled(number):
            call.fail(error)

    def _settled(self, number: int) -> Call | None:
        """The call that has its answer now; None where nobody waits for it any more."""
        call = self.calls.pop(number, None)
        if call:
            self._unsent.pop(call, None)
        return call

    def end(
        self, running: Sequence[Running], reason: FinishReason, error: EngineError | None = None
    ) -> Outputs:
        """End requests of which no engine knows."""
        found: Outputs = {}
        for each in running:
            found.setdefault(each.sink, []).append(each.last(reason, error))
            self._forget(each, reason)
        return found

    def _forget(self, running: Running, reason: FinishReason) -> None:
        self._end(running.request.id, reason)
        self._drop(running)
        self._accepting.pop(running.call, None)
        running.accept()

    def _drop(self, running: Running) -> None:
        self._unsent.pop(running, None)
        del self.requests[running.request.id]

    def refuse_all(self, error: EngineError) -> None:
        """Fail what has one answer, and what waits to be accepted."""
        for number in [*self._accepting, *self.calls]:
            self.refuse(number, error)

    def late(self, now: float) -> list[Running]:
        """Requests past their deadline that no engine watches."""
        unsent = [each for each in self._unsent if isinstance(each, Running)]
        deadlines = [(each, each.request.deadline) for each in unsent]
        return [each for each, at in deadlines if at is not None and at <= now]

    def died(self) -> Outputs:
        """The engine is dead: all that it had is due again, but for what has killed it.

        That is known of what was its only work without progress.
        """
        sent = [each for each in self.entries if each.sent]
        suspects = [each for each in sent if not each.progressed]
        for each in sent:
            each.bereave()
        self._unsent = dict.fromkeys(self.entries)
        cancelled = [each for each in self.requests.values() if each.cancelled]
        found = self.end(cancelled, "cancelled")
        if len(suspects) == 1 and suspects[0].deaths > self._max_resumes:
            for sink, outputs in self._condemn(suspects[0]).items():
                found.setdefault(sink, []).extend(outputs)
        return found

    def _condemn(self, entry: Entry) -> Outputs:
        times = f"{entry.deaths} time{'s' * (entry.deaths > 1)}"
        error = Internal(f"the engine died over this {times}: it is not tried again")
        for number in [n for n, each in (self.calls | self._accepting).items() if each is entry]:
            self.refuse(number, error)
        left = [each for each in self.requests.values() if each is entry]
        return self.end(left, "error", error)
