"""A thread that does slow work later, in order."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from threading import Condition, Thread

logger = logging.getLogger(__name__)

Job = Callable[[], None]


class Worker:
    """Runs jobs one after the other; what they hold in memory is bounded.

    The thread starts with the first job. It ends with `close`, or with the process.
    """

    def __init__(self, name: str, max_bytes: int, finish: Job) -> None:
        """`finish` is the last thing that the thread does."""
        self.bytes = 0  # held by jobs that are not done
        self._name = name
        self._max_bytes = max_bytes
        self._finish = finish
        self._jobs: deque[tuple[Job, int]] = deque()
        self._open = True
        self._busy = False
        self._thread: Thread | None = None
        self._changed = Condition()

    def submit(self, job: Job, size: int = 0) -> bool:
        """Queue a job that holds `size` bytes; False if they are too many now.

        A job larger than the bound is taken when nothing else is held.
        """
        with self._changed:
            if not self._open or (size and self.bytes and self.bytes + size > self._max_bytes):
                return False
            self.bytes += size
            self._jobs.append((job, size))
            if self._thread is None:
                self._thread = Thread(target=self._run, name=self._name, daemon=True)
                self._thread.start()
            self._changed.notify_all()
            return True

    def flush(self, timeout: float) -> bool:
        """Wait until all is done; False if that took longer than `timeout` seconds."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._jobs and not self._busy, timeout)

    def close(self, timeout: float) -> None:
        """Finish what can be done in `timeout` seconds, give up the rest."""
        self.flush(timeout)
        with self._changed:
            self._open = False
            self._jobs.clear()
            self._changed.notify_all()
        if self._thread:
            self._thread.join(timeout)

    def _run(self) -> None:
        while job := self._next():
            try:
                job[0]()
            except Exception:  # a fault of ours; the jobs after it are still to be done
                logger.exception("%s failed", self._name)
            with self._changed:
                self._busy = False
                self.bytes -= job[1]
                self._changed.notify_all()
            del job  # and with it the bytes, before waiting
        self._finish()

    def _next(self) -> tuple[Job, int] | None:
        with self._changed:
            self._changed.wait_for(lambda: self._jobs or not self._open)
            if not self._jobs:
                return None
            self._busy = True
            return self._jobs.popleft()
