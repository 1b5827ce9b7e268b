"""What a step computes: tokens of running streams, and of prompts beside them."""

from __future__ import annotations

from collections.abc import Iterable
from math import ceil

from msgspec import Struct

from llmengine.engine.work import Work
from llmengine.llama.attention import Attention


class Mix(Struct, frozen=True):
    """So many tokens, and what of the KV cache lies before them."""

    decoding: int = 0  # streams that get their next token
    prompt: int = 0  # tokens of prompts
    behind: int = 0  # tokens before those of the streams, of all together
    depth: int = 0  # tokens before the first of a prompt's, on average
    cells: int = 0  # that all of these sequences have by now, shared ones once

    def work(self, prompt: int, attention: Attention) -> float:
        """What `prompt` of the tokens of prompts are, in tokens without any cells before them.

        A row passes by the cells of its own sequence; rows of a tile do so by those of all.
        """
        depth, rows = self.depth + prompt / 2, self.decoding + prompt
        if not attention.tile or rows < attention.tile:
            return prompt + attention.per_cell * prompt * depth
        others = ceil(rows / attention.tile) - 1  # of the prompts alone
        passed = attention.tile * (self.cells + prompt / 2 + others * depth)
        return prompt + attention.in_tile * passed - attention.per_cell * self.behind


def mix_of(step: Iterable[Work], used: int) -> Mix:
    """The mix of a step, before which running sequences have `used` cells in all."""
    streams = prompt = behind = before = weighted = 0
    for work in step:
        computed = work.sequence.computed
        if work.decoding:
            streams += 1
            behind += computed
        else:
            prompt += work.count
            before += computed
            weighted += work.count * computed
    return Mix(streams, prompt, behind, weighted // max(prompt, 1), min(behind + before, used))
