"""What a template does with messages and tools, found out by rendering probes."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from msgspec import Struct

from llmengine.chat.budget import LimitExceeded

# Renders variables, or raises what the template raises.
Render = Callable[[Mapping[str, Any]], str]

PROBE = "probe-of-llmengine"
_KEY = "probe_key"
_TOOL = {
    "type": "function",
    "function": {
        "name": "probe_tool",
        "parameters": {
            "type": "object",
            "properties": {_KEY: {"type": "string"}},
            "required": [_KEY],
        },
    },
}
# What some templates demand that no caller gives them.
_EXTRAS: tuple[dict[str, Any], ...] = ({}, {"tools": []}, {"functions": "[]", "datetime": "today"})


class Traits(Struct, frozen=True, kw_only=True):
    extras: Mapping[str, Any] = {}  # variables without which it refuses everything
    parts: bool = False  # content is a list of parts, where others take a string
    system: bool = True
    developer: bool = False  # it knows that role by name
    tools: bool = False  # it tells the model of tools
    descriptions: bool = False  # of every function and parameter, or it refuses them
    calls: bool = False  # it writes calls of earlier turns
    several: bool = False  # and more than one of one message
    objects: bool = False  # arguments are objects, where OpenAI sends their JSON text
    null: bool = False  # a message with calls has no content, where others want ""
    results: bool = False  # it writes what tools answered
    example: str = ""  # a conversation with a call, as it renders it

    def tool_variables(self, tools: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """The variables that tell of `tools`."""
        given = [_described(each) for each in tools] if self.descriptions else list(tools)
        if "functions" in self.extras:
            functions = [each["function"] for each in given]
            return {"tools": given, "functions": json.dumps(functions, ensure_ascii=False)}
        return {"tools": given}


def traits_of(source: str, render: Render) -> Traits:
    """Raises LimitExceeded where the template takes too long."""
    probes = _Probes(render)
    extras, parts = probes.basics()
    content = [{"type": "text", "text": PROBE}] if parts else PROBE
    bare, full = probes.tools(content, [_TOOL]), probes.tools(content, [_described(_TOOL)])
    objects, null, example = probes.calls()
    answer = probes.results(objects=objects, null=null)
    return Traits(
        extras=extras,
        parts=parts,
        system=PROBE in probes.turn("system", content),
        # Many print whatever role there is.
        developer="developer" in source and PROBE in probes.turn("developer", content),
        tools=full,
        descriptions=full and not bare,
        calls=bool(example),
        several=probes.several(objects=objects, null=null),
        objects=objects,
        null=null,
        results=PROBE in answer,
        example=example,
    )


class _Probes:
    def __init__(self, render: Render) -> None:
        self._render = render
        self._extras: Mapping[str, Any] = {}
        self._parts = False

    def basics(self) -> tuple[Mapping[str, Any], bool]:
        """What it takes to render a message of the user's: variables, and content in parts."""
        text, parts = PROBE, [{"type": "text", "text": PROBE}]
        for self._extras in _EXTRAS:
            if PROBE in self.turn("user", text):
                return self._extras, False
            if PROBE in self.turn("user", parts):
                self._parts = True
                return self._extras, True
        self._extras = {}
        return {}, False

    def tools(self, content: Any, tools: Sequence[Mapping[str, Any]]) -> bool:
        variables = Traits(extras=self._extras).tool_variables(tools)
        return "probe_tool" in self.turn("user", content, **variables)

    def turn(self, role: str, content: Any, **variables: Any) -> str:
        messages = [{"role": role, "content": content}]
        if role != "user":
            messages.append({"role": "user", "content": self._text("probe")})
        return self._try({"messages": messages, **variables})

    def calls(self) -> tuple[bool, bool, str]:
        """How a call has to be given so that it is written: as object, without content."""
        found = []
        for objects in (True, False):
            for null in (False, True):
                text = self._call(objects=objects, null=null)
                # Python's own notation is no way to write an object.
                if _KEY in text and f"'{_KEY}'" not in text:
                    found.append((objects, null, text))
            if found:  # one that makes an empty content a message of its own writes more
                return min(found, key=lambda each: len(each[2]))
        return False, False, ""

    def several(self, *, objects: bool, null: bool) -> bool:
        one, two = (self._call(objects=objects, null=null, count=each) for each in (1, 2))
        return two.count(_KEY) > one.count(_KEY)

    def results(self, *, objects: bool, null: bool) -> str:
        return self._call(PROBE, objects=objects, null=null)

    def _call(self, result: str = "", *, objects: bool, null: bool, count: int = 1) -> str:
        given = {_KEY: "value"}
        call = {
            "id": "call00001",
            "type": "function",
            "function": {
                "name": "probe_tool",
                "arguments": given if objects else f'{{"{_KEY}": "value"}}',
            },
        }
        answer = {
            "role": "assistant",
            "content": None if null else self._text(""),
            "tool_calls": [call] * count,
        }
        messages: list[dict[str, Any]] = [{"role": "user", "content": self._text("probe")}, answer]
        if result:
            known = {"role": "tool", "tool_call_id": "call00001", "name": "probe_tool"}
            messages.append({**known, "content": self._text(result)})
        return self._try({"messages": messages})

    def _text(self, text: str) -> Any:
        return [{"type": "text", "text": text}] if self._parts else text

    def _try(self, variables: Mapping[str, Any]) -> str:
        try:
            return self._render({"tools": None, **self._extras, **variables})
        except LimitExceeded:
            raise
        except Exception:  # a refusal is an answer: the template has no use for such messages
            return ""


def _described(tool: Mapping[str, Any]) -> dict[str, Any]:
    """The tool with descriptions wherever one is missing."""
    function = tool["function"]
    parameters = function.get("parameters") or {"type": "object"}
    properties = {
        key: {"type": "string", "description": "", **each} if isinstance(each, Mapping) else each
        for key, each in (parameters.get("properties") or {}).items()
    }
    whole = {"description": "", **function, "parameters": {**parameters, "properties": properties}}
    return {**tool, "function": whole}
