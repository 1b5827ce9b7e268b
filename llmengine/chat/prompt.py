"""The one place where messages or text become the tokens of a request."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from msgspec import Struct

from llmengine.chat.template import ChatTemplate, Message
from llmengine.core import Host
from llmengine.errors import ContextLengthExceeded


class Prompt(Struct, frozen=True):
    """What the model continues, as text and as token ids."""

    text: str
    tokens: tuple[int, ...]


def of_messages(
    host: Host,
    template: ChatTemplate,
    messages: Sequence[Message],
    *,
    tools: Sequence[Mapping[str, Any]] | None = None,
    add_generation_prompt: bool = True,
    **kwargs: Any,
) -> Prompt:
    """The prompt for `messages`; `kwargs` are the template's own variables.

    Raises InvalidRequest where the template refuses them.
    """
    text = template.render(
        messages, tools=tools, add_generation_prompt=add_generation_prompt, **kwargs
    )
    return of_text(host, text)


def of_text(host: Host, text: str) -> Prompt:
    """The prompt for `text`, whose names of control tokens are those tokens.

    Some templates write the beginning-of-text token themselves: it is never doubled. Raises
    ContextLengthExceeded where the text cannot fit, before it is tokenized, which takes its time.
    """
    info = host.info()
    bos, limit = info.bos, info.max_sequence_length
    least = len(text) // info.longest_piece
    if least > limit:
        raise ContextLengthExceeded(
            f"This model's maximum context length is {limit} tokens, "
            f"but the prompt has at least {least}: shorten it",
            param="prompt",
        )
    written = bool(bos) and text.startswith(bos)
    return Prompt(text, tuple(host.tokenize(text, special=True, bos=not written)))
