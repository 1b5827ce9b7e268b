"""Images and recordings of a request, where they stand in its prompt."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from msgspec import Struct

from llmengine.core import Media, Request
from llmengine.errors import InvalidRequest
from llmengine.llama.model import Model
from llmengine.media.spans import SURE, Span, spans

MARK = "<__media__>"


class Placed(Struct, frozen=True):
    """One part of an image or a recording; most have but one."""

    media: Media
    digest: bytes
    part: int
    span: Span


def placed(request: Request, tokens_of: Callable[[Media], tuple[int, ...]]) -> tuple[Placed, ...]:
    """All parts, in order.

    Raises InvalidRequest where the prompt's negative ids are not those of its media.
    """
    found: list[Placed] = []
    expected = []
    places = spans(request.prompt)
    for media in request.media:
        tokens, digest = tokens_of(media), media.digest
        for part, span in enumerate(spans(tokens)):
            expected.append(tokens[span.start : span.end])
            if len(found) < len(places):
                found.append(Placed(media, digest, part, places[len(found)]))
    given = [request.prompt[each.start : each.end] for each in places]
    negative = sum(token < 0 for token in request.prompt)
    if given != expected or negative != sum(map(len, given)):
        raise InvalidRequest("the prompt's images are not those that came with it", param="media")
    return tuple(found)


def salt_of(parts: tuple[Placed, ...]) -> str:
    """What keeps prompts apart that the ids of their shortest spans might not."""
    return "".join(each.digest.hex() for each in parts if each.span.length < SURE)


def text_of(model: Model, tokens: Sequence[int]) -> str:
    """The text of a prompt, with a mark where an image or a recording is."""
    text, start = "", 0
    for each in spans(tokens):
        text += model.detokenize(tokens[start : each.start]) + MARK
        start = each.end
    return text + model.detokenize(tokens[start:])
