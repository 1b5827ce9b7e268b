"""What a benchmark tells of itself while it runs."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    def begin(self, what: str, total: int) -> None:
        """The next part, of so many steps."""
        ...

    def advance(self) -> None:
        """One step of the part is done."""
        ...


class Silent:
    def begin(self, what: str, total: int) -> None:
        pass

    def advance(self) -> None:
        pass
