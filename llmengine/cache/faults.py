"""What may go wrong with a disk, and what is made of it."""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

import diskcache

from llmengine.cache.raw_disk import Corrupt
from llmengine.inventory import Counts

logger = logging.getLogger(__name__)

# Full, read-only or broken disks, a locked or damaged database, a state too large to read.
KINDS = (OSError, sqlite3.Error, diskcache.Timeout, Corrupt, MemoryError)


class Faults:
    """Counts them, and tells each kind once."""

    def __init__(self, counts: Counts) -> None:
        self._counts = counts
        self._told: set[tuple[object, ...]] = set()

    @contextmanager
    def caught(self, doing: str) -> Iterator[None]:
        """End the block, not its caller, at the first fault."""
        try:
            yield
        except KINDS as error:
            self._counts.failures += 1
            kind = (doing, type(error), getattr(error, "errno", None))
            level = logging.DEBUG if kind in self._told else logging.WARNING
            self._told.add(kind)
            logger.log(level, "prompt cache: could not %s: %s", doing, _cause(error))


def _cause(error: BaseException) -> str:
    if isinstance(error, diskcache.Timeout):
        return "the database is locked or cannot be written"
    return str(error) or type(error).__name__
