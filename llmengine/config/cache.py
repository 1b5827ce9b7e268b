"""What is kept of finished prompts."""

from __future__ import annotations

from typing import Annotated, Literal

from llmengine.config.option import Section, option


class CacheConfig(Section, frozen=True):
    enabled: Annotated[
        bool,
        option("Keep finished prompts to reuse their prefixes.", env="LLM_ENGINE_CACHE_ENABLED"),
    ] = True
    eviction_policy: Annotated[
        Literal["lru", "lfu", "fifo"], option("Which cached prompt leaves first, in every tier.")
    ] = "lfu"
    ttl_seconds: Annotated[
        float, option("Seconds that a prompt stays in slots and memory unused; 0: no limit.", ge=0)
    ] = 0.0
    max_sequences: Annotated[
        int, option("Finished prompts that stay in the KV cache itself.", ge=0, le=127)
    ] = 32
    max_size_mb: Annotated[
        int,
        option(
            "Host memory for states of prompts that left the KV cache, in MiB.",
            env="LLM_ENGINE_CACHE_SIZE_MB",
            ge=0,
            le=2**24,
        ),
    ] = 1024
    memory_max_sequences: Annotated[
        int, option("States in host memory at most.", ge=0, le=1_000_000)
    ] = 1000
    disk: Annotated[bool, option("Keep states on disk as well, for the next start.")] = True
    path: Annotated[
        str, option("Folder of the states on disk; empty: in the user's cache folder.")
    ] = ""
    disk_max_size_mb: Annotated[int, option("Disk for states, in MiB.", ge=0, le=2**30)] = 8192
    disk_max_sequences: Annotated[int, option("States on disk at most.", ge=0, le=1_000_000)] = (
        10_000
    )
    disk_ttl_seconds: Annotated[
        float, option("Seconds that a state stays on disk unused; 0: no limit.", ge=0)
    ] = 604_800.0
    share: Annotated[
        Literal["key", "all"],
        option("Who shares prefixes: requests with the same API key, or all."),
    ] = "key"
    warm: Annotated[
        tuple[str, ...],
        option("Files of text, or of chat messages (*.json), computed and pinned when serving."),
    ] = ()
    min_tokens: Annotated[
        int, option("Shortest prompt whose state is worth keeping, in tokens.", ge=1, le=2**24)
    ] = 64
    checkpoint_tokens: Annotated[
        int,
        option(
            "Distance of saved states in long prompts, for models whose state cannot be cut; "
            "0: only at turns.",
            ge=0,
            le=2**24,
        ),
    ] = 2048

    @property
    def stores(self) -> bool:
        """Whether states of prompts are kept beside the KV cache itself."""
        return self.enabled and bool(self.max_size_mb or (self.disk and self.disk_max_size_mb))
