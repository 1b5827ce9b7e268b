"""Requests that were recorded: a file of JSON lines, each a body of OpenAI's API.

A line is the body itself, with `messages` or `prompt`, or an object with it under `body`, as
OpenAI's batch files have it. `timestamp`, in seconds, says when it came; then all are sent at the
distances they had.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from llmengine.bench.workloads import Conversation, Turn
from llmengine.errors import InvalidRequest

# What the client sets itself.
_OWN = ("stream", "stream_options", "model")


def read(path: Path) -> list[Conversation]:
    """Raises InvalidRequest, which names the line."""
    try:
        with path.open("rb") as file:
            lines = [(number, line) for number, line in enumerate(file, 1) if line.strip()]
    except OSError as error:
        raise InvalidRequest(f"cannot read {path}: {error.strerror}") from error
    found = list(_conversations(path, lines))
    if not found:
        raise InvalidRequest(f"{path} has no requests")
    times = [each.at for each in found if each.at is not None]
    if len(times) not in (0, len(found)):
        raise InvalidRequest(f"{path} has a timestamp in some lines only")
    first = min(times, default=0.0)
    return [
        msgspec.structs.replace(each, at=None if each.at is None else each.at - first)
        for each in found
    ]


def _conversations(path: Path, lines: list[tuple[int, bytes]]) -> Iterator[Conversation]:
    for number, line in lines:
        try:
            given = msgspec.json.decode(line, type=dict[str, Any])
        except msgspec.DecodeError as error:
            raise InvalidRequest(f"{path}:{number} is no JSON object: {error}") from error
        body = given.get("body", given)
        if not isinstance(body, dict) or not (
            isinstance(body.get("messages"), list) or "prompt" in body
        ):
            raise InvalidRequest(f"{path}:{number} has neither messages nor a prompt")
        at = given.get("timestamp")
        if at is not None and not isinstance(at, (int, float)):
            raise InvalidRequest(f"{path}:{number} has a timestamp that is no number of seconds")
        own = {key: value for key, value in body.items() if key not in (*_OWN, "timestamp")}
        yield Conversation((Turn(own, full=False),), at=at)
