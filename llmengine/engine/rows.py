"""The rows of a step: tokens of its sequences, or embeddings of one."""

from __future__ import annotations

from llmengine.engine.work import Work
from llmengine.llama.batch import Batch
from llmengine.llama.vectors import Vectors


def fill(batch: Batch, step: list[Work]) -> list[tuple[Work, int]]:
    """Put the tokens of a step into a batch; the works that get logits, and their first rows."""
    sampled = []
    for work in step:
        sequence, slot = work.sequence, work.sequence.slot
        assert slot is not None
        start = slot.length
        position = sequence.position(start)
        if work.decoding:
            batch.add_row(slot.id, position, sequence.tokens[start])
            for at, token in enumerate(work.draft, position + 1):
                batch.add_row(slot.id, at, token)
        else:
            tokens = sequence.tokens[start : start + work.count]
            batch.add(slot.id, position, tokens, work.output)
        if work.output:
            sampled.append((work, batch.rows - 1 - len(work.draft)))
    return sampled


def vectors(work: Work) -> Vectors:
    """The embeddings that come next in a sequence."""
    sequence, slot, coming = work.sequence, work.sequence.slot, work.sequence.coming
    assert slot is not None
    assert coming is not None
    part = sequence.encodings[coming.digest].parts[coming.part]
    start = coming.span.start
    return part.rows(slot.length - start, work.count, sequence.position(start))
