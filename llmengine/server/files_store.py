"""Files of clients and the batches made of them, on disk: both outlive the server."""

from __future__ import annotations

import fcntl
import functools
import threading
import time
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import platformdirs
from msgspec import Struct

from llmengine.config import ServerConfig
from llmengine.errors import ModelUnavailable, NotOffered, OutOfMemory
from llmengine.server.batches_wire import Batch, FileObject
from llmengine.server.folder import open_folder

MEBIBYTE = 1024 * 1024
MAX_OBJECTS = 10_000  # files, and batches, of all keys together

S = TypeVar("S", bound=Struct)


class FilesStore:
    """A folder that is opened when it is first needed, by one server at a time.

    Everything belongs to a tenant, the digest of an API key. Nothing makes room for anything: what
    does not fit is refused. All methods may be called from any thread; they raise ConfigError,
    OSError, sqlite3.Error or diskcache.Timeout where the folder cannot be used.
    """

    def __init__(self, config: ServerConfig) -> None:
        self._limit = config.files_max_size_mb * MEBIBYTE
        self._ttl = config.files_ttl_seconds or None
        self._folder = folder(config)
        self._lock: Any = None
        self._opening = threading.Lock()
        self._cache = functools.cache(self._open)

    @property
    def begun(self) -> bool:
        """Whether there may be anything in it."""
        return bool(self._limit) and self._folder.exists()

    def _open(self) -> Any:
        if not self._limit:
            raise NotOffered("files and batches are turned off: server.files_max_size_mb is 0")
        cache = open_folder(self._folder, "server.files_path")
        lock = (self._folder / "lock").open("ab")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            lock.close()
            cache.close()
            raise ModelUnavailable(
                "another server works on these files: give each a server.files_path of its own"
            ) from None
        self._lock = lock
        return cache

    def _opened(self) -> Any:
        with self._opening:  # two threads would be two servers to each other
            return self._cache()

    def close(self) -> None:
        if self._lock is not None:
            self._cache().close()
            self._lock.close()

    def check_room(self, size: int) -> None:
        """Raises OutOfMemory where `size` more bytes would pass the limit."""
        cache = self._opened()
        cache.expire()
        if cache.volume() + size > self._limit or len(cache) >= 10 * MAX_OBJECTS:
            raise OutOfMemory(
                "there is no room for more files: delete some, or raise server.files_max_size_mb"
            )

    # Files

    def add_file(self, tenant: str, file: FileObject, content: bytes) -> None:
        ttl = self._ttl
        file.expires_at = int(file.created_at + ttl) if ttl else None
        cache = self._opened()
        cache.set(f"content/{tenant}/{file.id}", content, expire=ttl)
        cache.set(f"file/{tenant}/{file.id}", msgspec.json.encode(file), expire=ttl)

    def file(self, tenant: str, id: str) -> FileObject | None:
        return self._get(f"file/{tenant}/{id}", FileObject)

    def files(self, tenant: str) -> list[FileObject]:
        """The oldest first."""
        found = (self._get(name, FileObject) for name in self._names(f"file/{tenant}/"))
        return sorted(filter(None, found), key=lambda each: each.created_at)

    def content(self, tenant: str, id: str) -> bytes | None:
        found: bytes | None = self._opened().get(f"content/{tenant}/{id}")
        return found

    def delete_file(self, tenant: str, id: str) -> bool:
        """Whether it was there."""
        cache = self._opened()
        cache.delete(f"content/{tenant}/{id}")
        return bool(cache.delete(f"file/{tenant}/{id}"))

    # Batches

    def save_batch(self, tenant: str, batch: Batch) -> None:
        # One that still runs does not expire under way.
        ttl = self._ttl if batch.ended else None
        self._opened().set(f"batch/{tenant}/{batch.id}", msgspec.json.encode(batch), expire=ttl)

    def batch(self, tenant: str, id: str) -> Batch | None:
        return self._get(f"batch/{tenant}/{id}", Batch)

    def batches(self, tenant: str) -> list[Batch]:
        """The oldest first."""
        found = (self._get(name, Batch) for name in self._names(f"batch/{tenant}/"))
        return sorted(filter(None, found), key=lambda each: each.created_at)

    def unended(self) -> list[tuple[str, Batch]]:
        """The batches that are still to be worked on, with their tenants, the oldest first."""
        found = []
        for name in self._names("batch/"):
            batch = self._get(name, Batch)
            if batch and not batch.ended:
                found.append((name.split("/")[1], batch))
        return sorted(found, key=lambda each: each[1].created_at)

    def add_result(self, batch: str, line: int, result: bytes) -> None:
        self.check_room(len(result))
        self._opened().set(f"result/{batch}/{line:06}", result)

    def results(self, batch: str) -> dict[int, bytes]:
        """By line."""
        cache = self._opened()
        return {int(name.split("/")[2]): cache[name] for name in self._names(f"result/{batch}/")}

    def drop_results(self, batch: str) -> None:
        for name in self._names(f"result/{batch}/"):
            self._opened().delete(name)

    def _names(self, prefix: str) -> list[str]:
        """In the order in which they came first, which the seconds of their times do not tell."""
        return [name for name in self._opened() if name.startswith(prefix)]

    def _get(self, name: str, kind: type[S]) -> S | None:
        found = self._opened().get(name)
        return None if found is None else msgspec.json.decode(found, type=kind)


def folder(config: ServerConfig) -> Path:
    if config.files_path:
        return Path(config.files_path).expanduser()
    return Path(platformdirs.user_data_dir("llmengine")) / "files"


def now() -> int:
    return int(time.time())
