"""Who may share a prefix with whom."""

from __future__ import annotations

from llmengine.config import CacheConfig


def salt_of(settings: CacheConfig, *, key: str, given: str | None = None) -> str:
    """The `core.Request.cache_salt` of a request with an API key and a `cache_salt` of its own.

    `key` is the digest of the API key. The salt is empty where neither tells requests apart.
    """
    tenant = key if settings.share == "key" else ""
    return f"{tenant}:{given or ''}" if tenant or given else ""
