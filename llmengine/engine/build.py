"""The parts of an engine, put together from the settings."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import platformdirs

from llmengine.cache.disk_tier import DiskTier
from llmengine.cache.memory_tier import MemoryTier
from llmengine.cache.policy import POLICIES
from llmengine.cache.prompt_cache import PromptCache
from llmengine.config import CacheConfig, Config
from llmengine.engine.cells import Cells
from llmengine.engine.embedder import SEQUENCES, Embedder
from llmengine.engine.keeper import Keeper
from llmengine.engine.pacer import Pacer
from llmengine.engine.pool import Pool
from llmengine.engine.runner import Runner
from llmengine.engine.scheduler import Scheduler
from llmengine.engine.slots import Limits, Slots
from llmengine.llama.context import Context
from llmengine.llama.embedding import EmbeddingContext
from llmengine.llama.model import Model
from llmengine.llama.traits import traits_of

MEBIBYTE = 1024 * 1024


@dataclass(frozen=True)
class Parts:
    context: Context
    cache: PromptCache | None
    slots: Slots
    scheduler: Scheduler
    runner: Runner
    embedder: Embedder


def build(model: Model, config: Config, *, cells: int, threads: int) -> Parts:
    """Allocate the KV cache of `cells` tokens and what works on it; raises OutOfMemory."""
    performance = config.performance
    kept = config.cache.max_sequences if config.cache.enabled else 0
    count = config.slots + kept
    context = Context(model, config, cells=cells, sequences=count, threads=threads)
    cache = open_cache(config.cache)
    keeper = (
        Keeper(cache, context, min_tokens=config.cache.min_tokens, whole=not model.can_truncate)
        if cache
        else None
    )
    arena = performance.deterministic
    slots = Slots(
        count,
        Cells(cells),
        context,
        Limits(sequences=kept),
        POLICIES[config.cache.eviction_policy],
        keeper=keeper,
        arena=arena,
    )
    pacer = Pacer(performance.max_itl_ms / 1000, context.rows)
    scheduler = Scheduler(
        slots,
        context,
        Pool(performance.memory_pool_size_mb * MEBIBYTE),
        pacer,
        limit=config.slots,
        rows=context.rows,
        keep=config.cache.enabled,
        keeper=keeper,
        arena=arena,
    )
    runner = Runner(model, context, scheduler, pacer)
    return Parts(context, cache, slots, scheduler, runner, _embedder(model, config, threads))


def _embedder(model: Model, config: Config, threads: int) -> Embedder:
    def context(length: int) -> EmbeddingContext:
        return EmbeddingContext(model, config, length=length, sequences=SEQUENCES, threads=threads)

    performance = config.performance
    max_itl = performance.max_itl_ms / 1000
    return Embedder(traits_of(model), context, max_itl=max_itl, rows=performance.prefill_batch)


def open_cache(settings: CacheConfig) -> PromptCache | None:
    """The tiers behind the slots, or None if there are to be none."""
    if not settings.enabled:
        return None
    policy = POLICIES[settings.eviction_policy]
    memory = disk = None
    if settings.max_size_mb:
        memory = MemoryTier(
            settings.max_size_mb * MEBIBYTE,
            settings.memory_max_sequences,
            settings.ttl_seconds,
            policy(),
        )
    if settings.disk and settings.disk_max_size_mb:
        disk = DiskTier(
            cache_folder(settings),
            settings.disk_max_size_mb * MEBIBYTE,
            settings.disk_max_sequences,
            settings.disk_ttl_seconds,
            policy(),
        )
    return PromptCache(memory, disk) if memory or disk else None


def cache_folder(settings: CacheConfig) -> Path:
    """Where the states lie on disk."""
    if settings.path:
        return Path(settings.path).expanduser()
    return Path(platformdirs.user_cache_dir("llmengine")) / "states"
