"""From the body of /v1/responses to the chat that it asks for, and to what is told of it again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec import Struct

from llmengine.config import Overflow
from llmengine.errors import InvalidRequest
from llmengine.sampling import SamplingParams
from llmengine.server import parameters
from llmengine.server.bodies import (
    ChatBody,
    Function,
    JsonSchema,
    ResponseFormat,
    Tool,
    decode,
)
from llmengine.server.dialect import chat_body, instructed, worded
from llmengine.server.format import Head
from llmengine.server.preparation import Prepared, prepared
from llmengine.server.responses_body import FunctionTool, ResponsesBody, TextConfig
from llmengine.server.responses_input import Items, distinct, messages, referenced
from llmengine.server.responses_store import Stored
from llmengine.server.responses_wire import Item, Response
from llmengine.server.state import State

LOGPROBS = "message.output_text.logprobs"

HARMLESS = frozenset({"prompt_cache_options", "prompt_cache_retention"})
REFUSED: Mapping[str, tuple[Any, ...]] = {
    "background": (False,),
    "context_management": ([],),
    "conversation": (),
    "moderation": (),
    "prompt": (),
    "service_tier": ("auto", "default"),
    # A chat's, which have other names here.
    "max_completion_tokens": (),
    "max_tokens": (),
    "messages": (),
    "response_format": (),
}
# What a chat calls otherwise.
NAMES = {
    r"messages\[\d+\]\.content\[\d+\]\.(image_url|input_audio).*": "input",
    r"messages": "input",
    r"tools\[(\d+)\]\.function": r"tools[\1]",
    r"response_format\.json_schema": "text.format",
    r"response_format": "text.format",
    r"max_completion_tokens": "max_output_tokens",
    r"reasoning_effort": "reasoning.effort",
}


_TRUNCATION: Mapping[str | None, Overflow] = {"auto": "truncate_left", "disabled": "error"}


class Asked(Struct, frozen=True):
    """A request understood."""

    chat: Prepared
    response: Response  # as it begins
    input: list[Item]  # with what the answers before got and gave
    unknown: list[str]


def asked(state: State, head: Head, key: str, content: bytes) -> Asked:
    """Raises InvalidRequest, which names the parameter, and what `prepared` does."""
    body, fields = decode(content, ResponsesBody)
    strict = state.config.server.strict_parameters
    unknown = parameters.unknown(body, fields, strict=strict, refused=REFUSED, harmless=HARMLESS)
    _check(state, body)
    given = [*_before(state, key, body), *_items(state, head, key, body)]
    items = distinct(given, head.id)
    if not items:
        raise InvalidRequest("`input` has no items", param="input")
    with worded(NAMES):
        chat = prepared(state, _chat(body, items))
    return Asked(chat, _begun(state, head, body, chat.params), items, unknown)


def _check(state: State, body: ResponsesBody) -> None:
    """Refuse what cannot be honoured."""
    for at, tool in enumerate(body.tools or ()):
        if tool.type != "function":
            raise _refusal(f"tools[{at}].type", f"{tool.type[:50]!r}")
    for at, name in enumerate(body.include or ()):
        if name not in _INCLUDES:
            raise _refusal(f"include[{at}]", f"{name[:100]!r}")
    if body.text and body.text.verbosity not in (None, "medium"):
        raise _refusal("text.verbosity", f"{body.text.verbosity[:50]!r}")
    if body.reasoning and body.reasoning.summary not in (None, "auto"):
        reason = f"{body.reasoning.summary[:50]!r}: thinking comes whole, in `content`, which"
        raise _refusal("reasoning.summary", reason)
    if body.top_logprobs and LOGPROBS not in (body.include or ()):
        param = "top_logprobs"
        raise InvalidRequest(f"`{param}` needs `include`: [{LOGPROBS!r}]", param=param)
    if body.overflow not in (None, _TRUNCATION.get(body.truncation, body.overflow)):
        raise InvalidRequest(
            f"`truncation`: {body.truncation!r} and `overflow`: {body.overflow!r} differ",
            param="truncation",
        )
    if body.store and not state.config.server.responses_max_size_mb:
        raise _refusal("store", "true (server.responses_max_size_mb is 0)")


# Those of OpenAI's own tools, which are refused, ask for nothing.
_INCLUDES = {
    "code_interpreter_call.outputs",
    "computer_call_output.output.image_url",
    "file_search_call.results",
    "message.input_image.image_url",
    LOGPROBS,
    "reasoning.encrypted_content",
    "web_search_call.action.sources",
    "web_search_call.results",
}


def _refusal(param: str, what: str) -> InvalidRequest:
    return InvalidRequest(
        f"`{param}`: {what} is not offered by this server",
        param=param,
        code="unsupported_parameter",
    )


def _before(state: State, key: str, body: ResponsesBody) -> list[Item]:
    """The conversation up to the end of the previous answer."""
    id = body.previous_response_id
    if id is None:
        return []
    found = state.responses.get(key, id)
    if found is None:
        raise InvalidRequest(
            f"`previous_response_id`: there is no stored response {id!r}",
            param="previous_response_id",
            code="previous_response_not_found",
        )
    return [*found.input, *found.response.output]


def _items(state: State, head: Head, key: str, body: ResponsesBody) -> list[Item]:
    if body.input is None:
        raise InvalidRequest("`input` is missing", param="input")
    found: dict[str, Item] = {}
    for response, ids in referenced(body.input).items():  # each is read once: it may be long
        stored: Stored | None = state.responses.get(key, response)
        found |= stored.items(ids) if stored else {}
    return Items(head.id, found.get).of(body.input)


def _chat(body: ResponsesBody, items: list[Item]) -> ChatBody:
    logprobs = LOGPROBS in (body.include or ())
    return chat_body(
        body,
        messages=instructed(body.instructions, messages(items)),
        tools=[_tool(each) for each in body.tools] if body.tools else None,
        tool_choice=_choice(body.tool_choice),
        parallel_tool_calls=body.parallel_tool_calls,
        response_format=_form(body.text),
        max_completion_tokens=body.max_output_tokens,
        reasoning_effort=body.reasoning.effort if body.reasoning else None,
        logprobs=logprobs,
        top_logprobs=body.top_logprobs if logprobs else None,
        overflow=body.overflow or _TRUNCATION.get(body.truncation),
    )


def _tool(tool: FunctionTool) -> Tool:
    return Tool("function", Function(tool.name, tool.description, tool.parameters, tool.strict))


def _choice(choice: Any) -> Any:
    """A chat has the names of functions one level deeper."""
    if not isinstance(choice, dict):
        return choice
    deeper = dict(choice)
    if isinstance(choice.get("name"), str):
        deeper["function"] = {"name": choice["name"]}
    if isinstance(choice.get("tools"), list):
        deeper["tools"] = [_choice(each) for each in choice["tools"]]
    return deeper


def _form(text: TextConfig | None) -> ResponseFormat | None:
    if text is None or text.format is None:
        return None
    format = text.format
    if format.type != "json_schema":
        return ResponseFormat(format.type)
    for name in ("name", "schema"):
        if getattr(format, name) is None:
            param = f"text.format.{name}"
            raise InvalidRequest(f"`{param}` is missing", param=param)
    return ResponseFormat("json_schema", JsonSchema(format.name or "", format.schema or {}))


def _begun(state: State, head: Head, body: ResponsesBody, params: SamplingParams) -> Response:
    store = body.store
    if store is None:
        store = bool(state.config.server.responses_max_size_mb)
    overflow = body.overflow or _TRUNCATION.get(body.truncation) or state.config.model.overflow
    text = msgspec.to_builtins(body.text or TextConfig())
    reasoning = body.reasoning
    return Response(
        id=head.id,
        created_at=head.created,
        model=head.model,
        instructions=body.instructions,
        max_output_tokens=body.max_output_tokens,
        max_tool_calls=body.max_tool_calls,
        metadata=body.metadata or {},
        parallel_tool_calls=body.parallel_tool_calls is not False,
        previous_response_id=body.previous_response_id,
        prompt_cache_key=body.prompt_cache_key,
        reasoning={
            "effort": reasoning.effort if reasoning else None,
            "summary": reasoning.summary if reasoning else None,
        },
        safety_identifier=body.safety_identifier,
        store=store,
        temperature=params.temperature,
        text={**text, "format": text["format"] or {"type": "text"}},
        tool_choice=body.tool_choice or "auto",
        tools=msgspec.to_builtins(body.tools or []),
        top_logprobs=body.top_logprobs or 0,
        top_p=params.top_p,
        truncation="auto" if overflow == "truncate_left" else "disabled",
        user=body.user,
    )
