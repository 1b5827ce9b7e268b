"""How the work is divided, and how much memory it may take."""

from __future__ import annotations

from typing import Annotated, Literal

from llmengine.config.option import Section, option


class PerformanceConfig(Section, frozen=True):
    batch_size: Annotated[
        int,
        option("Sequences decoded together; 0: as many as max_concurrent_requests.", ge=0, le=128),
    ] = 0
    prefill_batch: Annotated[
        int, option("Prompt tokens computed in one step while nothing else runs.", ge=32, le=8192)
    ] = 512
    max_itl_ms: Annotated[
        float,
        option(
            "Time that a step may take while streams run, in ms; bounds the prefill chunks.",
            ge=1,
            le=60_000,
        ),
    ] = 400.0
    threads: Annotated[
        int,
        option(
            "Threads that compute; 0: the cores this process may use, fewer while others use them.",
            ge=0,
            le=1024,
        ),
    ] = 0
    speculation: Annotated[
        Literal["auto", "off"],
        option("Guess tokens that text repeats or a grammar forces; auto: where that pays."),
    ] = "auto"
    draft_tokens: Annotated[
        int, option("Tokens of a request that are guessed in one step at most.", ge=1, le=63)
    ] = 15
    memory_pool_size_mb: Annotated[
        int, option("Host memory for the states of preempted requests, in MiB.", ge=0, le=2**20)
    ] = 256
    media_cache_mb: Annotated[
        int,
        option("Host memory for what images and sound were encoded to, in MiB.", ge=0, le=2**20),
    ] = 256
    memory_check: Annotated[bool, option("Refuse to load what does not fit into memory.")] = True
    memory_ceiling_mb: Annotated[
        int,
        option(
            "Memory of the engine's process from which on caches are dropped, in MiB; "
            "0: a tenth of all memory, at most 1 GiB, is left free.",
            ge=0,
            le=2**24,
        ),
    ] = 0
    use_mmap: Annotated[bool, option("Map the model file instead of reading it.")] = True
    use_mlock: Annotated[bool, option("Keep the model's pages in memory.")] = False
    deterministic: Annotated[
        bool,
        option("Equal requests give equal bits whatever else runs, at some cost in speed."),
    ] = False
