"""Answers of /v1/responses on disk: to be read again, and to go on from."""

from __future__ import annotations

import functools
import logging
from collections.abc import Set
from hashlib import blake2b
from pathlib import Path

import msgspec
import platformdirs
from msgspec import Struct

from llmengine.config import ServerConfig
from llmengine.errors import ConfigError
from llmengine.server.folder import FAULTS, open_folder
from llmengine.server.responses_wire import Item, Response

MEBIBYTE = 1024 * 1024

_logger = logging.getLogger("llmengine.server")


class Stored(Struct):
    """An answer, and all that the model got for it, also from the answers before."""

    response: Response
    input: list[Item]

    def items(self, ids: Set[str]) -> dict[str, Item]:
        """Those of its items that have one of `ids`."""
        return {each.id: each for each in (*self.input, *self.response.output) if each.id in ids}


_decode = msgspec.json.Decoder(Stored).decode


class ResponseStore:
    """A folder that is opened when it is first needed; the oldest answers make room for new ones.

    Each API key has answers of its own. All methods may be called from any thread; `get` and
    `delete` raise ConfigError where the folder cannot be used, OSError, sqlite3.Error or
    diskcache.Timeout.
    """

    def __init__(self, config: ServerConfig) -> None:
        self._config = config
        self._limit = config.responses_max_size_mb * MEBIBYTE
        self._open = functools.cache(lambda: open_folder(folder(config), "server.responses_path"))

    def keep(self, key: str, stored: Stored) -> bool:
        """Keep an answer for the holder of the API key `key`; False if the disk failed, which is
        logged: the answer itself is none the worse."""
        try:
            self._put(key, stored)
        except (ConfigError, *FAULTS) as error:
            _logger.warning("a response is not stored: %s", error)
            return False
        return True

    def _put(self, key: str, stored: Stored) -> None:
        ttl = self._config.responses_ttl_seconds or None
        cache = self._open()
        name = _name(key, stored.response.id)
        cache.set(name, msgspec.json.encode(stored), expire=ttl)
        cache.expire()
        while cache.volume() > self._limit and len(cache) > 1:
            oldest, _ = cache.peekitem(last=False)
            cache.delete(oldest)

    def get(self, key: str, id: str) -> Stored | None:
        found = self._open().get(_name(key, id))
        try:
            return None if found is None else _decode(found)
        except msgspec.DecodeError as error:  # of a version that stored them in another way
            _logger.warning("the stored response %s cannot be read: %s", id, error)
            return None

    def delete(self, key: str, id: str) -> bool:
        """Whether it was there."""
        return bool(self._open().delete(_name(key, id)))


def folder(config: ServerConfig) -> Path:
    if config.responses_path:
        return Path(config.responses_path).expanduser()
    return Path(platformdirs.user_cache_dir("llmengine")) / "responses"


def _name(key: str, id: str) -> str:
    tenant = key.encode("utf-8", "surrogateescape")
    return f"{blake2b(tenant, digest_size=16).hexdigest() if key else ''}/{id}"
