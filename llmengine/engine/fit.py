"""Whether a model fits into memory, before it is loaded, and what would make it fit."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from llmengine import hardware, usage
from llmengine.config import Config
from llmengine.engine import sizing
from llmengine.errors import OutOfMemory
from llmengine.llama import device
from llmengine.llama.footprint import DryModel, Footprint
from llmengine.models import locate

STEP = 256  # tokens by which contexts are tried
OVERHEAD = 64 << 20  # bytes of our own, beside what llama.cpp allocates
DEVICE_OVERHEAD = 256 << 20  # bytes that a GPU's kernels take beside that
PLENTY = 8  # how often a model's file has to fit into what is free for nothing to be asked
BUFFERS = 1 << 30  # bytes, as much as buffers take with the usual rows and any vocabulary
USUAL_ROWS = 512
GIBIBYTE = 1 << 30

log = logging.getLogger("llmengine.engine")


class Free(Struct, frozen=True):
    """Bytes that may be taken."""

    host: int
    device: int  # of all GPUs together

    def holds(self, need: Footprint) -> bool:
        return _host(need) <= self.host and _device(need) <= self.device


def _host(need: Footprint) -> int:
    return need.host + OVERHEAD


def _device(need: Footprint) -> int:
    return need.device + DEVICE_OVERHEAD if need.device else 0


def cells(path: Path, config: Config) -> int | None:
    """The tokens of KV cache that there is room for; None where nothing had to be asked.

    Raises OutOfMemory, with the numbers and what would fit, and what loading a model does.
    """
    if not config.performance.memory_check:
        return None
    free = _free(config)
    paths = [path, *filter(None, [locate.find_draft(config.model)])]
    if _plenty(paths, config, free):
        return None
    with ExitStack() as opened:
        models = [opened.enter_context(closing(DryModel(each, config))) for each in paths]
        return Plan(models, config, free).cells()


def _free(config: Config) -> Free:
    host, ceiling = hardware.memory().available, config.performance.memory_ceiling_mb << 20
    if ceiling:
        host = min(host, ceiling - usage.process().memory_bytes)
    chosen = device.choose(config.model.device)
    return Free(host, sum(each.memory_free for each in chosen))


def _plenty(paths: list[Path], config: Config, free: Free) -> bool:
    """Whether these files fit for sure, as their KV cache is chosen by what is free."""
    size = sum(map(locate.size_of, paths))
    usual = not config.model.context_size and config.performance.prefill_batch <= USUAL_ROWS
    room = min(free.host, free.device or free.host)
    return usual and PLENTY * size + BUFFERS * len(paths) <= room


class Plan:
    """What a model takes with these settings, or with others."""

    def __init__(self, models: list[DryModel], config: Config, free: Free) -> None:
        """Of a model, and one more that drafts for it if there are two."""
        self._model, *self._drafts = models
        self._config = config
        self._free = free
        projector = locate.find_projector(config.model)
        self._projector = locate.size_of(projector) if projector else 0  # bytes
        self._wanted = sizing.context_cells(self._model, config)

    def cells(self) -> int:
        """Those that are wanted, or as many as fit where that is ours to choose."""
        if self._fits(self._config, self._wanted):
            return self._wanted
        largest = 0 if self._config.model.context_size else self._largest()
        if largest < max(STEP, self._config.model.max_sequence_length):
            raise OutOfMemory(self._explain())
        log.warning("there is memory for a KV cache of %d tokens, not %d", largest, self._wanted)
        return largest

    def _need(self, config: Config, cells: int) -> Footprint:
        kept = config.cache.max_sequences if config.cache.enabled else 0
        threads = sizing.threads(config)
        sizes = {"cells": cells, "sequences": config.slots + kept, "threads": threads}
        found = self._model.footprint(config, **sizes)
        if config.model.draft_model:
            [draft] = self._drafts
            found += draft.footprint(sizing.of_draft(config), **sizes)
        return replace(found, weights=found.weights + self._projector)

    def _fits(self, config: Config, cells: int) -> bool:
        try:
            return self._free.holds(self._need(config, cells))
        except OutOfMemory:  # llama.cpp has no such context, as of a KV type that does not divide
            return False

    def _largest(self) -> int:
        """The most tokens below those wanted that fit, in steps; 0: none."""
        fits, fails = 0, -(-self._wanted // STEP)
        while fails - fits > 1:
            middle = (fits + fails) // 2
            if self._fits(self._config, middle * STEP):
                fits = middle
            else:
                fails = middle
        return fits * STEP

    def _explain(self) -> str:
        need, free = self._need(self._config, self._wanted), self._free
        taken, left, where = (
            (_host(need), free.host, "memory") if _host(need) > free.host
            else (_device(need), free.device, "GPU memory")
        )  # fmt: skip
        compute = need.compute + need.device_compute
        remedies = list(self._remedies()) or ["a smaller model or a smaller quantization"]
        return (
            f"{self._names} needs {_gib(taken)} of {where} and {_gib(max(0, left))} are "
            f"free (weights {_gib(need.weights)}, KV cache of {self._wanted} tokens "
            f"{_gib(need.state)}, buffers {_gib(compute)}): it fits with "
            f"{', or with '.join(remedies)}; performance.memory_check = false tries it as it is"
        )

    @property
    def _names(self) -> str:
        return " with ".join(each.path.name for each in (self._model, *self._drafts))

    def _remedies(self) -> Iterator[str]:
        """Single settings with which it fits, as near as possible to those that are."""
        if (largest := self._largest()) >= max(STEP, self._config.model.max_sequence_length):
            yield f"model.context_size = {largest}"
        settings = self._config
        if settings.model.draft_model:
            yield from self._first("model.draft_model", [""])
        kinds = ["q8_0", "q4_0"] if settings.model.kv_type == "f16" else ["q4_0"]
        if settings.model.flash_attention != "off":
            yield from self._first("model.kv_type", kinds)
        slots = settings.server.max_concurrent_requests
        yield from self._first("server.max_concurrent_requests", _halves(slots, 1))
        rows = settings.performance.prefill_batch
        yield from self._first("performance.prefill_batch", _halves(rows, 32))
        if self._free.device:
            layers = range(self._model.layers, -1, -1)
            yield from self._first("model.gpu_layers", layers)

    def _first(self, path: str, values: Iterable[object]) -> Iterator[str]:
        """The first of these values of an option with which it fits."""
        section, _, key = path.partition(".")
        for value in values:
            changed = replace(getattr(self._config, section), **{key: value})
            if self._fits(replace(self._config, **{section: changed}), self._wanted):
                yield f"{path} = {msgspec.json.encode(value).decode()}"
                return


def _halves(value: int, least: int) -> Iterator[int]:
    while (value := value // 2) >= least:
        yield value


def _gib(size: int) -> str:
    return f"{size / GIBIBYTE:.2f} GiB"
