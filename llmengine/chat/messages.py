"""Messages as OpenAI's API has them, made into those that a template understands."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from llmengine.chat.calls.messages import Headed, Recipients
from llmengine.chat.calls.style import Call, CallStyle
from llmengine.chat.traits import Traits

Message = Mapping[str, Any]

_ABOUT_TOOLS = """\
# Tools

You may call these functions, each given with the JSON schema of its arguments:
{tools}

To call one, answer with nothing but this, the name and the arguments put in:
{example}

What it returned comes in the next message."""


def understood(
    messages: Sequence[Message],
    tools: Sequence[Mapping[str, Any]],
    traits: Traits,
    style: CallStyle | Headed | Recipients,
) -> list[dict[str, Any]]:
    """The messages, and the tools where the template would not tell of them."""
    found = _with_names([_plain(each, traits) for each in messages])
    if traits.calls and not traits.several:
        found = _one_by_one(found)
    if tools and not traits.tools:
        found = _with_tools(found, tools, style)
    if not traits.calls:
        found = [_with_calls_as_text(each, style) for each in found]
    if not traits.results:
        found = _with_results_as_user(found)
    if not traits.system:
        found = _without_system(found)
    return [_with_content(each, traits) for each in found]


def flat(content: Any) -> str:
    """The text of a message's content: a string, null or a list of text parts."""
    if content is None or isinstance(content, str):
        return content or ""
    return "".join(part["text"] for part in content)


def _plain(message: Message, traits: Traits) -> dict[str, Any]:
    found = {name: value for name, value in message.items() if value is not None}
    if found.get("role") == "developer" and not traits.developer:
        found["role"] = "system"
    found["content"] = flat(found.get("content"))
    calls = found.get("tool_calls")
    if not calls:
        found.pop("tool_calls", None)
    elif traits.objects or not traits.calls:
        found["tool_calls"] = [_with_object(each) for each in calls]
    else:
        found["tool_calls"] = [_with_text(each) for each in calls]
    return found


def _with_names(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Results of tools with the name of what was called, which OpenAI's API leaves out."""
    calls = [each for message in messages for each in message.get("tool_calls", ())]
    names = {each["id"]: each["function"]["name"] for each in calls if each.get("id")}
    return [
        {"name": names[each["tool_call_id"]], **each}
        if each["role"] == "tool" and each.get("tool_call_id") in names
        else each
        for each in messages
    ]


def _one_by_one(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """A message for each call, and behind it what that call returned."""
    found: list[dict[str, Any]] = []
    results = {each["tool_call_id"]: each for each in messages if each.get("tool_call_id")}
    told: set[str] = set()
    for message in messages:
        calls = message.get("tool_calls", ())
        if len(calls) < 2:
            if message.get("tool_call_id") not in told:
                found.append(message)
            continue
        for index, call in enumerate(calls):
            found.append({**message, "tool_calls": [call], **({"content": ""} if index else {})})
            if result := results.get(call.get("id")):
                found.append(result)
                told.add(call["id"])
    return found


def _with_object(call: Mapping[str, Any]) -> dict[str, Any]:
    function = call.get("function")
    if not isinstance(function, Mapping) or not isinstance(function.get("arguments"), str):
        return dict(call)
    try:
        arguments = json.loads(function["arguments"] or "{}")
    except (ValueError, RecursionError):
        return dict(call)  # the model once wrote no JSON: its own words stay
    return {**call, "function": {**function, "arguments": arguments}}


def _with_text(call: Mapping[str, Any]) -> dict[str, Any]:
    function = call.get("function")
    if not isinstance(function, Mapping) or not isinstance(function.get("arguments"), dict):
        return dict(call)
    arguments = json.dumps(function["arguments"], ensure_ascii=False)
    return {**call, "function": {**function, "arguments": arguments}}


def _with_tools(
    messages: list[dict[str, Any]],
    tools: Sequence[Mapping[str, Any]],
    style: CallStyle | Headed | Recipients,
) -> list[dict[str, Any]]:
    listed = "\n".join(json.dumps(each["function"], ensure_ascii=False) for each in tools)
    example = style.write([Call("NAME", {"ARGUMENT": "VALUE"}, "call00001")])
    about = _ABOUT_TOOLS.format(tools=listed, example=example)
    if messages and messages[0]["role"] in ("system", "developer"):
        first = {**messages[0], "content": f"{messages[0]['content']}\n\n{about}".lstrip()}
        return [first, *messages[1:]]
    return [{"role": "system", "content": about}, *messages]


def _with_calls_as_text(
    message: dict[str, Any], style: CallStyle | Headed | Recipients
) -> dict[str, Any]:
    calls = message.get("tool_calls")
    if not calls:
        return message
    written = style.write([_call(each) for each in calls])
    text = f"{message['content']}\n{written}" if message["content"] else written
    return {name: value for name, value in message.items() if name != "tool_calls"} | {
        "content": text
    }


def _call(call: Mapping[str, Any]) -> Call:
    function = call["function"]
    arguments = function.get("arguments")
    known = arguments if isinstance(arguments, dict) else {"arguments": arguments}
    return Call(function["name"], known, call.get("id") or "")


def _with_results_as_user(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What tools answered as words of the user's, that of several in one message."""
    found: list[dict[str, Any]] = []
    merging = False
    for message in messages:
        if message["role"] != "tool":
            # Where roles have to alternate, what the user says next belongs to the same message.
            if merging and message["role"] == "user":
                text = f"{found[-1]['content']}\n{message['content']}"
                found[-1] = {**message, "content": text}
            else:
                found.append(message)
            merging = False
            continue
        text = f"<tool_response>\n{message['content']}\n</tool_response>"
        if merging:
            found[-1]["content"] += f"\n{text}"
        else:
            found.append({"role": "user", "content": text})
        merging = True
    return found


def _without_system(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """System messages moved to the front of what the user says next."""
    found: list[dict[str, Any]] = []
    instructions: list[str] = []
    for message in messages:
        if message["role"] == "system":
            instructions.append(message["content"])
        elif message["role"] == "user" and instructions:
            found.append({**message, "content": "\n\n".join([*instructions, message["content"]])})
            instructions = []
        else:
            found.append(message)
    if instructions:
        found.append({"role": "user", "content": "\n\n".join(instructions)})
    return found


def _with_content(message: dict[str, Any], traits: Traits) -> dict[str, Any]:
    if traits.null and message.get("tool_calls") and not message["content"]:
        return {**message, "content": None}
    if traits.parts:
        return {**message, "content": [{"type": "text", "text": message["content"]}]}
    return message
