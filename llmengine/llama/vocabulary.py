"""A model's vocabulary as llguidance reads it: the bytes of every token."""

from __future__ import annotations

import ctypes

import llama_cpp
from llguidance import LLTokenizer

from llmengine.llama.model import Model

CONTROL = b"\xff"  # llguidance's mark of tokens that no text contains; UTF-8 has no such byte


def vocabulary(model: Model) -> LLTokenizer:
    """The vocabulary of `model`, to be called while that is in use, and used no longer.

    It takes half a second for 150,000 tokens.
    """
    buffer = ctypes.create_string_buffer(model.longest_piece)
    tokenize = ctypes.cast(llama_cpp.llama_cpp._lib.llama_tokenize, ctypes.c_void_p).value
    # What llguidance's own `lltokenizer_from_vocab` calls; that one takes every token in angle
    # brackets for a control token, also those that models write as text, like `<think>`.
    found: LLTokenizer = LLTokenizer.from_llamacpp(  # type: ignore[attr-defined]
        tokens=[_bytes(model, token, buffer) for token in range(model.vocabulary)],
        vocab_ptr=model.vocab,
        tokenize_fptr=tokenize,
        eos_token=sorted(model.end_tokens) or [model.eos],
        slices=None,
    )
    return found


def _bytes(model: Model, token: int, buffer: ctypes.Array[ctypes.c_char]) -> bytes:
    """What a token adds to an answer's text; of control and end tokens the name, marked."""
    read = llama_cpp.llama_token_to_piece
    if token not in model.end_tokens:
        size = read(model.vocab, token, buffer, len(buffer), 0, False)
        if size > 0:
            return ctypes.string_at(buffer, size)
    size = read(model.vocab, token, buffer, len(buffer), 0, True)
    return CONTROL + ctypes.string_at(buffer, max(size, 0))
