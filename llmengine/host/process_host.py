"""The engine in a process of its own, as its clients see it."""

from __future__ import annotations

import itertools
import secrets
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import TypeVar

from msgspec.structs import replace

from llmengine.config import Config
from llmengine.core import CacheControl, HostState, Media, ModelInfo, Request, Sink, Stats
from llmengine.engine.check import check_inputs, check_media, check_request, check_room
from llmengine.engine.delivery import deliver
from llmengine.errors import InvalidRequest
from llmengine.host import wire
from llmengine.host.channel import packed
from llmengine.host.child import Child
from llmengine.host.journal import Call, Running
from llmengine.host.remote_cache import Method, RemoteCache
from llmengine.host.supervisor import Supervisor
from llmengine.loading import Loading

T = TypeVar("T")


class ProcessHost:
    """Implements `llmengine.core.Host`. When the process is lost, a new one goes on."""

    def __init__(
        self,
        config: Config,
        loading: Loading | None = None,
        *,
        launch: Callable[[Config], Child] = Child,
    ) -> None:
        """Load the model in a new process; raises what `Engine` does."""
        self._config = config
        self._supervisor = Supervisor(config, loading, launch)
        self._numbers = itertools.count(1)
        self._pieces: dict[int, bytes] = {}  # of the tokens that somebody asked for
        self._cache = RemoteCache(self._ask_cache, lambda: self._supervisor.ready)

    def __enter__(self) -> ProcessHost:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # Requests

    def submit(self, request: Request, sink: Sink) -> None:
        check_request(request, self.info(), self._config.cache)
        if request.params.seed is None:  # it goes on with the same one
            seeded = replace(request.params, seed=secrets.randbits(32))
            request = replace(request, params=seeded)
        constrained = request.params.enforced is not None
        call = next(self._numbers) if constrained else 0
        running = _checked(lambda: Running(request, sink, call))
        supervisor = self._supervisor
        with supervisor.lock:
            self._check(request.id)
            supervisor.journal.add(running)
            supervisor.send_due()
        running.accepted.result()

    def embed(self, inputs: Sequence[Sequence[int]]) -> Future[list[bytes]]:
        check_inputs(inputs, self.info())
        number = next(self._numbers)
        call = Call(wire.Embed(number, tuple(map(tuple, inputs))), list[bytes])
        job = f"embed-{number}"
        supervisor = self._supervisor
        with supervisor.lock:
            self._check(job)
            supervisor.journal.ask(number, call, job)
            supervisor.send_due()

        def done(future: Future[list[bytes]]) -> None:
            with supervisor.lock:
                if supervisor.journal.finish(job, number, future):
                    supervisor.send(packed(wire.Abandon(number)))
                supervisor.lock.notify_all()

        call.future.add_done_callback(done)
        return call.future

    def _check(self, job: str) -> None:
        self._supervisor.check()
        journal = self._supervisor.journal
        check_room(job, journal.active, self._config, journal.turnover)

    def cancel(self, request_id: str) -> None:
        supervisor = self._supervisor
        with supervisor.lock:
            running = supervisor.journal.requests.get(request_id)
            if running is None:
                return
            running.cancelled = True
            if running.sent:
                supervisor.send(packed(wire.Cancel(request_id)))
                return
            ended = supervisor.journal.end([running], "cancelled")
            supervisor.lock.notify_all()
        deliver(ended)

    def drain(self, timeout: float) -> bool:
        supervisor = self._supervisor
        with supervisor.lock:
            supervisor.accepting = False
            return supervisor.lock.wait_for(lambda: not supervisor.journal.active, timeout)

    def close(self) -> None:
        self._supervisor.close()

    # What is answered once

    def tokenize(self, text: str, *, special: bool = False, bos: bool = False) -> list[int]:
        return self._ask(lambda number: wire.Tokenize(number, text, special, bos), list[int])

    def media_tokens(self, media: Media) -> tuple[int, ...]:
        check_media(media, self.info())
        return self._ask(lambda number: wire.MediaTokens(number, media), tuple[int, ...])

    def detokenize(self, tokens: Sequence[int]) -> str:
        return self._ask(lambda number: wire.Detokenize(number, tuple(tokens)), str)

    def piece(self, token: int) -> bytes:
        found = self._pieces.get(token)
        if found is None:
            found = self._pieces[token] = self._ask(lambda n: wire.Piece(n, token), bytes)
        return found

    def cache(self) -> CacheControl | None:
        return self._cache if self._config.cache.enabled else None

    def _ask_cache(self, kind: type[T], method: Method, *arguments: str | bool) -> T:
        return self._ask(lambda number: wire.AskCache(number, method, arguments), kind)

    def _ask(self, message: Callable[[int], wire.Message], kind: type[T]) -> T:
        """The answer, of the type `kind`; also of a new engine, where one is lost over it."""
        number = next(self._numbers)
        call = _checked(lambda: Call(message(number), kind))
        supervisor = self._supervisor
        with supervisor.lock:
            supervisor.check()
            supervisor.journal.ask(number, call)
            supervisor.send_due()
        found: T = call.future.result()
        return found

    # What is known here

    def info(self) -> ModelInfo:
        return self._supervisor.info

    def stats(self) -> Stats:
        with self._supervisor.lock:
            return self._supervisor.counters.total(self._supervisor.journal)

    def state(self) -> HostState:
        return self._supervisor.state


def _checked(make: Callable[[], T]) -> T:
    """What is to be sent, its text found valid."""
    try:
        return make()
    except UnicodeEncodeError as error:
        raise InvalidRequest(
            f"the text has a lone surrogate at character {error.start}: send valid Unicode"
        ) from None
