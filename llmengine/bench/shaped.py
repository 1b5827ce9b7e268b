"""A model of random weights in a temporary folder, for as long as it is measured."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from llmengine.bench import fit, shapes, weights
from llmengine.config import Config


@contextmanager
def shaped(
    text: str, config: Config, cells: int, say: Callable[[str], None]
) -> Iterator[tuple[str, Config]]:
    """Name of the model, and settings that name its file in place of another.

    `cells` are those of its KV cache. Raises InvalidRequest for what is no shape and OutOfMemory
    for one that has no room.
    """
    name, shape, kind = shapes.parse(text)
    full = f"{name}:{kind}"
    with tempfile.TemporaryDirectory(prefix="llmengine-bench-") as folder:
        needed = fit.need(shape, kind, cells, config.performance.prefill_batch)
        fit.check(full, needed, Path(folder))
        say(f"making {full}: {needed.disk / fit.GIB:.2f} GiB of random weights")
        path = weights.write(Path(folder) / f"{name}-{kind}.gguf", shape, kind)
        model = msgspec.structs.replace(config.model, model_path=str(path))
        yield full, msgspec.structs.replace(config, model=model)
