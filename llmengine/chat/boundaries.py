"""Where other prompts may part from a chat prompt: after the system message and after a turn.

States are saved there for models that can start from nowhere else. In between, the next turn's
prompt may differ from this one: many templates leave out what the model thought.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import takewhile
from typing import Any

from llmengine.chat.messages import Message
from llmengine.chat.template import ChatTemplate
from llmengine.core import Host
from llmengine.errors import InvalidRequest

_QUESTION = "\u2063"  # begins as no user's message does
_MARGIN = 8  # tokens before a border that are the same however the text after it is cut


def boundaries(
    host: Host,
    template: ChatTemplate,
    messages: Sequence[Message],
    text: str,
    tokens: tuple[int, ...],
    variables: Mapping[str, Any],
) -> tuple[int, ...]:
    """Lengths in tokens, ascending, of a prompt that was rendered with these `variables`."""
    found = [
        _tokens_before(host, text, _end_of_system(template, messages, text, variables), tokens),
        _tokens_until(host, text, _end_of_turn(template, messages, text, variables), tokens),
    ]
    return tuple(sorted({each for each in found if each > 0}))


def _end_of_system(
    template: ChatTemplate, messages: Sequence[Message], text: str, variables: Mapping[str, Any]
) -> int:
    """Characters in common with another question after the same system message and tools."""
    system = list(takewhile(lambda each: each.get("role") in ("system", "developer"), messages))
    if not system and not variables.get("tools"):
        return 0
    question = {"role": "user", "content": _QUESTION}
    try:
        return _common(text, template.render([*system, question], **variables))
    except InvalidRequest:
        return 0  # a template that takes no such conversation


def _end_of_turn(
    template: ChatTemplate, messages: Sequence[Message], text: str, variables: Mapping[str, Any]
) -> int:
    """Characters before the generation prompt, of which the next turn may keep nothing."""
    try:
        without = template.render(messages, **{**variables, "add_generation_prompt": False})
    except InvalidRequest:
        return 0
    return _common(text, without)


def _tokens_before(host: Host, text: str, length: int, tokens: tuple[int, ...]) -> int:
    """How many tokens the first `length` characters have in common with the whole."""
    bos = host.info().bos
    written = bool(bos) and text.startswith(bos)
    head = tuple(host.tokenize(text[:length], special=True, bos=not written)) if length else ()
    return _common(head, tokens)


def _tokens_until(host: Host, text: str, length: int, tokens: tuple[int, ...]) -> int:
    """As `_tokens_before`, for a `length` near the end: only what comes after is tokenized."""
    if not length:
        return 0
    tail = tuple(host.tokenize(text[length:], special=True, bos=False))
    index = len(tokens) - len(tail)
    return index if tokens[index:] == tail else index - _MARGIN


def _common(one: Sequence[object], other: Sequence[object]) -> int:
    """How many items two sequences of the same kind begin with in common."""
    low, high = 0, min(len(one), len(other))
    while low < high:
        middle = (low + high + 1) // 2
        if one[:middle] == other[:middle]:
            low = middle
        else:
            high = middle - 1
    return low
