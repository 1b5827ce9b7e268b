"""The engine: a model on a thread of its own that many requests share."""

from __future__ import annotations

import functools
import logging
import os
import threading
import time
from collections.abc import Callable
from collections.abc import Sequence as Tokens
from concurrent.futures import Future
from queue import Empty, SimpleQueue

from msgspec.structs import replace

from llmengine.cache.prompt_cache import PromptCache
from llmengine.config import Config
from llmengine.core import CacheControl, HostState, Media, ModelInfo, Request, Sink, Stats
from llmengine.engine import drafting, fit, sizing
from llmengine.engine.build import build
from llmengine.engine.cache_control import EngineCache
from llmengine.engine.check import check_inputs, check_media, check_request, check_spans
from llmengine.engine.delivery import Outputs, deliver
from llmengine.engine.describe import counted, describe
from llmengine.engine.embedder import Job
from llmengine.engine.ledger import Ledger
from llmengine.engine.message import Call, Cancel, Stop
from llmengine.engine.placed import placed, salt_of, text_of
from llmengine.engine.pulse import Pulse
from llmengine.engine.scope import Scopes
from llmengine.engine.sequence import Sequence
from llmengine.errors import Internal
from llmengine.grammar.compiler import Compiler
from llmengine.llama import fingerprint
from llmengine.llama.model import Model
from llmengine.llama.projector import Projector
from llmengine.llama.sampler import Sampler
from llmengine.loading import Loading
from llmengine.models import locate

log = logging.getLogger("llmengine.engine")


