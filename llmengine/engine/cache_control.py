"""The prompt cache of an engine: its slots, and the tiers behind them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from msgspec.structs import replace

from llmengine.cache.prompt_cache import PromptCache
from llmengine.engine.placed import text_of
from llmengine.engine.slots import Slots
from llmengine.inventory import CacheStats, EntryDetail, EntryInfo, HotStats
from llmengine.llama.model import Model


class EngineCache:
    """Implements `llmengine.core.CacheControl`."""

    def __init__(
        self,
        tiers: PromptCache,
        slots: Slots,
        model: Model,
        own_scope: str,
        empty_slots: Callable[[], None],
    ) -> None:
        """`own_scope` is what the scopes of the model's own entries begin with."""
        self._tiers = tiers
        self._slots = slots
        self._model = model
        self._own_scope = own_scope
        self._empty_slots = empty_slots

    def stats(self) -> CacheStats:
        cells, idle = self._slots.cells, self._slots.idle
        hot = HotStats(
            entries=len(idle),
            tokens=sum(len(slot.tokens) for slot in idle),
            cells=cells.capacity,
            cells_used=cells.used,
            evictions=self._slots.evictions,
            hits=self._slots.hits,
            hit_tokens=self._slots.hit_tokens,
            misses=self._slots.misses,
        )
        return replace(self._tiers.stats(), hot=hot)

    def list(self) -> Sequence[EntryInfo]:
        return self._tiers.list()

    def show(self, id: str) -> EntryDetail:
        found = self._tiers.show(id)
        own = found.scope.startswith(self._own_scope)
        return replace(found, text=text_of(self._model, found.token_ids) if own else None)

    def pin(self, id: str, pinned: bool = True) -> str:
        return self._tiers.pin(id, pinned)

    def remove(self, id: str) -> str:
        return self._tiers.remove(id)

    def clear(self) -> int:
        # First the slots, whose states would otherwise be saved again.
        self._empty_slots()
        return self._tiers.clear()

    def verify(self) -> Sequence[str]:
        return self._tiers.verify()
