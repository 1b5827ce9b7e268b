"""What tests of dialects and tools share: scripted answers, and a server that gives them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import httpx
from fakes import FakeHost
from serving import config, serving

CALL = '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Zürich"}}\n</tool_call>'
SECOND = '<tool_call>\n{"name": "get_time", "arguments": {"zone": "CET"}}\n</tool_call>'
FULL = f"<think>hm</think>I look.\n{CALL}\n{SECOND}"
SHOWING = (
    "{% for tool in tools or [] %}{{ tool.function.name }} {% endfor %}"
    "{% for m in messages %}[{{ m.role }}:{{ m.content }}"
    "{% if m.reasoning_content %}<think>{{ m.reasoning_content }}</think>{% endif %}"
    "{% for c in m.tool_calls or [] %}<tool_call>{{ c.function | tojson }}</tool_call>{% endfor %}]"
    "{% endfor %}{% if enable_thinking %}<think>{% endif %}"
)


@contextlib.contextmanager
def served(answer: Any = "Hello, world!", **more: Any) -> Iterator[tuple[FakeHost, httpx.Client]]:
    settings = more.pop("settings", None) or config()
    host = FakeHost(answer, **{"template": SHOWING, **more})
    with host, serving(host, settings) as client:
        yield host, client
