"""From the body of /v1/messages to the chat that it asks for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from msgspec import Struct

from llmengine.errors import InvalidRequest
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
from llmengine.server.messages_body import (
    CountBody,
    MessagesBody,
    MessagesTool,
    OutputConfig,
    Thinking,
    ToolChoice,
)
from llmengine.server.messages_input import messages, text_of
from llmengine.server.preparation import Prepared, prepared
from llmengine.server.state import State

B = TypeVar("B", bound=CountBody)

HARMLESS = frozenset({"inference_geo", "user_profile_id", "workspace_id"})
REFUSED: Mapping[str, tuple[Any, ...]] = {
    "container": (),
    "mcp_servers": ([],),
    "speed": ("standard",),
    # A chat's, which have other names here.
    "max_completion_tokens": (),
    "response_format": (),
    "stop": (),
}
# What a chat calls otherwise.
NAMES = {
    r"tools\[(\d+)\]\.function\.parameters": r"tools[\1].input_schema",
    r"tools\[(\d+)\]\.function": r"tools[\1]",
    r"response_format\.json_schema": "output_config.format",
    r"response_format": "output_config.format",
    r"max_completion_tokens": "max_tokens",
    r"continue_final_message": "messages",
    r"messages\[\d+\]\.content\[\d+\]\.image_url.*": "messages",
    r"reasoning_effort": "output_config.effort",
    r"thinking_budget": "thinking.budget_tokens",
    r"stop\b": "stop_sequences",
}


class Asked(Struct, frozen=True):
    """A request understood."""

    chat: Prepared
    hidden: bool  # whether the thinking is to be left out
    unknown: list[str]


def asked(state: State, content: bytes, kind: type[B]) -> Asked:
    """Raises InvalidRequest, which names the parameter, and what `prepared` does."""
    body, fields = decode(content, kind)
    strict = state.config.server.strict_parameters
    unknown = parameters.unknown(body, fields, strict=strict, refused=REFUSED, harmless=HARMLESS)
    more: dict[str, Any] = {"overflow": "error"}  # what is counted is all of it
    if isinstance(body, MessagesBody):
        more = {"max_completion_tokens": body.max_tokens, "stop": body.stop_sequences}
    with worded(NAMES):
        chat = prepared(state, _chat(state, body, **more))
    hidden = body.thinking is not None and body.thinking.display == "omitted"
    return Asked(chat, hidden, unknown)


def _chat(state: State, body: CountBody, **more: Any) -> ChatBody:
    thinking = state.template.thinking(enable=_thinks(body.thinking))
    own = body.chat_template_kwargs or {}
    output = body.output_config or OutputConfig()
    if body.thinking is not None and body.thinking.budget_tokens is not None:
        more["thinking_budget"] = body.thinking.budget_tokens
    system = text_of(body.system, "system")
    return chat_body(
        body,
        **more,
        messages=instructed(system, messages(body.messages)),
        continue_final_message=body.messages[-1].role == "assistant",
        tools=[_tool(at, each) for at, each in enumerate(body.tools)] if body.tools else None,
        tool_choice=_choice(body.tool_choice),
        parallel_tool_calls=_parallel(body.tool_choice),
        chat_template_kwargs={**thinking, **own},
        reasoning_effort=output.effort,
        response_format=_form(output),
    )


def _thinks(thinking: Thinking | None) -> bool:
    """As with Anthropic's models, one thinks if it is asked to."""
    if thinking is None:
        return False
    if thinking.type not in ("enabled", "adaptive", "disabled"):
        raise _refusal("thinking.type", thinking.type)
    if thinking.display not in (None, "summarized", "omitted"):
        raise _refusal("thinking.display", thinking.display)
    return thinking.type != "disabled"


def _tool(at: int, tool: MessagesTool) -> Tool:
    if tool.type not in (None, "custom"):
        raise _refusal(f"tools[{at}].type", tool.type)
    if tool.input_schema is None:
        param = f"tools[{at}].input_schema"
        raise InvalidRequest(f"`{param}` is missing", param=param)
    return Tool("function", Function(tool.name, tool.description, tool.input_schema, tool.strict))


def _choice(choice: ToolChoice | None) -> Any:
    if choice is None:
        return None
    if choice.type == "tool":
        if choice.name is None:
            raise InvalidRequest("`tool_choice.name` is missing", param="tool_choice.name")
        return {"type": "function", "function": {"name": choice.name}}
    modes = {"auto": "auto", "any": "required", "none": "none"}
    if choice.type not in modes:
        raise _refusal("tool_choice.type", choice.type)
    return modes[choice.type]


def _parallel(choice: ToolChoice | None) -> bool | None:
    return False if choice is not None and choice.disable_parallel_tool_use else None


def _form(output: OutputConfig) -> ResponseFormat | None:
    if output.format is None:
        return None
    if output.format.type != "json_schema":
        raise _refusal("output_config.format.type", output.format.type)
    return ResponseFormat("json_schema", JsonSchema("output", output.format.schema))


def _refusal(param: str, value: str) -> InvalidRequest:
    return InvalidRequest(
        f"`{param}`: {value[:50]!r} is not offered by this server",
        param=param,
        code="unsupported_parameter",
    )
