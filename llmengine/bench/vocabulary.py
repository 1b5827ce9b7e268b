"""A vocabulary of any size, with merges: what a model of random weights writes can be read again.

Its tokens are a space and letters, all combinations up to the size. A text of such words comes
back as the tokens it was written with, so that the next turn of a conversation begins like the
last one.
"""

from __future__ import annotations

import itertools
import string
from collections.abc import Iterator

import gguf

CONTROLS = ["<|im_start|>", "<|im_end|>"]

# ChatML, in the fewest words.
TEMPLATE = """\
{%- for message in messages -%}
{{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\\n' -}}{%- endif -%}
"""
_SPACE = "\u0120"  # as GPT-2 writes it


def add(writer: gguf.GGUFWriter, size: int) -> None:
    """The 256 bytes as GPT-2 writes them, words, and what a chat needs."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    moved = iter(range(256, 512))
    letters = [chr(byte) if byte in printable else chr(next(moved)) for byte in range(256)]
    normal = size - len(CONTROLS)
    stems = list(itertools.islice(_stems(), normal - len(letters)))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("qwen2")
    writer.add_token_list([*letters, *(stem + letter for stem, letter in stems), *CONTROLS])
    types = [gguf.TokenType.NORMAL] * normal + [gguf.TokenType.CONTROL] * len(CONTROLS)
    writer.add_token_types(types)
    writer.add_token_merges([f"{stem} {letter}" for stem, letter in stems])
    writer.add_eos_token_id(size - 1)
    writer.add_add_bos_token(False)
    writer.add_chat_template(TEMPLATE)


def _stems() -> Iterator[tuple[str, str]]:
    """The words, shorter ones first, each as a word before it and a letter more."""
    for length in itertools.count(1):
        for letters in itertools.product(string.ascii_lowercase, repeat=length):
            yield _SPACE + "".join(letters[:-1]), letters[-1]
