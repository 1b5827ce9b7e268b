"""The parts of an engine, put together from the settings."""

from __future__ import annotations

from dataclasses import dataclass

from llmengine.cache.opening import MEBIBYTE, open_cache
from llmengine.cache.policy import POLICIES
from llmengine.cache.prompt_cache import PromptCache
from llmengine.config import Config
from llmengine.engine.cells import Cells
from llmengine.engine.embedder import Embedder
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

EMBEDDINGS = 32  # inputs of a batch


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
    # Neighbours in a batch change the last bits.
    sequences = 1 if config.performance.deterministic else EMBEDDINGS

    def context(length: int) -> EmbeddingContext:
        return EmbeddingContext(model, config, length=length, sequences=sequences, threads=threads)

    rows = config.performance.prefill_batch
    return Embedder(traits_of(model), context, rows=rows, sequences=sequences)
