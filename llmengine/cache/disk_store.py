"""Records and states in one folder that several processes may share."""

from __future__ import annotations

import fcntl
import logging
import os
import sqlite3
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import diskcache
import msgspec

from llmengine.cache.entry import Entry, State
from llmengine.cache.raw_disk import Corrupt
from llmengine.cache.record import Record, checksum
from llmengine.cache.state_disk import STATE, SUFFIX, StateDisk

logger = logging.getLogger(__name__)

RECORD = "record/"
SERIAL = "serial"  # grows with every entry that comes or goes
DATABASE, LOCK = "cache.db", "cache.lock"
BUSY_SECONDS = 10.0  # how long to wait for another process's transaction


class DiskStore:
    """What the disk tier does to its folder.

    A state is written before its record and removed after it, so that a record's state is whole.
    Whoever writes states holds the folder's lock: then any file that the database does not know
    is left over from a process that was killed.

    Methods raise OSError, sqlite3.Error, diskcache.Timeout or Corrupt.
    """

    def __init__(self, directory: Path) -> None:
        _prepare(directory)
        self.directory = directory
        self._lock = os.open(directory / LOCK, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            self._cache = _open(directory)
        except sqlite3.OperationalError:
            raise
        except sqlite3.DatabaseError as error:  # damaged; without it the states are of no use
            logger.warning("prompt cache: %s starts afresh: %s", directory, error)
            for path in directory.glob(f"{DATABASE}*"):
                path.unlink(missing_ok=True)
            self._cache = _open(directory)

    def close(self) -> None:
        os.close(self._lock)
        self._cache.close()

    def leave(self) -> None:
        """Close the database for the thread that calls."""
        self._cache.close()

    @property
    def gone(self) -> bool:
        """Whether somebody has removed the folder."""
        try:
            return not os.path.samestat(os.fstat(self._lock), os.stat(self.directory / LOCK))
        except FileNotFoundError:
            return True

    @contextmanager
    def exclusive(self, timeout: float) -> Iterator[None]:
        """Hold the folder's lock; TimeoutError if another process keeps it that long."""
        deadline = time.monotonic() + timeout
        while True:
            try:
                fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise TimeoutError(f"{self.directory / LOCK} is held too long") from None
                time.sleep(0.01)
        try:
            yield
        finally:
            fcntl.flock(self._lock, fcntl.LOCK_UN)

    @property
    def serial(self) -> int:
        return int(self._cache.get(SERIAL, 0))

    def ids(self) -> list[str]:
        return [key.removeprefix(RECORD) for key in self._keys(RECORD)]

    def _keys(self, kind: str) -> Iterable[str]:
        return [key for key in self._cache.iterkeys() if key.startswith(kind)]

    def record(self, id: str) -> Record | None:
        data = self._cache.get(RECORD + id)
        return None if data is None else Record.decode(data)

    def write(self, entry: Entry, state: State) -> int:
        """Store an entry and return the new serial; the caller holds the lock."""
        key = STATE + entry.id
        self._cache.delete(key)
        try:
            self._cache.set(key, state)
            self._cache.set(RECORD + entry.id, Record.of(entry, state).encode())
            return int(self._cache.incr(SERIAL))
        except BaseException:  # a file without a record would be in nobody's budget
            Path(self._cache.disk.filename(key)[1]).unlink(missing_ok=True)
            raise

    def read(self, id: str) -> State | None:
        """A state, checked against its record; None if it is gone."""
        record = self.record(id)
        state = self._cache.get(STATE + id) if record else None
        if record is None or state is None:
            return None
        if len(state) != record.size:
            raise Corrupt(f"{len(state)} of {record.size} bytes")
        if checksum(record.entry(0), state) != record.checksum:
            raise Corrupt("the checksum differs")
        return state  # type: ignore[no-any-return]

    def update(self, id: str, **changes: object) -> bool:
        """Change fields of a record; False if it is gone."""
        with self._cache.transact():
            record = self.record(id)
            if record:
                changed = msgspec.structs.replace(record, **changes)
                self._cache.set(RECORD + id, changed.encode())
            return record is not None

    def remove(self, id: str) -> int:
        """Remove an entry, if it is there, and return the new serial."""
        self._cache.delete(RECORD + id)
        self._cache.delete(STATE + id)
        return int(self._cache.incr(SERIAL))

    def sweep(self) -> None:
        """Remove what processes that were killed have left; the caller holds the lock."""
        records = set(self.ids())
        states = {key.removeprefix(STATE) for key in self._keys(STATE)}
        paths = list(self.directory.glob(f"[0-9a-f][0-9a-f]/*{SUFFIX}"))
        complete = records & states & {path.name.removesuffix(SUFFIX) for path in paths}
        for id in (records | states) - complete:
            self.remove(id)
        for path in paths:
            if path.name.removesuffix(SUFFIX) not in complete:
                path.unlink(missing_ok=True)


def _open(directory: Path) -> Any:
    return diskcache.Cache(
        str(directory),
        timeout=BUSY_SECONDS,
        disk=StateDisk,
        eviction_policy="none",  # ours is another, see `DiskTier`
        cull_limit=0,
        statistics=0,
        tag_index=0,
    )


def _prepare(directory: Path) -> None:
    """A folder that only its user can look into; one with other things in it is left alone."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    names = os.listdir(directory)
    if names and not {DATABASE, LOCK} & set(names):
        raise FileExistsError(f"{directory} holds other files; name an empty folder")
    directory.chmod(0o700)
