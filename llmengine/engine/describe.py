"""What is told of a loaded model, and how an engine does."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from llmengine.config import Config
from llmengine.core import ModelInfo, Stats
from llmengine.engine.embedder import Embedder
from llmengine.engine.runner import Runner
from llmengine.engine.scheduler import Scheduler
from llmengine.engine.watcher import Watcher
from llmengine.llama.model import Model
from llmengine.llama.traits import Pooling, pair_of, traits_of

UNBOUNDED = 2**31 - 1  # bytes of a piece: any text may be one unknown token


def describe(
    model: Model,
    config: Config,
    *,
    cells: int,
    max_length: int,
    threads: int,
    shifts: bool,
    media: tuple[str, ...],
) -> ModelInfo:
    traits = traits_of(model)
    ranks = traits.pooling is Pooling.RANK
    return ModelInfo(
        name=config.model.name or model.path.stem,
        path=str(model.path),
        description=model.description,
        created=int(model.path.stat().st_mtime),
        size_bytes=model.size_bytes,
        parameters=model.parameters,
        vocabulary=model.vocabulary,
        longest_piece=model.longest_piece if traits.keeps_text else UNBOUNDED,
        context_length=model.context_length,
        max_sequence_length=max_length,
        context_size=cells,
        chat_template=model.chat_template,
        bos=_name(model, model.bos),
        eos=_name(model, model.eos),
        sampling=model.sampling,
        infill=model.infill,
        generates=traits.generates,
        embedding_size=traits.embedding_size,
        ranks=ranks,
        pair=pair_of(model) if ranks else None,
        draft_model=Path(config.model.draft_model).stem,
        device=", ".join(each.name for each in model.devices) or "CPU",
        threads=threads,
        shifts=shifts,
        media=media,
        needs_checkpoints=model.needs_checkpoints,
    )


def _name(model: Model, token: int) -> str:
    return model.piece(token).decode("utf-8", "replace") if token >= 0 else ""


def counted(runner: Runner, scheduler: Scheduler, embedder: Embedder, watcher: Watcher) -> Stats:
    """What they know."""
    # Copied first: their own threads go on counting.
    finished = Counter(dict(runner.finished)) + Counter(dict(embedder.finished))
    slots = scheduler.slots
    return Stats(
        finished=dict(finished),
        running=len(scheduler.running),
        waiting=len(scheduler.waiting),
        steps=runner.steps,
        prompt_tokens=runner.prompt_tokens,
        prefilled_tokens=runner.prefilled_tokens,
        cached_tokens=runner.cached_tokens,
        completion_tokens=runner.completion_tokens,
        drafted_tokens=runner.drafted_tokens,
        accepted_tokens=runner.accepted_tokens,
        preemptions=scheduler.preemptions,
        evictions=slots.evictions,
        cells=slots.cells.capacity,
        cells_used=slots.cells.used,
        slots=scheduler.limit,
        slots_idle=len(slots.idle),
        prefill_seconds=runner.prefill_seconds,
        decode_seconds=runner.decode_seconds,
        last_step_seconds=runner.last_step_seconds,
        process=watcher.process,
        devices=watcher.devices,
        memory_headroom_bytes=watcher.headroom,
        memory_drops=watcher.drops,
    )
