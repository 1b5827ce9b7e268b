"""The tokens that a step gave a sequence, and the log-probabilities on their way out."""

from __future__ import annotations

import logging
from collections.abc import Sequence as Rows

from msgspec import Struct

from llmengine.core import TokenLogprob
from llmengine.engine.sequence import Sequence
from llmengine.engine.work import Work
from llmengine.errors import EngineError, Internal
from llmengine.llama import sampler
from llmengine.llama.context import Context, Logits
from llmengine.llama.model import Model

log = logging.getLogger("llmengine.engine")


class Chosen(Struct):
    """One token, and one more for each token of the draft that was right."""

    work: Work
    tokens: list[int] = []
    logprobs: list[TokenLogprob] = []  # where they are wanted, one for each token
    error: EngineError | None = None  # why there is no further one, which ends the request

    @property
    def accepted(self) -> int:
        """Tokens of the draft that were right: those before the first that was chosen anew."""
        return sum(map(int.__eq__, self.tokens, self.work.draft))


def choose(model: Model, context: Context, work: Work, row: int, logits: Rows[Logits]) -> Chosen:
    """Sample from the outputs of `work`, in batch rows `row` and after, as far as its draft holds.

    The sampler is asked as often, and with the same past, as without a draft.
    """
    sequence, found = work.sequence, Chosen(work)
    wanted = sequence.request.params.logprobs
    try:
        for at, values in enumerate(logits):
            token = sequence.sampler.sample(context.handle, row + at, values)
            if wanted is not None:
                found.logprobs.append(sampler.logprobs(model, values, token, wanted))
            found.tokens.append(token)
            if at == len(work.draft) or token != work.draft[at]:
                break
            if ends(model, sequence, token) or sequence.sampler.ended:
                break
    except EngineError as error:
        found.error = error
    except Exception:
        log.exception("request %s failed while sampling", sequence.id)
        found.error = Internal("the next token could not be chosen")
    return found


def ends(model: Model, sequence: Sequence, token: int) -> bool:
    """Whether the model ends the completion by this token."""
    return token in model.end_tokens and sequence.request.params.ends_at_eos


def release(sequence: Sequence, text: str) -> tuple[TokenLogprob, ...]:
    """The log-probabilities that belong to reported text; those of a stop string are dropped."""
    held, sequence.held_logprobs = sequence.held_logprobs, []
    if sequence.text.stop is None:
        return tuple(held)
    left = len(text.encode())
    kept = []
    for each in held:
        if left <= 0:
            break
        kept.append(each)
        left -= len(each.piece)
    return tuple(kept)
