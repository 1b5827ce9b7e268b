"""Log-probabilities in the shapes of OpenAI's two endpoints."""

from __future__ import annotations

import codecs
from collections.abc import Sequence

from llmengine import core
from llmengine.server import wire


def of_chat(tokens: Sequence[core.TokenLogprob]) -> wire.ChatLogprobs:
    return wire.ChatLogprobs(
        [
            wire.TokenLogprob(
                _text(each.piece),
                _finite(each.logprob),
                list(each.piece),
                [
                    wire.TopLogprob(_text(top.piece), _finite(top.logprob), list(top.piece))
                    for top in each.top
                ],
            )
            for each in tokens
        ]
    )


class CompletionLogprobs:
    """Counts where in the text each token begins, over all the chunks of one choice."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._offset = 0

    def of(self, tokens: Sequence[core.TokenLogprob], *, tops: bool) -> wire.CompletionLogprobs:
        return wire.CompletionLogprobs(
            tokens=[_name(each.piece) for each in tokens],
            token_logprobs=[_finite(each.logprob) for each in tokens],
            top_logprobs=[
                {_name(top.piece): _finite(top.logprob) for top in each.top} for each in tokens
            ]
            if tops
            else None,
            text_offset=[self._advance(each.piece) for each in tokens],
        )

    def _advance(self, piece: bytes) -> int:
        start = self._offset
        self._offset += len(self._decoder.decode(piece))
        return start


def _text(piece: bytes) -> str:
    return piece.decode(errors="replace")


def _name(piece: bytes) -> str:
    """The piece as text, or as OpenAI names pieces of characters: `bytes:\\xe2\\x82`."""
    try:
        return piece.decode()
    except UnicodeDecodeError:
        return "bytes:" + "".join(f"\\x{byte:02x}" for byte in piece)


def _finite(logprob: float) -> float:
    """JSON has no infinity: OpenAI writes -9999 for what cannot come."""
    return max(logprob, -9999.0)


def mean(outputs: Sequence[core.Output]) -> float:
    """The mean log-probability of the tokens of an answer; 0 where it has none."""
    found = [token.logprob for each in outputs for token in each.logprobs]
    return sum(found) / len(found) if found else 0.0
