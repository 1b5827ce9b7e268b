"""The tiers that the settings ask for."""

from __future__ import annotations

from pathlib import Path

import platformdirs

from llmengine.cache.disk_tier import DiskTier
from llmengine.cache.memory_tier import MemoryTier
from llmengine.cache.policy import POLICIES
from llmengine.cache.prompt_cache import PromptCache
from llmengine.config import CacheConfig

MEBIBYTE = 1024 * 1024


def open_cache(settings: CacheConfig) -> PromptCache | None:
    """The tiers behind the slots, or None if there are to be none."""
    if not settings.stores:
        return None
    memory = None
    if settings.max_size_mb:
        memory = MemoryTier(
            settings.max_size_mb * MEBIBYTE,
            settings.memory_max_sequences,
            settings.ttl_seconds,
            POLICIES[settings.eviction_policy](),
        )
    disk = open_disk(settings) if settings.disk and settings.disk_max_size_mb else None
    return PromptCache(memory, disk)


def open_disk(settings: CacheConfig) -> DiskTier:
    return DiskTier(
        cache_folder(settings),
        settings.disk_max_size_mb * MEBIBYTE,
        settings.disk_max_sequences,
        settings.disk_ttl_seconds,
        POLICIES[settings.eviction_policy](),
    )


def cache_folder(settings: CacheConfig) -> Path:
    """Where the states lie on disk."""
    if settings.path:
        return Path(settings.path).expanduser()
    return Path(platformdirs.user_cache_dir("llmengine")) / "states"
