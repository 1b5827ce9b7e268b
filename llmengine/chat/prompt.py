"""The one place where messages or text become the tokens of a request."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from itertools import takewhile
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from llmengine.chat.boundaries import boundaries
from llmengine.chat.media import marked, pieces, shown
from llmengine.chat.messages import Message, flat
from llmengine.chat.template import ChatTemplate
from llmengine.core import Host, Media
from llmengine.errors import ContextLengthExceeded, InvalidRequest

_PLACE = "place-of-llmengine"  # where the words of a message are to be found


class Prompt(Struct, frozen=True):
    """What the model continues, as text and as token ids."""

    text: str
    tokens: tuple[int, ...]
    boundaries: tuple[int, ...] = ()  # as `core.Request` has them
    keep: int | None = None  # as well
    dropped_messages: int = 0  # that were left out to make it fit
    dropped_tokens: int = 0
    media: tuple[Media, ...] = ()  # as `core.Request` has them


def of_messages(
    host: Host,
    template: ChatTemplate,
    messages: Sequence[Message],
    *,
    tools: Sequence[Mapping[str, Any]] | None = None,
    add_generation_prompt: bool = True,
    continued: bool = False,
    **kwargs: Any,
) -> Prompt:
    """The prompt for `messages`; `kwargs` are the template's own variables.

    With `continued` it ends with the words of the last message. Images and sound are parts of
    content, as `chat.media.part` makes them. Raises InvalidRequest where the template refuses them.
    """
    messages, media = marked(messages)
    variables = {**kwargs, "tools": tools, "add_generation_prompt": add_generation_prompt}
    if continued:
        return of_text(host, _until_last(template, messages, variables), media)
    text = template.render(messages, **variables)
    made = of_text(host, text, media)
    if not host.info().needs_checkpoints:
        return made
    found = boundaries(host, template, messages, text, made.tokens, variables)
    return replace(made, boundaries=found)


def _until_last(
    template: ChatTemplate, messages: Sequence[Message], variables: Mapping[str, Any]
) -> str:
    """The text up to the end of the last message, whose words are kept as they are."""
    *before, last = messages
    marked = [*before, {**last, "content": _PLACE}]
    text = template.render(marked, **{**variables, "add_generation_prompt": False})
    place = text.rfind(_PLACE)
    if place < 0:
        raise InvalidRequest(
            "`continue_final_message`: the chat template does not write the last message",
            param="continue_final_message",
        )
    return text[:place] + flat(last["content"])


def of_beginning(
    host: Host,
    template: ChatTemplate,
    messages: Sequence[Message],
    *,
    tools: Sequence[Mapping[str, Any]] | None = None,
) -> Prompt:
    """What all prompts begin with whose conversations go on from `messages`.

    Templates may treat the last message in another way than earlier ones, so it is found by
    comparing two conversations that go on differently. Raises as `of_messages` does.
    """
    said = {"role": "user", "content": "a"}
    if messages and messages[-1].get("role") == "user":
        others = [[*messages], [*messages, {"role": "assistant", "content": "b"}, said]]
    else:
        others = [[*messages, said], [*messages, {"role": "user", "content": "1"}]]
    return _common(host, *(of_messages(host, template, each, tools=tools) for each in others))


def of_text_beginning(host: Host, text: str) -> Prompt:
    """What all prompts begin with that go on from `text`. Raises as `of_text` does."""
    return _common(host, of_text(host, f"{text}a"), of_text(host, f"{text}1"))


def _common(host: Host, one: Prompt, other: Prompt) -> Prompt:
    tokens = one.tokens[: common_length(one.tokens, other.tokens)]
    return Prompt(host.detokenize(tokens), tokens, media=one.media)


def common_length(one: Sequence[int], other: Sequence[int]) -> int:
    """How many tokens both begin with."""
    pairs = zip(one, other, strict=False)
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))


def of_text(
    host: Host, text: str, media: Mapping[str, Media] | None = None, *, fits: bool = True
) -> Prompt:
    """The prompt for `text`, whose names of control tokens are those tokens.

    It has the marks of `media` in it.

    Some templates write the beginning-of-text token themselves: it is never doubled. Raises
    ContextLengthExceeded where the text cannot fit but should, before it is tokenized, which takes
    its time.
    """
    bos = host.info().bos
    if fits:
        _check_length(host, text)
    written = bool(bos) and text.startswith(bos)
    media = media or {}
    found = pieces(text, media)
    tokens: list[int] = []
    if isinstance(found[0], Media):
        found.insert(0, "")
    for at, piece in enumerate(found):
        if isinstance(piece, Media):
            tokens += host.media_tokens(piece)
        else:
            tokens += host.tokenize(piece, special=True, bos=not (at or written))
    brought = tuple(each for each in found if isinstance(each, Media))
    return Prompt(shown(text, media), tuple(tokens), media=brought)


def of_gap(host: Host, prefix: str, suffix: str) -> Prompt:
    """The prompt for what is missing between `prefix` and `suffix`, as llama.cpp's /infill has it.

    The text is the prefix. Both are plain text: names of control tokens in them mean nothing.
    Raises InvalidRequest for a model that cannot fill in, ContextLengthExceeded as `of_text` does.
    """
    marks = host.info().infill
    if marks is None:
        raise InvalidRequest(
            f"`suffix`: {host.info().name} has no tokens for filling in",
            param="suffix",
            code="unsupported_parameter",
        )
    _check_length(host, prefix + suffix)
    start = host.tokenize("", bos=True)[:1]
    before, after = host.tokenize(prefix), host.tokenize(suffix)
    tokens = [*start, marks.prefix, *before, marks.suffix, *after, marks.middle]
    return Prompt(prefix, tuple(tokens))


def of_input(host: Host, text: str, param: str = "input") -> tuple[int, ...]:
    """The tokens of a text to be embedded, with those that the model wants around it."""
    _check_length(host, text, param)
    return tuple(host.tokenize(text, special=True, bos=True))


def of_pair(host: Host, query: str, document: str) -> tuple[int, ...]:
    """The tokens of which a ranking model reads how well `document` answers `query`."""
    pair = host.info().pair
    assert pair is not None
    _check_length(host, query + document, "documents")
    if pair.template is not None:
        parts = {"{query}": query, "{document}": document}
        text = re.sub(r"\{query\}|\{document\}", lambda found: parts[found[0]], pair.template)
        return tuple(host.tokenize(text, special=True))
    before, after = host.tokenize(query), host.tokenize(document)
    return (*pair.start, *before, *pair.middle, *after, *pair.end)


def _check_length(host: Host, text: str, param: str = "prompt") -> None:
    info = host.info()
    limit = info.max_sequence_length
    least = len(text) // info.longest_piece
    if least > limit:
        raise ContextLengthExceeded(
            f"This model's maximum context length is {limit} tokens, "
            f"but `{param}` has at least {least}: shorten it",
            param=param,
        )
