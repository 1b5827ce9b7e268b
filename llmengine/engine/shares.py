"""How prompts divide the rows of a step."""

from __future__ import annotations

from llmengine.engine.sequence import Sequence


def shares(prefilling: list[Sequence], chunk: int) -> list[tuple[Sequence, int]]:
    """Divide a chunk: short prompts first, so that none waits behind a long one.

    A quarter is the oldest's, so that a stream of short ones can't hold it up for ever.
    """
    if not prefilling or chunk <= 0:
        return []
    counts = [0] * len(prefilling)
    counts[0] = min(prefilling[0].ahead, max(chunk // 4, 1))
    chunk -= counts[0]
    for index in sorted(range(len(prefilling)), key=lambda each: prefilling[each].pending):
        more = min(prefilling[index].ahead - counts[index], chunk)
        counts[index] += more
        chunk -= more
    return [(each, count) for each, count in zip(prefilling, counts, strict=True) if count]
