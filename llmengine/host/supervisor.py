"""Keeps an engine in a process of its own: starts it, watches it, and starts it anew."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from msgspec.structs import replace

from llmengine.config import Config
from llmengine.core import HostState, ModelInfo, Output
from llmengine.engine.delivery import deliver
from llmengine.errors import DeadlineExceeded, EngineError, ModelUnavailable
from llmengine.host import relay, wire
from llmengine.host.backoff import Backoff
from llmengine.host.channel import packed
from llmengine.host.child import Child
from llmengine.host.counters import Counters
from llmengine.host.journal import Journal
from llmengine.host.watchdog import TICK, Watchdog
from llmengine.loading import Loading

PATIENCE = 30.0  # seconds that new requests wait for an engine that was lost
ATTEMPTS = 3  # failed starts in a row after which nothing waits any longer
CLOSE_SECONDS = 60.0  # for the engine to save what is to be kept

log = logging.getLogger("llmengine.host")


class Supervisor:
    """One thread talks with the process; others put into the journal what is to be sent.

    They hold `lock` for it, which is notified when something ends.
    """

    def __init__(
        self, config: Config, loading: Loading | None, launch: Callable[[Config], Child]
    ) -> None:
        """Start the process and wait until it has loaded the model.

        Raises ModelNotFound, ModelUnavailable, OutOfMemory and ConfigError.
        """
        self.lock = threading.Condition()
        self.journal = Journal(config.worker.max_resumes)
        self.counters = Counters()
        self.accepting = True
        self._config = config
        self._loading = loading or Loading()
        self._launch = launch
        self._backoff = Backoff()
        self._watchdog = Watchdog(config.worker.watchdog_seconds)
        self._state = HostState()
        self._lost: float | None = None  # since when there is no engine
        self._closing: float | None = None  # when there has to be none any more
        self._child = launch(config)
        try:
            self.info = self._loaded(self._child)
        except BaseException:
            self._child.bury()
            raise
        self._thread = threading.Thread(target=self._run, name="engine-host", daemon=True)
        self._thread.start()

    # From any thread

    @property
    def ready(self) -> bool:
        return self._lost is None

    @property
    def state(self) -> HostState:
        stalled = self._watchdog.stalled if self.ready else 0.0
        return replace(self._state, pid=self._child.pid, stalled=stalled)

    def check(self) -> None:
        """Raises ModelUnavailable where nothing new is taken."""
        if not self.accepting:
            raise ModelUnavailable("the engine is shutting down")
        if self._state.phase == "failed" or self._late:
            raise ModelUnavailable(f"{self._state.reason}: try again in a moment")

    @property
    def _late(self) -> bool:
        return self._lost is not None and time.monotonic() - self._lost > PATIENCE

    def send_due(self) -> None:
        """Send what is in the journal and may go out; for holders of the lock."""
        if self.ready:
            for entry in self.journal.due():
                self._child.send(entry.data)

    def send(self, data: bytes) -> None:
        """Send what no other engine has to know."""
        self._child.send(data)

    def close(self) -> None:
        with self.lock:
            self.accepting = False
            if self._closing is None:
                self._closing = time.monotonic() + CLOSE_SECONDS
                self._child.send(packed(wire.Close()))
            self.lock.notify_all()
        self._thread.join()

    # The thread

    def _run(self) -> None:
        child: Child | None = self._child
        while child:
            self._attend(child)
            child = self._next_of(child)
        with self.lock:
            gone = ModelUnavailable("the engine is shutting down")
            left = self.journal.end([*self.journal.requests.values()], "cancelled")
            self.journal.refuse_all(gone)
            self.lock.notify_all()
        deliver(left)

    def _attend(self, child: Child) -> None:
        try:
            self._listen(child)
        except Exception:  # the clients wait for what comes next
            log.exception("what the engine's process said could not be taken; it is ended")

    def _listen(self, child: Child) -> None:
        """Pass on what it says until it is gone."""
        while (messages := child.receive(TICK)) is not None:
            for message in messages:
                self._take(message)
            self._expire()
            child.log_from(relay.level())
            if wrong := self._watchdog.look():
                log.error("the engine's process %s and is ended", wrong)
                self._watchdog = Watchdog(0)
                child.kill()
            if self._closing and time.monotonic() > self._closing:
                child.kill()

    def _take(self, message: wire.FromEngine) -> None:
        match message:
            case wire.Outputs(outputs, stats):
                self._pass_on(outputs)
                self.counters.told(stats)
            case wire.Beat(_, stalled, stats):
                self._watchdog.heard(stalled)
                self.counters.told(stats)
            case wire.Answer(call, result):
                with self.lock:
                    self.journal.answer(call, result)
                    self.send_due()
            case wire.Refused(call, error):
                with self.lock:
                    self.journal.refuse(call, EngineError.from_info(error))
                    self.send_due()
                    self.lock.notify_all()
            case wire.Logged():
                relay.replay(message)

    def _pass_on(self, outputs: list[Output]) -> None:
        self._backoff.worked()
        with self.lock:
            found = self.journal.saw(outputs)
            self.send_due()
            self.lock.notify_all()
        deliver(found)

    def _expire(self) -> None:
        """End what no engine would end."""
        with self.lock:
            late = self.journal.late(time.monotonic())
            error = DeadlineExceeded("the request's deadline has passed")
            found = self.journal.end(late, "error", error)
            if self._late:
                self.journal.refuse_all(ModelUnavailable(self._state.reason))
            self.lock.notify_all()
        deliver(found)

    # When it is lost

    def _next_of(self, child: Child) -> Child | None:
        """A process in place of one that is gone; None where that was to be."""
        how = child.bury()
        with self.lock:
            if self._closing:
                return None
            self._lost = time.monotonic()
            reason = f"the engine's process {how} and is started anew"
            self._state = replace(self._state, phase="degraded", reason=reason)
            ended = self.journal.died()
            self.counters.lost()
            log.error("%s; requests that go on: %d", reason, len(self.journal.active))
            self.lock.notify_all()
        self._backoff.failed()
        deliver(ended)
        return self._restarted()

    def _restarted(self) -> Child | None:
        attempts = 0
        while self._pause(self._backoff.pause):
            try:
                child = self._started()
            except EngineError as error:
                self._backoff.failed()
                attempts += 1
                self._could_not(error, give_up=attempts >= ATTEMPTS)
            else:
                self._take_over(child)
                return child
        return None

    def _started(self) -> Child:
        """A process that has loaded the same model."""
        try:
            child = self._launch(self._config)
        except OSError as error:  # as where memory or processes are used up
            raise ModelUnavailable(f"no process can be started: {error}") from error
        try:
            self._check_same(self._loaded(child))
        except EngineError:
            child.bury()
            raise
        return child

    def _pause(self, seconds: float) -> bool:
        """Wait, and watch deadlines meanwhile; False where it is to be closed."""
        end = time.monotonic() + seconds
        while self._closing is None and (left := end - time.monotonic()) > 0:
            with self.lock:
                self.lock.wait_for(lambda: self._closing, min(left, TICK))
            self._expire()
        return self._closing is None

    def _could_not(self, error: EngineError, *, give_up: bool) -> None:
        log.error("the engine could not be started anew: %s", error.message)
        if not give_up:
            return
        with self.lock:
            reason = f"the engine cannot be started any more: {error.message}"
            self._state = replace(self._state, phase="failed", reason=reason)
            gone = ModelUnavailable(reason)
            found = self.journal.end([*self.journal.requests.values()], "error", gone)
            self.journal.refuse_all(gone)
            self.lock.notify_all()
        deliver(found)

    def _check_same(self, info: ModelInfo) -> None:
        """The tokens of the journal are those of one model."""
        if (info.path, info.size_bytes, info.created) != (
            self.info.path,
            self.info.size_bytes,
            self.info.created,
        ):
            raise ModelUnavailable(f"{info.path} is another model now: restart the server")

    def _take_over(self, child: Child) -> None:
        with self.lock:
            self._child = child
            seconds = time.monotonic() - (self._lost or 0.0)
            self._lost = None
            self._state = HostState(restarts=self._state.restarts + 1)
            self._watchdog = Watchdog(self._config.worker.watchdog_seconds)
            if self._closing:  # since it was ready: the one before was told
                child.send(packed(wire.Close()))
            self.send_due()
        log.warning("the engine runs again", extra={"seconds": round(seconds, 2)})

    def _loaded(self, child: Child) -> ModelInfo:
        """Wait until it has loaded the model."""
        watchdog = Watchdog(self._config.worker.watchdog_seconds)
        while (messages := child.receive(TICK)) is not None:
            info: ModelInfo | None = None
            for message in messages:
                match message:
                    case wire.Ready():
                        info = message.info
                    case wire.Failed(error):
                        raise EngineError.from_info(error)
                    case wire.Beat(loaded):
                        self._loading.report(loaded)
                        watchdog.heard(0.0)
                    case _:
                        self._take(message)
            if info:
                return info
            if self._loading.stopped or self._closing:
                raise ModelUnavailable("the loading of the model was stopped")
            if wrong := watchdog.look():
                raise ModelUnavailable(f"the engine's process {wrong} while it loaded the model")
            self._expire()
        how = child.bury()
        said = f": {child.last_words}" if child.last_words else ""
        raise ModelUnavailable(f"the engine's process {how} while it loaded the model{said}")
