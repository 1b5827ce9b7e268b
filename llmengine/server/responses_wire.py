"""The objects of /v1/responses: items, which clients send back as they got them, and events."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Literal

from msgspec import UNSET, Struct, UnsetType

from llmengine.server import wire
from llmengine.server.bodies import ContentPart, InputAudio

Status = Literal["in_progress", "completed", "incomplete"]
ResponseStatus = Literal["in_progress", "completed", "incomplete", "failed", "cancelled"]


class InputText(Struct, tag_field="type", tag="input_text"):
    text: str


class InputImage(Struct, tag_field="type", tag="input_image"):
    image_url: str
    detail: str = "auto"


class InputSound(Struct, tag_field="type", tag="input_audio"):
    input_audio: InputAudio


class OutputText(Struct, tag_field="type", tag="output_text", kw_only=True):
    text: str
    annotations: list[Any] = []
    logprobs: list[wire.TokenLogprob] = []


class ReasoningText(Struct, tag_field="type", tag="reasoning_text"):
    text: str


class SummaryText(Struct, tag_field="type", tag="summary_text"):
    text: str


class MessageItem(Struct, tag_field="type", tag="message", kw_only=True):
    id: str
    role: Literal["user", "system", "developer", "assistant"]
    content: list[InputText | InputImage | InputSound | OutputText]
    status: Status = "completed"

    prefix: ClassVar[str] = "msg"

    @property
    def said(self) -> str | list[ContentPart]:
        return _said(self.content)


class ReasoningItem(Struct, tag_field="type", tag="reasoning", kw_only=True):
    """What the model thought. `summary` is empty unless a client put something there."""

    id: str
    content: list[ReasoningText]
    summary: list[SummaryText] = []
    encrypted_content: None = None
    status: Status = "completed"

    prefix: ClassVar[str] = "rs"

    @property
    def text(self) -> str:
        return "".join(each.text for each in self.content or self.summary)


class CallItem(Struct, tag_field="type", tag="function_call", kw_only=True):
    id: str
    call_id: str
    name: str
    arguments: str
    status: Status = "completed"

    prefix: ClassVar[str] = "fc"


class ResultItem(Struct, tag_field="type", tag="function_call_output", kw_only=True):
    id: str
    call_id: str
    output: str | list[InputText | InputImage | InputSound]
    status: Status = "completed"

    prefix: ClassVar[str] = "fco"

    @property
    def said(self) -> str | list[ContentPart]:
        parts = self.output
        return parts if isinstance(parts, str) else _said(parts)


def _said(
    parts: Sequence[InputText | InputImage | InputSound | OutputText],
) -> str | list[ContentPart]:
    """What is said in a message: text, and parts only where there is more."""
    found = []
    for part in parts:
        if isinstance(part, InputImage):
            found.append(ContentPart("image_url", image_url=part.image_url))
        elif isinstance(part, InputSound):
            found.append(ContentPart("input_audio", input_audio=part.input_audio))
        else:
            found.append(ContentPart("text", part.text))
    if all(each.type == "text" for each in found):
        return "".join(each.text or "" for each in found)
    return found


Item = MessageItem | ReasoningItem | CallItem | ResultItem


class InputTokensDetails(Struct):
    cached_tokens: int
    cache_write_tokens: int = 0  # what OpenAI bills for writing: nothing here


class OutputTokensDetails(Struct):
    reasoning_tokens: int


class ResponseUsage(Struct):
    input_tokens: int
    output_tokens: int
    total_tokens: int
    input_tokens_details: InputTokensDetails
    output_tokens_details: OutputTokensDetails
    dropped_tokens: int | UnsetType = UNSET  # by `overflow`, as the next one
    dropped_messages: int | UnsetType = UNSET


class IncompleteDetails(Struct):
    reason: str


class ResponseError(Struct):
    code: str
    message: str


class Response(Struct, kw_only=True):
    """https://platform.openai.com/docs/api-reference/responses/object"""

    id: str
    object: Literal["response"] = "response"
    created_at: int
    status: ResponseStatus = "in_progress"
    completed_at: int | None = None
    background: bool = False
    error: ResponseError | None = None
    incomplete_details: IncompleteDetails | None = None
    instructions: str | None
    max_output_tokens: int | None
    max_tool_calls: int | None
    metadata: dict[str, str]
    model: str
    output: list[Item] = []
    parallel_tool_calls: bool
    previous_response_id: str | None
    prompt_cache_key: str | None
    reasoning: dict[str, Any]
    safety_identifier: str | None
    service_tier: str = "default"
    store: bool
    temperature: float
    text: dict[str, Any]
    tool_choice: str | dict[str, Any]
    tools: list[dict[str, Any]]
    top_logprobs: int
    top_p: float
    truncation: str = "disabled"
    usage: ResponseUsage | None = None
    user: str | None


class ItemList(Struct, kw_only=True):
    object: Literal["list"] = "list"
    data: list[Item]
    first_id: str | None
    last_id: str | None
    has_more: bool


class ResponseDeleted(Struct):
    id: str
    object: Literal["response"] = "response"
    deleted: bool = True


class InputTokenCount(Struct):
    input_tokens: int
    object: Literal["response.input_tokens"] = "response.input_tokens"


class Event(Struct, kw_only=True, tag_field="type"):
    sequence_number: int


class ResponseEvent(Event, kw_only=True):
    response: Response


class Created(ResponseEvent, tag="response.created"): ...


class InProgress(ResponseEvent, tag="response.in_progress"): ...


class Completed(ResponseEvent, tag="response.completed"): ...


class Incomplete(ResponseEvent, tag="response.incomplete"): ...


class Failed(ResponseEvent, tag="response.failed"): ...


class OutputEvent(Event, kw_only=True):
    output_index: int


class ItemAdded(OutputEvent, tag="response.output_item.added", kw_only=True):
    item: Item


class ItemDone(OutputEvent, tag="response.output_item.done", kw_only=True):
    item: Item


class ItemEvent(OutputEvent, kw_only=True):
    item_id: str


class ContentEvent(ItemEvent, kw_only=True):
    content_index: int = 0


class PartAdded(ContentEvent, tag="response.content_part.added", kw_only=True):
    part: OutputText | ReasoningText


class PartDone(ContentEvent, tag="response.content_part.done", kw_only=True):
    part: OutputText | ReasoningText


class TextDelta(ContentEvent, tag="response.output_text.delta", kw_only=True):
    delta: str
    logprobs: list[wire.TokenLogprob] = []


class TextDone(ContentEvent, tag="response.output_text.done", kw_only=True):
    text: str
    logprobs: list[wire.TokenLogprob] = []


class ReasoningDelta(ContentEvent, tag="response.reasoning_text.delta", kw_only=True):
    delta: str


class ReasoningDone(ContentEvent, tag="response.reasoning_text.done", kw_only=True):
    text: str


class ArgumentsDelta(ItemEvent, tag="response.function_call_arguments.delta", kw_only=True):
    delta: str


class ArgumentsDone(ItemEvent, tag="response.function_call_arguments.done", kw_only=True):
    arguments: str
    name: str


StreamEvent = (
    Created
    | InProgress
    | Completed
    | Incomplete
    | Failed
    | ItemAdded
    | ItemDone
    | PartAdded
    | PartDone
    | TextDelta
    | TextDone
    | ReasoningDelta
    | ReasoningDone
    | ArgumentsDelta
    | ArgumentsDone
)
