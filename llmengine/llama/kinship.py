"""Whether two models speak of the same tokens, so that one may draft for the other."""

from __future__ import annotations

from collections.abc import Iterator

import llama_cpp

from llmengine.llama.model import Model

# As llama.cpp's own tools have it (common/speculative.cpp): the first tokens are marks, which files
# name as they like, and vocabularies are padded to different sizes.
_MARKS = 5
_PADDING = 128


def difference(model: Model, draft: Model) -> str | None:
    """Why the tokens of `draft` are not those of `model`; None if they are."""
    return next(_differences(model, draft), None)


def _differences(model: Model, draft: Model) -> Iterator[str]:
    one, two = model.vocab, draft.vocab
    if llama_cpp.llama_vocab_type(one) != llama_cpp.llama_vocab_type(two):
        yield "its tokenizer is of another kind"
    if _start(model) != _start(draft):
        yield "its texts begin with another token"
    if _end(model) != _end(draft):
        yield "its texts end with another token"
    if abs(model.vocabulary - draft.vocabulary) > _PADDING:
        yield f"its vocabulary has {draft.vocabulary} tokens, not {model.vocabulary}"
    text = llama_cpp.llama_vocab_get_text
    for token in range(_MARKS, min(model.vocabulary, draft.vocabulary)):
        if text(one, token) != text(two, token):
            yield f"its token {token} is {_shown(draft, token)}, not {_shown(model, token)}"


def _start(model: Model) -> int | None:
    """The token that is put before a text."""
    return model.bos if llama_cpp.llama_vocab_get_add_bos(model.vocab) else None


def _end(model: Model) -> int | None:
    return model.eos if llama_cpp.llama_vocab_get_add_eos(model.vocab) else None


def _shown(model: Model, token: int) -> str:
    return repr(model.piece(token).decode("utf-8", "replace"))
