"""How far the prompts are of those that ask."""

from __future__ import annotations

import time
from collections.abc import Iterator

from llmengine.core import Output, Progress
from llmengine.engine.queue import FairQueue
from llmengine.engine.sequence import Sequence

SECONDS = 1.0  # between two looks at a place in the queue, which costs a walk along it


class ProgressReports:
    """Of sequences whose first token has not come yet."""

    def __init__(self, waiting: FairQueue) -> None:
        self._waiting = waiting
        self._watched: dict[str, tuple[Sequence, Progress | None]] = {}
        self._looked = 0.0

    def watch(self, sequence: Sequence) -> None:
        if sequence.request.progress:
            self._watched[sequence.id] = (sequence, None)

    def forget(self, sequence: Sequence) -> None:
        self._watched.pop(sequence.id, None)

    def news(self) -> Iterator[tuple[Sequence, Output]]:
        """What is not told yet, after a step."""
        if not self._watched:
            return
        now = time.monotonic()
        look = now - self._looked >= SECONDS
        self._looked = now if look else self._looked
        for sequence, told in list(self._watched.values()):
            if sequence.first_token is not None:
                self.forget(sequence)
            elif sequence.slot or look or told is None:
                found = self._of(sequence, now)
                if told is None or _differs(found, told):
                    self._watched[sequence.id] = (sequence, found)
                    yield sequence, Output(sequence.id, progress=found)

    def _of(self, sequence: Sequence, now: float) -> Progress:
        return Progress(
            position=0 if sequence.slot else self._waiting.position(sequence),
            total=sequence.prompt_length,
            cached=sequence.cached_tokens,
            processed=min(sequence.computed, sequence.prompt_length),
            seconds=now - sequence.submitted,
        )


def _differs(one: Progress, other: Progress) -> bool:
    return (one.position, one.processed) != (other.position, other.processed)
