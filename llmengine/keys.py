"""API keys: what the holder of each may do, and the file that knows them by their hashes.

A key is 256 random bits. Nobody guesses those, so a fast hash keeps them as well as a slow one
would, and every request can be checked in microseconds.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import tempfile
import time
from collections.abc import Iterator, Sequence
from hashlib import blake2b
from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct

from llmengine.errors import ConfigError, NotFound

SECRET = "llme_"  # what a generated key begins with, for those that search files for leaked ones
MOST_URGENT, LEAST_URGENT = -8, 8

Scope = Literal["inference", "admin", "metrics"]
Priority = Annotated[int, Meta(ge=MOST_URGENT, le=LEAST_URGENT)]
Limit = Annotated[int, Meta(ge=0, le=2**31 - 1)]  # 0: none


class Key(Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """A key without its secret. Its id may be told, in logs and metrics."""

    id: str
    digest: str
    label: str = ""
    scopes: tuple[Scope, ...] = ("inference",)
    created: int = 0  # seconds since the epoch
    requests_per_minute: Limit = 0
    tokens_per_minute: Limit = 0
    max_concurrent: Limit = 0
    priority: Priority = 0  # the most urgent that its requests may be; lower is more urgent

    @property
    def limits(self) -> tuple[Limit, ...]:
        return self.requests_per_minute, self.tokens_per_minute, self.max_concurrent


ANONYMOUS = Key(id="", digest="")  # who comes without a key where none is needed


def digest(secret: str) -> str:
    """What is kept of a key; "" of none."""
    data = secret.encode("utf-8", "surrogateescape")
    return blake2b(data, digest_size=32, person=b"llmengine key").hexdigest() if secret else ""


def generated(**fields: object) -> tuple[str, Key]:
    """A new secret, and its key with these fields. Raises ConfigError for a wrong one."""
    secret = SECRET + secrets.token_urlsafe(32)
    own = {"id": f"key_{secrets.token_hex(4)}", "digest": digest(secret)}
    try:
        return secret, msgspec.convert({**own, "created": int(time.time()), **fields}, Key)
    except msgspec.ValidationError as error:
        raise ConfigError(f"no such key: {error}") from error


class KeyFile:
    """The keys that `llmengine keys` makes: a JSON list that only its owner may read."""

    def __init__(self, path: str = "") -> None:
        """By default it lies in the user's config folder."""
        import platformdirs

        usual = Path(platformdirs.user_config_dir("llmengine")) / "keys.json"
        self.path = Path(path).expanduser() if path else usual

    @property
    def exists(self) -> bool:
        return self.path.exists()

    def read(self) -> tuple[Key, ...]:
        """Raises ConfigError for a file that cannot be trusted; a missing one has no keys."""
        try:
            with self.path.open("rb") as stream:
                if os.fstat(stream.fileno()).st_mode & 0o022:
                    raise ConfigError(
                        f"{self.path}: others may write it: chmod 600 keeps them from adding keys"
                    )
                return msgspec.json.decode(stream.read(), type=tuple[Key, ...])
        except FileNotFoundError:
            return ()
        except OSError as error:
            raise ConfigError(f"{self.path}: cannot be read: {error.strerror}") from error
        except (msgspec.DecodeError, RecursionError) as error:
            raise ConfigError(f"{self.path}: is no list of keys: {error}") from error

    def add(self, key: Key) -> None:
        with self._changing():
            self._write([*self.read(), key])

    def revoke(self, id: str) -> None:
        """Raises NotFound where no key has this id."""
        with self._changing():
            keys = self.read()
            left = [key for key in keys if key.id != id]
            if len(left) == len(keys):
                raise NotFound(f"there is no key {id!r}: `llmengine keys list` shows them")
            self._write(left)

    @contextlib.contextmanager
    def _changing(self) -> Iterator[None]:
        """Alone among the commands that change it: none may undo what another did."""
        import fcntl

        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            folder = os.open(self.path.parent, os.O_RDONLY)
        except OSError as error:
            raise ConfigError(f"{self.path}: cannot be written: {error.strerror}") from error
        try:
            fcntl.flock(folder, fcntl.LOCK_EX)
            yield
        finally:
            os.close(folder)

    def _write(self, keys: Sequence[Key]) -> None:
        content = msgspec.json.format(msgspec.json.encode(keys)) + b"\n"
        try:
            # A temporary file is its owner's alone from the start, and a crash leaves the old one.
            with tempfile.NamedTemporaryFile(dir=self.path.parent, delete=False) as stream:
                try:
                    stream.write(content)
                    stream.flush()
                    os.fsync(stream.fileno())
                    os.replace(stream.name, self.path)
                except BaseException:
                    os.unlink(stream.name)
                    raise
        except OSError as error:
            raise ConfigError(f"{self.path}: cannot be written: {error.strerror}") from error
