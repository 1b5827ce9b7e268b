"""What the server answers, field by field as OpenAI's API reference has it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import msgspec
from msgspec import UNSET, Struct, UnsetType

from llmengine.inventory import EntryInfo

FinishReason = Literal["stop", "length", "tool_calls", "function_call"]

encode = msgspec.json.Encoder().encode


class Error(Struct):
    message: str
    type: str
    param: str | None
    code: str


class ErrorBody(Struct):
    error: Error


class PromptTokensDetails(Struct):
    cached_tokens: int


class CompletionTokensDetails(Struct):
    reasoning_tokens: int
    accepted_prediction_tokens: int | UnsetType = UNSET
    rejected_prediction_tokens: int | UnsetType = UNSET


class Usage(Struct):
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: PromptTokensDetails
    completion_tokens_details: CompletionTokensDetails | UnsetType = UNSET
    dropped_tokens: int | UnsetType = UNSET  # by `overflow`, as the next one
    dropped_messages: int | UnsetType = UNSET


class TopLogprob(Struct):
    token: str
    logprob: float
    bytes: list[int]


class TokenLogprob(Struct):
    token: str
    logprob: float
    bytes: list[int]
    top_logprobs: list[TopLogprob]


class ChatLogprobs(Struct):
    content: list[TokenLogprob]
    refusal: None = None


class CompletionLogprobs(Struct):
    tokens: list[str]
    token_logprobs: list[float]
    top_logprobs: list[dict[str, float]] | None
    text_offset: list[int]


class CalledFunction(Struct):
    name: str
    arguments: str


class ToolCall(Struct):
    id: str
    function: CalledFunction
    type: str = "function"


class Message(Struct, kw_only=True):
    role: str = "assistant"
    content: str | None
    reasoning_content: str | UnsetType = UNSET
    tool_calls: list[ToolCall] | UnsetType = UNSET
    function_call: CalledFunction | UnsetType = UNSET
    refusal: None = None


class ChatChoice(Struct):
    index: int
    message: Message
    logprobs: ChatLogprobs | None
    finish_reason: FinishReason


class CalledFunctionDelta(Struct):
    arguments: str
    name: str | UnsetType = UNSET


class ToolCallDelta(Struct):
    """The first of a call has its id, type and name, the others more of its arguments."""

    index: int
    function: CalledFunctionDelta
    id: str | UnsetType = UNSET
    type: str | UnsetType = UNSET


class Delta(Struct):
    role: str | UnsetType = UNSET
    content: str | UnsetType = UNSET
    reasoning_content: str | UnsetType = UNSET
    tool_calls: list[ToolCallDelta] | UnsetType = UNSET
    function_call: CalledFunctionDelta | UnsetType = UNSET


class ChatChunkChoice(Struct):
    index: int
    delta: Delta
    logprobs: ChatLogprobs | None = None
    finish_reason: FinishReason | None = None


class CompletionChoice(Struct):
    """Of a whole completion and of a chunk alike: only the last chunk has a finish_reason."""

    index: int
    text: str
    logprobs: CompletionLogprobs | None = None
    finish_reason: FinishReason | None = None


class Answer(Struct, kw_only=True):
    """What all the objects below begin with."""

    id: str
    object: str
    created: int
    model: str
    system_fingerprint: str


class ChatCompletion(Answer, kw_only=True):
    choices: list[ChatChoice]
    usage: Usage
    service_tier: str | UnsetType = UNSET


class PromptProgress(Struct):
    """As llama-server has it; `queue_position` is 0 once the prompt is computed."""

    index: int  # of the choice
    queue_position: int
    total: int
    cache: int
    processed: int
    time_ms: int


class ChatChunk(Answer, kw_only=True):
    choices: list[ChatChunkChoice]
    usage: Usage | UnsetType | None = UNSET
    prompt_progress: PromptProgress | UnsetType = UNSET
    service_tier: str | UnsetType = UNSET


class Completion(Answer, kw_only=True):
    choices: list[CompletionChoice]
    usage: Usage | UnsetType | None = UNSET
    prompt_progress: PromptProgress | UnsetType = UNSET


class Model(Struct, kw_only=True):
    id: str
    object: str = "model"
    created: int
    owned_by: str = "llmengine"
    description: str
    context_length: int
    max_sequence_length: int
    parameters: int
    size_bytes: int


class ModelList(Struct, kw_only=True):
    object: str = "list"
    data: list[Model]


class Probe(Struct):
    status: str


class Health(Struct, kw_only=True):
    status: str
    reason: str = ""  # of a degraded or failed engine
    version: str
    model: str
    loaded: float  # share of the model's weights
    uptime_seconds: float
    total_requests: int
    running: int
    waiting: int
    slots: int
    cache_hit_rate: float
    memory_usage_mb: float
    engine_restarts: int  # engines that were lost
    stalled_seconds: float  # that the engine has not got on with its work


class CacheEntries(Struct):
    data: Sequence[EntryInfo]
    object: str = "list"


class Pinned(Struct):
    id: str
    pinned: bool


class Deleted(Struct):
    id: str
    deleted: bool = True


class Cleared(Struct):
    deleted: int  # entries


class Verified(Struct):
    corrupt: Sequence[str]  # ids of the entries that were dropped
