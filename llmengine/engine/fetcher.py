"""States on their way from the disk, read while the requests that want them wait."""

from __future__ import annotations

import logging
from collections.abc import Callable

from llmengine.cache.entry import Found, State
from llmengine.cache.prompt_cache import PromptCache
from llmengine.cache.worker import Worker

FETCH_BYTES = 512 * 1024 * 1024  # read and not placed yet, beside the budget in memory

log = logging.getLogger("llmengine.engine")


class Fetch:
    """One state; `state` is there when it is `done`, or None if it could not be read."""

    def __init__(self, found: Found) -> None:
        self.found = found
        self.state: State | None = None
        self.done = False
        self.dropped = False  # nobody wants it any more


class Fetcher:
    """Reads states on a thread of its own, so that the steps of others go on.

    Only the engine's thread may call; `wake` is called on the other one when a state is there.
    """

    def __init__(
        self, cache: PromptCache, wake: Callable[[], None], max_bytes: int = FETCH_BYTES
    ) -> None:
        self._cache = cache
        self._wake = wake
        self._max_bytes = max_bytes
        self._held: list[Fetch] = []  # from the disk: being read, or read and not placed
        self._worker = Worker("llmengine-fetch", max_bytes, cache.leave)

    def start(self, found: Found) -> Fetch | None:
        """Have a state read; None if the caller should ask again later.

        That is while another request gets the same state, which it will share with this one, and
        while too many bytes are held already.
        """
        fetch = Fetch(found)
        if found.tier == "memory":
            fetch.state, fetch.done = self._cache.read(found), True
            return fetch
        held = sum(each.found.entry.size for each in self._held)
        if held and held + found.entry.size > self._max_bytes:
            return None
        if any(each.found.entry.id == found.entry.id for each in self._held):
            return None
        self._held.append(fetch)
        self._worker.submit(lambda: self._read(fetch))
        return fetch

    def _read(self, fetch: Fetch) -> None:
        try:
            if not fetch.dropped:
                fetch.state = self._cache.read(fetch.found)
        except Exception:  # a fault of ours: the prompt is computed
            log.exception("a state could not be read")
        finally:
            fetch.done = True
            self._wake()

    def drop(self, fetch: Fetch) -> None:
        """Let go of a state that was placed, or that nobody waits for any more."""
        fetch.dropped = True
        self._held = [each for each in self._held if each is not fetch]

    def close(self, timeout: float = 10.0) -> None:
        """End the thread, after the state that it is reading."""
        for fetch in self._held:
            fetch.dropped = True
        self._worker.close(timeout)
