"""POST /v1/chat/completions"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from msgspec import Struct
from sanic import Blueprint, HTTPResponse, Request

from llmengine.chat import prompt
from llmengine.chat.output import thinking
from llmengine.chat.prompt import Prompt
from llmengine.errors import InvalidRequest
from llmengine.sampling import SamplingParams
from llmengine.server import constraint, parameters
from llmengine.server.bodies import ChatBody, Message, decode
from llmengine.server.chat_format import ChatFormat
from llmengine.server.generation import answer, head
from llmengine.server.record import record_of
from llmengine.server.state import State, state_of

blueprint = Blueprint("chat")

# Variables of a template that follow from other parameters.
_RESERVED = frozenset(
    {"add_generation_prompt", "bos_token", "eos_token", "host", "messages", "template", "tools"}
)


class _Prepared(Struct, frozen=True):
    body: ChatBody
    prompt: Prompt
    params: SamplingParams
    unknown: list[str]


@blueprint.post("/v1/chat/completions")
async def chat_completions(request: Request) -> HTTPResponse | None:
    state = state_of(request)
    prepared = await state.in_worker(_prepare, state, request.body)
    record_of(request).unknown = prepared.unknown
    body = prepared.body
    first = head(state, "chatcmpl")
    format = ChatFormat(
        first,
        prepared.prompt.text,
        body.choices,
        logprobs=bool(body.logprobs),
        usage=body.include_usage,
    )
    return await answer(request, body, first, [prepared.prompt.tokens], prepared.params, format)


def _prepare(state: State, content: bytes) -> _Prepared:
    body, fields = decode(content, ChatBody)
    strict = state.config.server.strict_parameters
    unknown = parameters.unknown(body, fields, strict=strict)
    state.check_model(body.model)
    found = conversation(state, body)
    params = parameters.sampling(
        body,
        state.sampling,
        state.info,
        logprobs=_logprobs(body),
        max_tokens=body.max_completion_tokens or body.max_tokens or state.sampling.max_tokens,
        constraint=constraint.of(body, thinking(found.text, state.template.source)),
    )
    state.check_tokens(found.tokens, "messages")
    return _Prepared(body, found, params, unknown)


def conversation(state: State, body: ChatBody) -> Prompt:
    """The prompt that the messages of `body` make, with its tools."""
    messages = for_template(body.messages)
    return prompt.of_messages(
        state.host, state.template, messages, tools=_tools(body), **_variables(body)
    )


def for_template(messages: Sequence[Message]) -> list[Mapping[str, Any]]:
    """The messages as a template takes them."""
    return [_message(at, each) for at, each in enumerate(messages)]


def _message(at: int, message: Message) -> Mapping[str, Any]:
    where = f"messages[{at}]"
    if message.content is None and message.role != "assistant":
        raise InvalidRequest(f"`{where}.content` is missing", param=f"{where}.content")
    for index, part in enumerate(message.content if isinstance(message.content, list) else ()):
        if part.type != "text" or part.text is None:
            param = f"{where}.content[{index}].type"
            raise InvalidRequest(
                f"`{param}`: {part.type[:50]!r} is not offered, this server takes text",
                param=param,
                code="unsupported_content",
            )
    found = msgspec.to_builtins(message)
    assert isinstance(found, dict)
    return found


def _tools(body: ChatBody) -> list[Any] | None:
    choice = body.tool_choice
    if choice not in (None, "auto", "none"):
        raise InvalidRequest(
            "`tool_choice`: only 'auto' and 'none' are offered so far: "
            "a call cannot be forced on the model",
            param="tool_choice",
            code="unsupported_parameter",
        )
    return msgspec.to_builtins(body.tools) if body.tools and choice != "none" else None


def _variables(body: ChatBody) -> dict[str, Any]:
    variables = dict(body.chat_template_kwargs or {})
    reserved = sorted(_RESERVED & variables.keys())
    if reserved:
        raise InvalidRequest(
            f"`chat_template_kwargs`: {reserved[0]!r} follows from other parameters",
            param="chat_template_kwargs",
        )
    if body.reasoning_effort is not None:
        variables.setdefault("reasoning_effort", body.reasoning_effort)
    return variables


def _logprobs(body: ChatBody) -> int | None:
    if body.top_logprobs is not None and not body.logprobs:
        raise InvalidRequest("`top_logprobs` needs `logprobs`: true", param="top_logprobs")
    return (body.top_logprobs or 0) if body.logprobs else None