class Engine:
    """Implements `llmengine.core.Host` in this process."""

    def __init__(self, config: Config, loading: Loading | None = None) -> None:
        """Load the model, of which `loading` tells how far it is, and start the thread.

        Raises ModelNotFound, ModelUnavailable, OutOfMemory and ConfigError.
        """
        started = time.perf_counter()
        sizing.check(config)
        self._config = config
        path = locate.find(config.model)
        cells = fit.cells(path, config)
        self._model = Model(path, config, loading)
        self._projector: Projector | None = None
        self._draft: Model | None = None
        self._compiler = Compiler(self._model)
        self._pulse = Pulse()
        self._inbox: SimpleQueue[Sequence | Cancel | Call | Stop] = SimpleQueue()
        try:
            self._build(config, cells or sizing.context_cells(self._model, config))
        except BaseException:
            self._close_model()
            raise
        self._load_seconds = time.perf_counter() - started
        self._ledger = Ledger(config)
        self._thread = threading.Thread(target=self._run, name="llmengine", daemon=True)
        self._thread.start()
        self._watcher.start()

    def _build(self, config: Config, cells: int) -> None:
        model = self._model
        self._max_length = sizing.sequence_length(model, config, cells)
        self._threads = sizing.threads(config)
        self._draft = drafting.load(model, config)
        if path := locate.find_projector(config.model):
            self._projector = Projector(path, model, config, threads=self._threads)
        parts = build(
            model, config, self._projector, self._draft,
            cells=cells, threads=self._threads, post=self._post, rested=self._pulse.rested,
        )  # fmt: skip
        self._contexts, self._cache, self._fetcher = parts.contexts, parts.cache, parts.fetcher
        self._slots, self._scheduler = parts.slots, parts.scheduler
        self._runner, self._embedder, self._encoder = parts.runner, parts.embedder, parts.encoder
        self._watcher, self._context = parts.watcher, parts.contexts[0]
        files = [fingerprint.of_file(each) for each in (model.path, path) if each]
        self._scopes = Scopes(f"{' '.join(files)} {self._context.fingerprint}")

    def __enter__(self) -> Engine:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # Requests, from any thread

    def submit(self, request: Request, sink: Sink) -> None:
        check_request(request, self._info, self._config.cache)
        window, most = self._max_length, request.params.max_tokens
        if request.keep is None:
            room = min(most or window, window - len(request.prompt))
        else:
            room = most or window  # an end there must be
        media = placed(request, self.media_tokens)
        check_spans(media, self._projector, self._context.rows)
        sampler = self._sampler(request)
        scope = self._scopes.of(request.cache_salt + salt_of(media))
        sequence = Sequence(request, sink, sampler, room, scope, window, media)
        for token in request.completion:
            sampler.replay(token)
            sequence.text.push(self._model.piece(token, request.special))
        with self._ledger.admitting(request.id):
            self._inbox.put(sequence)

    def embed(self, inputs: Tokens[Tokens[int]]) -> Future[list[bytes]]:
        check_inputs(inputs, self._info)
        job = Job(inputs)
        with self._ledger.admitting(job.id):
            self._embedder.add(job)
        job.future.add_done_callback(lambda _: self._ledger.end([job.id]))
        return job.future

    def _sampler(self, request: Request) -> Sampler:
        params = request.params
        with self._model.in_use():
            matcher = self._compiler.matcher(params.enforced) if params.enforced else None
            words = [token for token in request.prompt if token >= 0]
            return Sampler(self._model, params, words, self._max_length, matcher)

    def cancel(self, request_id: str) -> None:
        with self._ledger.lock:
            if not self._ledger.doom(request_id):
                return
            self._inbox.put(Cancel(request_id))
            # Nobody would miss the step under way, which may be a long prefill.
            if self._ledger.is_vain(self._runner.in_step):
                self._context.abort()

    def drain(self, timeout: float) -> bool:
        return self._ledger.drain(timeout)

    def close(self) -> None:
        with self._ledger.lock:
            self._ledger.close()
            if self._thread.is_alive():
                self._inbox.put(Stop())
                self._context.abort()
        self._embedder.close()
        if self._encoder:
            self._encoder.close()
        self._watcher.close()
        self._thread.join()
        for context in self._contexts:
            context.close()
        self._close_model()

    def _close_model(self) -> None:
        self._model.close()
        if self._draft:
            self._draft.close()
        if self._projector:
            self._projector.close()

    # The engine's thread

    def _run(self) -> None:
        while True:
            try:
                if not self._receive():
                    break
                outputs = self._runner.step()
            except Exception:
                log.exception("a step failed; its requests are ended")
                outputs = self._runner.end_all("error", Internal("the engine had to start over"))
            self._deliver(outputs)
        with self._pulse.resting():  # to write states takes as long as whoever closes allows
            self._keep_states()
            self._deliver(self._runner.end_all("cancelled"))
            if self._fetcher:
                self._fetcher.close()
            if self._cache:
                self._cache.close()

    def _keep_states(self) -> None:
        """Hand what idle slots hold to the prompt cache, for the next start."""
        try:
            while self._slots.save_next():
                pass
        except Exception:  # the others are still to be told that this is the end
            log.exception("what the slots hold could not be kept")

    def _receive(self) -> bool:
        """Take in what has arrived, waiting for it if there is nothing to do; False to stop."""
        self._pulse.beat()
        while not self._inbox.empty() or not self._busy:
            # An idle moment: what the slots hold is brought to safety, one state at a time.
            if self._inbox.empty() and self._slots.save_next():
                self._pulse.beat()
                continue
            try:
                with self._pulse.resting():
                    message = self._inbox.get(timeout=self._runner.patience)
            except Empty:
                return True  # a deadline has passed
            if isinstance(message, Stop):
                self._take_rest()
                return False
            if isinstance(message, Cancel):
                self._runner.cancel(message.request_id)
            elif isinstance(message, Call):
                message.run()
            else:
                self._runner.add(message)
        return True

    @property
    def _busy(self) -> bool:
        """Whether a step has anything to do."""
        return self._runner.busy and not self._runner.blocked

    def _post(self, function: Callable[[], None]) -> None:
        """Have something done before the next step; from any thread."""
        self._inbox.put(Call(function))

    def _take_rest(self) -> None:
        """Requests that were accepted just before the end get their last output as well."""
        while not self._inbox.empty():
            message = self._inbox.get()
            if isinstance(message, Sequence):
                self._scheduler.add(message)

    def _deliver(self, outputs: Outputs) -> None:
        ended = [
            each.request_id for items in outputs.values() for each in items if each.finish_reason
        ]
        if ended:
            self._ledger.end(ended)
        deliver(outputs)

    # What it is and how it does, from any thread

    def tokenize(self, text: str, *, special: bool = False, bos: bool = False) -> list[int]:
        return self._model.tokenize(text, special=special, bos=bos)

    def media_tokens(self, media: Media) -> tuple[int, ...]:
        check_media(media, self._info)
        assert self._projector is not None
        return self._projector.tokens(media)

    def detokenize(self, tokens: Tokens[int]) -> str:
        return text_of(self._model, tokens)

    def piece(self, token: int) -> bytes:
        return self._model.piece(token)

    def info(self) -> ModelInfo:
        return self._info

    @functools.cached_property
    def _info(self) -> ModelInfo:
        with self._model.in_use():
            return describe(
                self._model,
                self._config,
                cells=self._context.cells,
                shifts=self._context.can_shift,
                max_length=self._max_length,
                threads=self._threads,
                media=self._projector.kinds if self._projector else (),
            )

    def stats(self) -> Stats:
        found = counted(self._runner, self._scheduler, self._embedder, self._watcher)
        return replace(
            found,
            requests=self._ledger.accepted,
            waiting=found.waiting + self._inbox.qsize(),
            load_seconds=self._load_seconds,
            threads=self._context.threads,
        )

    def state(self) -> HostState:
        ages = [each.stalled for each in (self._embedder, self._encoder) if each]
        return HostState(pid=os.getpid(), stalled=max(self._pulse.age, *ages))

    def cache(self) -> CacheControl | None:
        if not self._config.cache.enabled:
            return None
        tiers = self._cache or PromptCache(None, None)
        return EngineCache(tiers, self._slots, self._model, self._scopes.own, self._empty_slots)

    def _empty_slots(self) -> None:
        """Drop what the idle slots hold, without saving it; from any other thread."""
        call = Call(self._scheduler.drop_idle)
        with self._ledger.accepting():
            self._inbox.put(call)
        call.wait()
