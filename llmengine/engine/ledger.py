"""Which requests an engine has accepted and not yet answered."""

from __future__ import annotations

import threading
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager

from llmengine.config import Config
from llmengine.engine.check import check_room
from llmengine.engine.turnover import Turnover
from llmengine.errors import ModelUnavailable


class Ledger:
    """Any thread may use it; `lock` is for what has to happen together with an entry."""

    def __init__(self, config: Config) -> None:
        self.lock = threading.Condition()  # may be taken again by who has it
        self.accepted = 0  # requests so far
        self._config = config
        self._active: set[str] = set()  # requests that have not had their last output
        self._doomed: set[str] = set()  # those of them that are cancelled
        self._turnover = Turnover(time.monotonic())
        self._open = True

    @contextmanager
    def admitting(self, request_id: str) -> Iterator[None]:
        """Enter a request, while the lock is held. Raises what `Host.submit` does."""
        with self.accepting():
            check_room(request_id, self._active, self._config, self._turnover)
            self._active.add(request_id)
            self.accepted += 1
            yield

    @contextmanager
    def accepting(self) -> Iterator[None]:
        """Hold the lock; raises ModelUnavailable once the end has begun."""
        with self.lock:
            if not self._open:
                raise ModelUnavailable("the engine is shutting down")
            yield

    def doom(self, request_id: str) -> bool:
        """Note that a request is cancelled; False if it is not there any more."""
        with self.lock:
            if request_id in self._active:
                self._doomed.add(request_id)
            return request_id in self._active

    def is_vain(self, requests: Collection[str]) -> bool:
        """Whether there are requests, and all of them are cancelled."""
        return bool(requests) and self._doomed.issuperset(requests)

    def end(self, requests: Collection[str]) -> None:
        """Strike out those that have had their last output."""
        with self.lock:
            self._turnover.ended(len(requests), time.monotonic())
            self._active.difference_update(requests)
            self._doomed.difference_update(requests)
            self.lock.notify_all()

    def drain(self, timeout: float) -> bool:
        """Accept nothing more, and wait until all is answered; False if that took too long."""
        with self.lock:
            self._open = False
            return self.lock.wait_for(lambda: not self._active, timeout)

    def close(self) -> None:
        """Accept nothing more, and take all for cancelled."""
        with self.lock:
            self._open = False
            self._doomed |= self._active
