"""Parts of long lists, as OpenAI's endpoints give them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Protocol, TypeVar

from llmengine.errors import InvalidRequest

_NUMBER = re.compile(r"[1-9]\d{0,4}", re.ASCII)


class Named(Protocol):
    id: str


T = TypeVar("T", bound=Named)


def page(
    items: Sequence[T], query: Any, *, usual: int = 20, most: int = 100
) -> tuple[list[T], bool]:
    """Those of `items`, the oldest first, that the query asks for; whether there are more.

    The latest come first by default, `usual` of them. Raises InvalidRequest.
    """
    order, after = query.get("order", "desc"), query.get("after")
    limit = query.get("limit", str(usual))
    if order not in ("asc", "desc"):
        raise InvalidRequest("`order`: 'asc' or 'desc' is expected", param="order")
    if not _NUMBER.fullmatch(limit) or int(limit) > most:
        raise InvalidRequest(f"`limit`: 1 to {most} is expected", param="limit")
    found = list(items if order == "asc" else items[::-1])
    if after is not None:
        ids = [each.id for each in found]
        if after not in ids:
            raise InvalidRequest(f"`after`: there is no item {after[:100]!r}", param="after")
        found = found[ids.index(after) + 1 :]
    shown = found[: int(limit)]
    return shown, len(shown) < len(found)
