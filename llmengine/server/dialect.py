"""How the requests of other APIs become those of a chat, and its refusals theirs."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from msgspec import UNSET, Struct

from llmengine.errors import InvalidRequest
from llmengine.sampling import SamplingOverrides
from llmengine.server.bodies import ChatBody, ContentPart, Message

# What means the same in every body that has it.
_SHARED = {
    *SamplingOverrides.__struct_fields__,
    "cache_salt",
    "chat_template_kwargs",
    "grammar",
    "model",
    "priority",
    "n_keep",
    "overflow",
    "seed",
    "stop",
    "stream",
    "timeout",
}


def chat_body(body: Struct, **own: Any) -> ChatBody:
    """The chat that `body` asks for: what both have in common, and `own`."""
    names = [each for each in body.__struct_fields__ if each in _SHARED]
    shared = {each: value for each in names if (value := getattr(body, each)) is not UNSET}
    return ChatBody(**{**shared, **own})


def instructed(instructions: str | None, messages: Sequence[Message]) -> list[Message]:
    """The messages behind `instructions`; those of the system's at their head become one.

    Many templates take one system message, and only as the first.
    """
    texts = [instructions] if instructions else []
    rest = list(messages)
    while rest and rest[0].role in ("system", "developer"):
        content = rest[0].content
        if not isinstance(content, str):
            break  # there are images in it
        texts.append(content)
        del rest[0]
    return [Message("system", "\n\n".join(texts)), *rest] if texts else rest


def joined(parts: Sequence[ContentPart]) -> str | list[ContentPart]:
    """Parts of a message, of which several texts in a row become one."""
    found: list[ContentPart] = []
    for texts, run in itertools.groupby(parts, lambda part: part.type == "text"):
        if texts:
            found.append(ContentPart("text", "\n\n".join(each.text or "" for each in run)))
        else:
            found += run
    if all(each.type == "text" for each in found):
        return (found[0].text or "") if found else ""
    return found


@contextmanager
def worded(names: Mapping[str, str]) -> Iterator[None]:
    """Refusals of a chat's parameters name those they came from.

    `names` has regular expressions of a chat's names, and what each becomes.
    """
    try:
        yield
    except InvalidRequest as error:
        param = error.param or ""
        for pattern, name in names.items():
            if re.match(pattern, param):
                given = re.sub(rf"^{pattern}", name, param)
                message = error.message.replace(f"`{param}`", f"`{given}`")
                raise type(error)(message, param=given, code=error.code) from error
        raise
