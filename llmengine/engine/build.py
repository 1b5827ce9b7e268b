"""The parts of an engine, put together from the settings."""

from __future__ import annotations

from dataclasses import dataclass

from llmengine.cache.policy import POLICIES
from llmengine.config import Config
from llmengine.engine import sizing
from llmengine.engine.cells import Cells
from llmengine.engine.pacer import Pacer
from llmengine.engine.pool import Pool
from llmengine.engine.runner import Runner
from llmengine.engine.scheduler import Scheduler
from llmengine.engine.slots import Limits, Slots
from llmengine.llama.context import Context
from llmengine.llama.model import Model

MEBIBYTE = 1024 * 1024


@dataclass(frozen=True)
class Parts:
    context: Context
    slots: Slots
    scheduler: Scheduler
    runner: Runner


def build(model: Model, config: Config, *, cells: int, threads: int) -> Parts:
    """Allocate the KV cache of `cells` tokens and what works on it; raises OutOfMemory."""
    performance, cache = config.performance, config.cache
    kept = cache.max_sequences if cache.enabled else 0
    count = config.slots + kept
    context = Context(model, config, cells=cells, sequences=count, threads=threads)
    kept_cells = cache.max_size_mb * MEBIBYTE // max(1, sizing.cell_bytes(model, config))
    slots = Slots(
        count,
        Cells(cells),
        context,
        Limits(sequences=kept, cells=kept_cells),
        POLICIES[cache.eviction_policy],
        arena=performance.deterministic,
    )
    pacer = Pacer(performance.max_itl_ms / 1000, context.rows)
    scheduler = Scheduler(
        slots,
        context,
        Pool(performance.memory_pool_size_mb * MEBIBYTE),
        pacer,
        limit=config.slots,
        rows=context.rows,
        keep=kept > 0,
        arena=performance.deterministic,
    )
    return Parts(context, slots, scheduler, Runner(model, context, scheduler, pacer))
