"""All keys that open the server: those of the settings and those of the key file."""

from __future__ import annotations

import hmac

from llmengine.config import ServerConfig
from llmengine.errors import ConfigError
from llmengine.keys import ANONYMOUS, Key, KeyFile, Scope, digest

ALL: tuple[Scope, ...] = ("inference", "metrics", "admin")


class Keyring:
    """Raises ConfigError, also from `reload`, which then leaves the keys as they are."""

    def __init__(self, config: ServerConfig) -> None:
        self._file = KeyFile(config.keys_file)
        self._named = bool(config.keys_file) or self._file.exists
        self._config = ServerConfig()  # without keys
        self.reload(config)

    def reload(self, config: ServerConfig) -> None:
        """Take over plain keys and read the key file again.

        Nothing opens that was guarded, neither by a missing file nor by settings without a key.
        """
        if self._named and not self._file.exists:
            raise ConfigError(
                f"{self._file.path}: there is no such key file: `llmengine keys add` makes one"
            )
        named = self._named or self._file.exists
        if self.guards("inference") and not (named or _any(config)):
            raise ConfigError(
                "server.api_key: a running server does not give up its last key: "
                "start it anew without one"
            )
        self._keys = (*_plain(config), *self._file.read())
        self._config, self._named = config, named

    def guards(self, scope: Scope) -> bool:
        """Whether `scope` needs a key. A key file without keys lets nobody in."""
        guarded = self._named or _any(self._config)
        return guarded or (scope == "admin" and bool(self._config.admin_key))

    @property
    def shared(self) -> bool:
        """Whether several keys may ask the model, so that one can stand in another's way."""
        return sum("inference" in key.scopes for key in self._keys) > 1

    def holder(self, digest: str) -> Key | None:
        """The key with this digest, ANONYMOUS of none; None if it opens nothing any more."""
        if not digest:
            return None if self.guards("inference") else ANONYMOUS
        found = (key for key in self._keys if key.digest == digest and "inference" in key.scopes)
        return next(found, None)

    def find(self, secret: str) -> Key | None:
        sent, found = digest(secret), None
        for key in self._keys:  # all of them, always: the time tells nothing of which it is
            if hmac.compare_digest(key.digest, sent):
                found = key
        return found


def _any(config: ServerConfig) -> bool:
    """Whether a key for the model stands in the settings."""
    return bool(config.api_key or config.api_keys)


def _plain(config: ServerConfig) -> list[Key]:
    """The keys that stand in the settings as they are."""
    keys: list[Key] = []
    if config.api_key:
        scopes = ALL if config.admin_key in ("", config.api_key) else ALL[:2]
        keys.append(Key(id="api_key", digest=digest(config.api_key), scopes=scopes))
    if config.admin_key not in ("", config.api_key):
        keys.append(Key(id="admin_key", digest=digest(config.admin_key), scopes=("admin",)))
    for each in config.api_keys:
        name, colon, secret = (part.strip() for part in each.partition(":"))
        if not (name and colon and secret):
            raise ConfigError("server.api_keys: each must be NAME:KEY, the name is for the logs")
        keys.append(Key(id=name, digest=digest(secret), label=name))
    if min(len({key.id for key in keys}), len({key.digest for key in keys})) < len(keys):
        raise ConfigError("server.api_keys: a name, or a key, is there twice")
    return keys
