"""What a model takes of memory, against what was foreseen before it was loaded."""

from __future__ import annotations

import argparse
import gc
from contextlib import ExitStack
from pathlib import Path

from llmengine import usage
from llmengine.bench.shaped import shaped
from llmengine.config import CacheConfig, Config, ModelConfig, ServerConfig
from llmengine.core import Request
from llmengine.engine.engine import Engine
from llmengine.engine.fit import OVERHEAD
from llmengine.llama.footprint import DryModel
from llmengine.sampling import SamplingParams

MEBIBYTE = 1 << 20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", help="a GGUF file, or a shape like tiny-152k for random weights")
    parser.add_argument("--cells", type=int, default=4096)
    parser.add_argument("--slots", type=int, default=4)
    given = parser.parse_args()
    config = Config(
        model=ModelConfig(model_path=given.model, context_size=given.cells, device="cpu"),
        server=ServerConfig(max_concurrent_requests=given.slots),
        cache=CacheConfig(max_sequences=4, max_size_mb=0, disk=False),
    )
    with ExitStack() as stack:
        if not Path(given.model).exists():
            made = shaped(given.model, config, given.cells, lambda text: None)
            _, config = stack.enter_context(made)
            gc.collect()
        _measure(config, given.cells, given.slots)


def _measure(config: Config, cells: int, slots: int) -> None:
    before = usage.process().memory_bytes
    dry = DryModel(Path(config.model.model_path), config)
    need = dry.footprint(config, cells=cells, sequences=slots + 4, threads=2)
    dry.close()
    print(f"foreseen: {need}, own {OVERHEAD // MEBIBYTE} MiB")
    with Engine(config) as engine:
        loaded = usage.process().memory_bytes
        _fill(engine, cells, slots)
        full = usage.process().memory_bytes
    taken = full - before
    foreseen = need.host + OVERHEAD
    print(
        f"in MiB: process {before / MEBIBYTE:.0f} before, {loaded / MEBIBYTE:.0f} loaded, "
        f"{full / MEBIBYTE:.0f} full: {taken / MEBIBYTE:.0f} taken of the "
        f"{foreseen / MEBIBYTE:.0f} foreseen, {taken / foreseen:.0%}"
    )


def _fill(engine: Engine, cells: int, slots: int) -> None:
    """Let prompts take all cells, each slot its part."""
    import queue

    outputs: queue.SimpleQueue[str] = queue.SimpleQueue()

    def sink(found: object) -> None:
        for each in found:  # type: ignore[attr-defined]
            if each.finish_reason:
                outputs.put(each.finish_reason)

    length = min(cells // slots - 32, engine.info().max_sequence_length - 32)
    for slot in range(slots):
        # Another token each: nothing is to be shared.
        request = Request(
            id=str(slot), prompt=(5 + slot,) * length, params=SamplingParams(max_tokens=8)
        )
        engine.submit(request, sink)
    for _ in range(slots):
        outputs.get()


if __name__ == "__main__":
    main()
