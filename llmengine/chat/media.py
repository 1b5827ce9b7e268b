"""Images and recordings in messages: marked while a template writes text around them."""

from __future__ import annotations

import re
import secrets
from collections.abc import Mapping, Sequence
from typing import Any

from llmengine.core import Media
from llmengine.errors import InvalidRequest

MARK = "<__media__>"  # how one is shown in a prompt's text


def part(media: Media) -> dict[str, Any]:
    """A part of a message's content, beside parts of text."""
    return {"type": "media", "media": media}


def marked(
    messages: Sequence[Mapping[str, Any]],
) -> tuple[list[Mapping[str, Any]], dict[str, Media]]:
    """The messages with a mark for each of their media, and what the marks stand for.

    Marks are drawn by lot, so no text can be taken for one.
    """
    key, found = secrets.token_hex(8), dict[str, Media]()

    def mark(part: Mapping[str, Any]) -> Mapping[str, Any]:
        if part["type"] != "media":
            return part
        name = f"<__media_{key}_{len(found)}__>"
        found[name] = part["media"]
        return {"type": "text", "text": name}

    return [
        {**each, "content": [mark(part) for part in each["content"]]}
        if isinstance(each.get("content"), list)
        else each
        for each in messages
    ], found


def pieces(text: str, media: Mapping[str, Media]) -> list[str | Media]:
    """The text around marks, and what they stand for, in order.

    Raises InvalidRequest where one of `media` is not in the text.
    """
    missing = [name for name in media if name not in text]
    if missing:
        raise InvalidRequest(
            f"the chat template leaves out an {media[missing[0]].kind} of these messages",
            param="messages",
        )
    if not media:
        return [text]
    found = re.split(f"({'|'.join(map(re.escape, media))})", text)
    return [media.get(each, each) for each in found if each]


def shown(text: str, media: Mapping[str, Media]) -> str:
    """The text with the common mark in place of ours."""
    for name in media:
        text = text.replace(name, MARK)
    return text
