"""Text to token ids, in a time that grows with the text's length alone."""

from __future__ import annotations

import re
from collections.abc import Iterator

import llama_cpp

from llmengine.errors import InvalidRequest


class Tokenizer:
    """`llama_tokenize`, fed with one control token at a time.

    llama.cpp searches the whole rest of a text for every control token after every other: a text
    of a million of them would take it hours. Cut before each, the tokens are the same.
    """

    def __init__(self, vocab: llama_cpp.llama_vocab_p) -> None:
        self._vocab = vocab
        # An end token, or a separator, would be added after every part, or after the first alone.
        get_eos, get_sep = llama_cpp.llama_vocab_get_add_eos, llama_cpp.llama_vocab_get_add_sep
        names = [] if get_eos(vocab) or get_sep(vocab) else _control_names(vocab)
        longest_first = sorted(names, key=len, reverse=True)
        self._control = re.compile("|".join(map(re.escape, longest_first))) if names else None

    def tokenize(self, text: str, *, special: bool, bos: bool) -> list[int]:
        """Raises InvalidRequest on lone surrogates."""
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise InvalidRequest(
                f"the text has a lone surrogate at character {error.start}: send valid Unicode"
            ) from None
        tokens: list[int] = []
        for part in self._parts(text) if special else (text,):
            tokens += self._tokens(part.encode(), special, bos)
            bos = False
        return tokens

    def _parts(self, text: str) -> Iterator[str]:
        """`text` cut before each name of a control token."""
        start = 0
        for found in self._control.finditer(text) if self._control else ():
            if found.start():
                yield text[start : found.start()]
                start = found.start()
        yield text[start:]

    def _tokens(self, data: bytes, special: bool, bos: bool) -> list[int]:
        room = len(data) + 2
        buffer = (llama_cpp.llama_token * room)()
        count = llama_cpp.llama_tokenize(self._vocab, data, len(data), buffer, room, bos, special)
        if count < 0:
            raise InvalidRequest("the text cannot be tokenized by this model")
        return list(buffer[:count])


def _control_names(vocab: llama_cpp.llama_vocab_p) -> list[str]:
    """Of the tokens before which a text can be cut: some take the white space before them in."""
    found = []
    for token in range(llama_cpp.llama_vocab_n_tokens(vocab)):
        if llama_cpp.llama_vocab_is_control(vocab, token):
            spaced = llama_cpp.llama_vocab_get_attr(vocab, token)
            name = llama_cpp.llama_vocab_get_text(vocab, token).decode("utf-8", "replace")
            if name and not spaced & llama_cpp.LLAMA_TOKEN_ATTR_LSTRIP:
                found.append(name)
    return found
