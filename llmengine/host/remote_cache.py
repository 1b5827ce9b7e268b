"""The prompt cache of an engine in another process."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, Protocol, TypeVar

from llmengine.inventory import CacheStats, EntryDetail, EntryInfo

Method = Literal["stats", "list", "show", "pin", "remove", "clear", "verify"]

T = TypeVar("T")


class Ask(Protocol):
    def __call__(self, kind: type[T], method: Method, /, *arguments: str | bool) -> T: ...


class RemoteCache:
    """Implements `llmengine.core.CacheControl`."""

    def __init__(self, ask: Ask, ready: Callable[[], bool]) -> None:
        """`ask` takes the type of the answer, a method and its arguments.

        While the engine is not `ready`, the latest counters serve: metrics must not wait.
        """
        self._ask = ask
        self._ready = ready
        self._latest: CacheStats | None = None

    def stats(self) -> CacheStats:
        if self._latest is None or self._ready():
            self._latest = self._ask(CacheStats, "stats")
        return self._latest

    def list(self) -> Sequence[EntryInfo]:
        return self._ask(tuple[EntryInfo, ...], "list")

    def show(self, id: str) -> EntryDetail:
        return self._ask(EntryDetail, "show", id)

    def pin(self, id: str, pinned: bool = True) -> str:
        return self._ask(str, "pin", id, pinned)

    def remove(self, id: str) -> str:
        return self._ask(str, "remove", id)

    def clear(self) -> int:
        return self._ask(int, "clear")

    def verify(self) -> Sequence[str]:
        return self._ask(tuple[str, ...], "verify")
