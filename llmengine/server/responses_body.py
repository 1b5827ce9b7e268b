"""What clients may send to /v1/responses, with its bounds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

from msgspec import Meta, Struct

from llmengine.config import Overflow
from llmengine.keys import Priority
from llmengine.sampling import MAX_STOPS, StopString, overrides
from llmengine.server.bodies import (
    MAX_MESSAGES,
    Count,
    InputAudio,
    Kept,
    Salt,
    Schema,
    Seconds,
    StreamOptions,
    Tools,
    TopCount,
)

Id = Annotated[str, Meta(min_length=1, max_length=256)]
MetadataKey = Annotated[str, Meta(max_length=64)]
MetadataValue = Annotated[str, Meta(max_length=512)]

if TYPE_CHECKING:
    _Samplers = Struct  # the real one is made at run time
else:
    _Samplers = overrides("ResponsesSamplers", "logprobs", "max_tokens")


Role = Literal["user", "assistant", "system", "developer"]


class InputPart(Struct):
    type: str
    text: str | None = None
    refusal: str | None = None
    image_url: str | None = None
    detail: str | None = None
    file_id: str | None = None
    input_audio: InputAudio | None = None


class InputItem(Struct):
    """Any item; which members it needs follows from its type."""

    type: str | None = None
    id: Id | None = None
    role: Role | None = None
    content: str | list[InputPart] | None = None
    call_id: Id | None = None
    name: str | None = None
    arguments: str | None = None
    output: str | list[InputPart] | None = None
    summary: list[InputPart] | None = None


class TextFormat(Struct, omit_defaults=True):
    type: str
    name: Annotated[str, Meta(min_length=1, max_length=64)] | None = None
    schema: Schema | None = None
    strict: bool | None = None  # enforced either way
    description: str | None = None


class TextConfig(Struct):
    format: TextFormat | None = None
    verbosity: str | None = None


class Reasoning(Struct):
    effort: Annotated[str, Meta(max_length=32)] | None = None
    summary: str | None = None


class FunctionTool(Struct, omit_defaults=True):
    type: str
    name: Annotated[str, Meta(max_length=256)] = ""
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class ResponsesBody(_Samplers, frozen=True, kw_only=True):
    """https://platform.openai.com/docs/api-reference/responses/create"""

    input: str | Annotated[list[InputItem], Meta(max_length=MAX_MESSAGES)] | None = None
    model: str | None = None
    instructions: str | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    store: bool | None = None
    previous_response_id: Id | None = None
    max_output_tokens: Count | None = None
    max_tool_calls: int | None = None  # bounds OpenAI's own tools, of which there are none here
    tools: Tools[FunctionTool] | None = None
    tool_choice: str | dict[str, Any] | None = None
    parallel_tool_calls: bool | None = None
    text: TextConfig | None = None
    reasoning: Reasoning | None = None
    include: list[str] | None = None
    top_logprobs: TopCount | None = None
    metadata: Annotated[dict[MetadataKey, MetadataValue], Meta(max_length=16)] | None = None
    truncation: Literal["auto", "disabled"] | None = None
    user: str | None = None
    prompt_cache_key: str | None = None
    safety_identifier: str | None = None
    seed: Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)] | None = None
    stop: StopString | Annotated[tuple[StopString, ...], Meta(max_length=MAX_STOPS)] | None = None
    grammar: Annotated[str, Meta(max_length=2**16)] | None = None
    cache_salt: Salt | None = None
    priority: Priority | None = None
    timeout: Seconds | None = None
    overflow: Overflow | None = None
    n_keep: Kept | None = None
    chat_template_kwargs: dict[str, Any] | None = None
