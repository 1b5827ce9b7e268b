"""Grammars tried on text, over a vocabulary of single bytes."""

from __future__ import annotations

import functools

from llguidance import LLMatcher, LLTokenizer, TokenizerWrapper

from llmengine.grammar import source
from llmengine.sampling import Constraint

END = 256


class _Bytes:
    eos_token_id = END
    bos_token_id = None
    tokens = (*(bytes([value]) for value in range(256)), b"\xff<end>")
    special_token_ids = (END,)

    def __call__(self, text: bytes) -> list[int]:
        return list(text)


@functools.cache
def vocabulary() -> LLTokenizer:
    return LLTokenizer(TokenizerWrapper(_Bytes()))


def matcher(constraint: Constraint) -> LLMatcher:
    found = LLMatcher(
        vocabulary(), source.listing(source.grammar(constraint), constraint.thinking), log_level=0
    )
    assert not found.is_error(), found.get_error()
    return found


def accepts(constraint: Constraint, text: str) -> bool:
    """Whether `text` is a whole answer."""
    found = matcher(constraint)
    data = text.encode()
    return found.try_consume_tokens(list(data)) == len(data) and found.is_accepting()


def begins(constraint: Constraint, text: str) -> bool:
    """Whether an answer may begin with `text`."""
    data = text.encode()
    return matcher(constraint).try_consume_tokens(list(data)) == len(data)
