"""The parts of an engine, put together from the settings."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from llmengine.cache.memory_tier import MemoryTier
from llmengine.cache.opening import MEBIBYTE, open_cache
from llmengine.cache.policy import POLICIES
from llmengine.cache.prompt_cache import PromptCache
from llmengine.config import Config
from llmengine.engine import drafting
from llmengine.engine.ceiling import Ceiling
from llmengine.engine.cells import Cells
from llmengine.engine.checkpoints import Checkpoints
from llmengine.engine.embedder import Embedder
from llmengine.engine.encoder import Encoder
from llmengine.engine.fetcher import Fetcher
from llmengine.engine.keeper import Keeper
from llmengine.engine.pacer import Pacer
from llmengine.engine.pool import Pool
from llmengine.engine.pulse import Pulse
from llmengine.engine.runner import Runner
from llmengine.engine.scheduler import Scheduler
from llmengine.engine.sizing import cell_bytes
from llmengine.engine.slots import Limits, Slots
from llmengine.engine.speculate import Speculator
from llmengine.engine.threads import Threads
from llmengine.engine.vacancy import unfelt
from llmengine.engine.watcher import Watcher
from llmengine.errors import ConfigError
from llmengine.llama import device
from llmengine.llama.context import Context
from llmengine.llama.embedding import EmbeddingContext
from llmengine.llama.model import Model
from llmengine.llama.projector import Projector
from llmengine.llama.traits import traits_of

EMBEDDINGS = 32  # inputs of a batch
log = logging.getLogger("llmengine.engine")


@dataclass(frozen=True)
class Parts:
    contexts: list[Context]  # the model's, and that of a draft model
    cache: PromptCache | None
    fetcher: Fetcher | None
    slots: Slots
    scheduler: Scheduler
    runner: Runner
    embedder: Embedder
    encoder: Encoder | None
    watcher: Watcher


def build(
    model: Model,
    config: Config,
    projector: Projector | None,
    draft: Model | None,
    *,
    cells: int,
    threads: int,
    post: Callable[[Callable[[], None]], None],
    rested: Callable[[], float],
) -> Parts:
    """Allocate the KV cache of `cells` tokens and what works on it; raises OutOfMemory
    and ConfigError.

    `post` has something done on the engine's thread, before its next step; `rested` are the
    seconds in which that had nothing to do.
    """
    wake = partial(post, _nothing)
    performance = config.performance
    if performance.deterministic and not model.can_truncate:
        log.warning("deterministic: the recurrent layers of this model may round differently")
    kept = config.cache.max_sequences if config.cache.enabled else 0
    count = config.slots + kept
    contexts = _contexts(model, draft, config, cells=cells, sequences=count, threads=threads)
    context = contexts[0]
    cache = open_cache(config.cache)
    whole, least = model.needs_checkpoints, config.cache.min_tokens
    keeper = Keeper(cache, context, min_tokens=least, whole=whole) if cache else None
    fetcher = Fetcher(cache, wake) if cache else None
    checkpoints = Checkpoints(config.cache.checkpoint_tokens, least)
    arena = performance.deterministic
    slots = Slots(
        count,
        Cells(cells),
        context,
        Limits(sequences=kept, ttl=config.cache.ttl_seconds),
        POLICIES[config.cache.eviction_policy],
        keeper=keeper,
        arena=arena,
    )
    budget = performance.media_cache_mb * MEBIBYTE
    encoder = Encoder(projector, wake, budget, Pulse(rested)) if projector else None
    # On a GPU the time of a step says nothing about the cores.
    fixed = performance.threads or model.devices
    adaptive = None if fixed else Threads(threads, partial(_set_threads, contexts))
    pacer = Pacer(performance.max_itl_ms / 1000, context.rows, adaptive, context.attention)
    scheduler = Scheduler(
        slots,
        context,
        Pool(performance.memory_pool_size_mb * MEBIBYTE),
        pacer,
        limit=config.slots,
        rows=context.rows,
        keep=config.cache.enabled,
        keeper=keeper,
        fetcher=fetcher,
        checkpoints=checkpoints if config.cache.enabled and whole else None,
        encoder=encoder,
        speculator=_speculator(contexts, config, pacer),
        arena=arena,
        vacates=_vacates(model, config, cells),
    )
    runner = Runner(model, context, scheduler, pacer)
    embedder = _embedder(model, config, threads, rested)
    tier = cache.memory if cache else None
    watcher = _watcher(model, config, tier, lambda: post(scheduler.relieve))
    return Parts(contexts, cache, fetcher, slots, scheduler, runner, embedder, encoder, watcher)


def _vacates(model: Model, config: Config, cells: int) -> int | None:
    """How many cells idle slots may have: on a CPU, where the cache has room for all."""
    cache = config.cache
    room = cache.max_size_mb + (cache.disk_max_size_mb if cache.disk else 0)
    if model.devices or model.needs_checkpoints or config.performance.deterministic:
        return None
    spacious = room * MEBIBYTE >= cells * cell_bytes(model, config)
    return unfelt(model.parameters, model.attention_values) if spacious else None


def _nothing() -> None:
    """What only wakes the engine up."""


def _contexts(model: Model, draft: Model | None, config: Config, **sizes: int) -> list[Context]:
    context = Context(model, config, **sizes)
    try:
        _check_overflow(context, config)
        return [context, *([drafting.context(draft, config, **sizes)] if draft else [])]
    except BaseException:
        context.close()
        raise


def _check_overflow(context: Context, config: Config) -> None:
    if config.model.overflow == "shift" and not context.can_shift:
        raise ConfigError(
            'model.overflow = "shift": this model cannot drop tokens while it writes; '
            'choose "error" or "truncate_left"'
        )


def _set_threads(contexts: list[Context], count: int) -> None:
    for each in contexts:
        each.set_threads(count)


def _watcher(
    model: Model, config: Config, tier: MemoryTier | None, relieve: Callable[[], None]
) -> Watcher:
    ceiling = Ceiling(config.performance.memory_ceiling_mb * MEBIBYTE)
    return Watcher(ceiling, tier, relieve, devices=lambda: device.usage(model.devices))


def _speculator(contexts: list[Context], config: Config, pacer: Pacer) -> Speculator | None:
    context, *drafts = contexts
    performance = config.performance
    # What is wrong of a draft is removed, which some models cannot, and leaves holes behind.
    if performance.speculation == "off" or performance.deterministic or not context.can_truncate:
        return None
    model = drafting.draft_model(drafts[0], context.model, config) if drafts else None
    return Speculator(pacer.costs, performance.draft_tokens, performance.max_itl_ms / 1000, model)


def _embedder(model: Model, config: Config, threads: int, rested: Callable[[], float]) -> Embedder:
    # Neighbours in a batch change the last bits.
    sequences = 1 if config.performance.deterministic else EMBEDDINGS

    def context(length: int) -> EmbeddingContext:
        return EmbeddingContext(model, config, length=length, sequences=sequences, threads=threads)

    rows = config.performance.prefill_batch
    return Embedder(traits_of(model), context, rows=rows, sequences=sequences, pulse=Pulse(rested))
