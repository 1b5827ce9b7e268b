"""The choice of a token from one row of logits, in numpy: llama.cpp's usual samplers, exactly.

llama.cpp copies the whole vocabulary for every token that it samples; here only the few that can
be chosen are looked at. The order is that of its default chain: top_k, top_p, min_p, temperature.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from llmengine.llama.context import Logits
from llmengine.sampling import SamplingParams

_COLUMN = 128  # logits of which the largest is taken, to find a bound for the k largest of all
_LOWEST = np.finfo(np.float32).min  # of those that may be chosen

Tokens = npt.NDArray[np.intp]


class Choice:
    """Draws tokens; equal seeds draw equally."""

    def __init__(self, params: SamplingParams, seed: int) -> None:
        self._params = params
        self._seed = seed
        self._random = np.random.Generator(np.random.Philox(seed))
        self._drawn = 0  # tokens

    def draw(self, logits: Logits) -> int:
        """A token; where the logits are no numbers, one with such a logit."""
        return self._at(self.skip(), logits)

    def draw_again(self, logits: Logits) -> int:
        """A token in place of the last one, by a number that `skip` need not know of."""
        random = np.random.Generator(np.random.Philox([self._seed, self._drawn]))
        return self._at(random.random(), logits)

    def skip(self) -> float:
        """The random number of the next token, as if it had been drawn."""
        self._drawn += 1
        return self._random.random()

    def _at(self, share: float, logits: Logits) -> int:
        params = self._params
        if not math.isfinite(logits.max()):
            return int(logits.argmax())
        tokens = candidates(logits, params)
        scaled = logits[tokens].astype(np.float64) / params.temperature
        sums = np.exp(scaled - scaled.max()).cumsum()
        at = sums.searchsorted(share * sums[-1], side="right")
        return int(tokens[min(int(at), len(tokens) - 1)])


def candidates(logits: Logits, params: SamplingParams) -> Tokens:
    """The tokens that top_k, top_p and min_p leave, the likeliest first; at least one."""
    tokens = _largest(logits, params.top_k) if params.top_k else np.flatnonzero(logits > -np.inf)
    values = logits[tokens]
    if params.min_p > 0 and not params.top_k:
        # What min_p drops are the last ones: top_p needs their sum alone.
        total = float(np.exp(values - values.max(), dtype=np.float64).sum())
        kept = values >= values.max() + math.log(params.min_p)
        tokens, values = tokens[kept], values[kept]
    else:
        total = 0.0
    order = np.argsort(-values, kind="stable")
    tokens, values = tokens[order], values[order]
    if params.top_p < 1:
        shares = np.exp(values - values[0], dtype=np.float64)
        sums = shares.cumsum()
        enough = params.top_p * (total or sums[-1])
        tokens = tokens[: int(sums.searchsorted(enough)) + 1]
        values = values[: len(tokens)]
    if params.min_p > 0:
        tokens = tokens[values >= values[0] + math.log(params.min_p)]
    return tokens


def _largest(logits: Logits, count: int) -> Tokens:
    """The tokens with the `count` largest logits, in no order.

    Every logit is read once, for the largest of each column of a table. The count-th largest of
    these bounds the result from below, so only the columns that reach it are looked into.
    """
    width = len(logits) // _COLUMN
    if width <= count:
        found = np.flatnonzero(logits > -np.inf)
    else:
        table, rest = logits[: _COLUMN * width].reshape(_COLUMN, width), logits[_COLUMN * width :]
        most = table.max(axis=0)
        bound = max(np.partition(most, width - count)[width - count], _LOWEST)
        (columns,) = (most >= bound).nonzero()
        row, column = (table[:, columns] >= bound).nonzero()
        found = row * width + columns[column]
        if len(rest):
            found = np.append(found, np.flatnonzero(rest >= bound) + _COLUMN * width)
    if len(found) > count:
        found = found[np.argpartition(-logits[found], count - 1)[:count]]
    return found
