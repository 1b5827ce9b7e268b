"""Who may share a prefix with whom."""

from __future__ import annotations

from hashlib import blake2b

from llmengine.config import CacheConfig


def salt_of(settings: CacheConfig, *, key: str, given: str | None = None) -> str:
    """The `core.Request.cache_salt` of a request with an API key and a `cache_salt` of its own.

    It is empty where neither tells requests apart, and holds a hash of the key, not the key.
    """
    tenant = ""
    if key and settings.share == "key":
        tenant = blake2b(key.encode("utf-8", "surrogateescape"), digest_size=16).hexdigest()
    return f"{tenant}:{given or ''}" if tenant or given else ""
