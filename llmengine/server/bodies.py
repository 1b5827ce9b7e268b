"""What clients may send, with its bounds. A refusal names the parameter."""

from __future__ import annotations

import functools
import json
import re
from collections import Counter
from typing import TYPE_CHECKING, Annotated, Any, Literal, NoReturn, TypeVar

import msgspec
from msgspec import Meta, Struct

from llmengine.config import Overflow
from llmengine.errors import InvalidRequest
from llmengine.keys import Priority
from llmengine.sampling import MAX_STOPS, MAX_TOP_LOGPROBS, SamplingOverrides, StopString
from llmengine.server.choices import choices
from llmengine.server.depth import check_depth

MAX_CHOICES = 128
MAX_MESSAGES = 16_384  # of a conversation
MAX_TOOLS = 256

Count = Annotated[int, Meta(ge=1, le=2**31 - 1)]
Choices = Annotated[int, Meta(ge=1, le=MAX_CHOICES)]
TopCount = Annotated[int, Meta(ge=0, le=MAX_TOP_LOGPROBS)]
Budget = Annotated[int, Meta(ge=0, le=2**31 - 1)]
TokenId = Annotated[int, Meta(ge=0, le=2**31 - 1)]
Schema = dict[str, Any] | bool
Tokens = Annotated[list[TokenId], Meta(min_length=1)]
Texts = str | Annotated[list[str | TokenId | Tokens], Meta(min_length=1, max_length=2**24)]
Kept = Annotated[int, Meta(ge=-1, le=2**31 - 1)]  # -1: all of the prompt
Seconds = Annotated[float, Meta(gt=0, le=86_400)]
Salt = Annotated[str, Meta(min_length=1, max_length=256)]
T = TypeVar("T")
Messages = Annotated[list[T], Meta(min_length=1, max_length=MAX_MESSAGES)]
Tools = Annotated[list[T], Meta(max_length=MAX_TOOLS)]
B = TypeVar("B", bound=Struct)

if TYPE_CHECKING:
    _Overrides = Struct  # the real one is made at run time
else:
    _Overrides = SamplingOverrides


class StreamOptions(Struct):
    include_usage: bool | None = None
    include_obfuscation: bool | None = None  # padding against eavesdroppers: never sent here


class JsonSchema(Struct):
    name: Annotated[str, Meta(min_length=1, max_length=64)]
    schema: Schema = {}
    strict: bool | None = None  # enforced either way
    description: str | None = None


class ResponseFormat(Struct):
    type: str
    json_schema: JsonSchema | None = None


class StructuredOutputs(Struct, omit_defaults=True, forbid_unknown_fields=True):
    """https://docs.vllm.ai/en/latest/features/structured_outputs.html"""

    json: Schema | str | None = None
    json_object: bool | None = None
    regex: str | None = None
    choice: list[str] | None = None
    grammar: str | None = None


class ImageUrl(Struct, omit_defaults=True):
    url: str
    detail: str | None = None  # models take what they take


class InputAudio(Struct, omit_defaults=True):
    data: str
    format: str | None = None  # the data tells


class ContentPart(Struct, omit_defaults=True):
    type: str
    text: str | None = None
    refusal: str | None = None
    image_url: ImageUrl | str | None = None
    input_audio: InputAudio | None = None


class CalledFunction(Struct):
    name: str
    arguments: str | dict[str, Any] = "{}"


class ToolCall(Struct, omit_defaults=True):
    function: CalledFunction
    id: str = ""
    type: Literal["function"] = "function"


class Message(Struct, omit_defaults=True):
    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    content: str | list[ContentPart] | None = None
    name: str | None = None
    tool_calls: list[ToolCall] | None = None
    tool_call_id: str | None = None
    reasoning_content: str | None = None
    refusal: str | None = None
    function_call: CalledFunction | None = None  # deprecated by OpenAI


class Function(Struct, omit_defaults=True):
    name: Annotated[str, Meta(min_length=1, max_length=256)]
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class Tool(Struct):
    type: Literal["function"]
    function: Function


class Prediction(Struct):
    """What most of the answer is likely to be: it makes the answer faster, not another."""

    type: Literal["content"]
    content: str | list[ContentPart]


class Reasoning(Struct, forbid_unknown_fields=True):
    """https://openrouter.ai/docs/use-cases/reasoning-tokens"""

    effort: Annotated[str, Meta(max_length=32)] | None = None
    max_tokens: Budget | None = None
    enabled: bool | None = None


class Body(_Overrides, frozen=True, kw_only=True):
    """What both kinds of completion take; the samplers' parameters come from SamplingOverrides."""

    model: str | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    n: Choices | None = None
    stop: StopString | Annotated[tuple[StopString, ...], Meta(max_length=MAX_STOPS)] | None = None
    seed: Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)] | None = None
    max_tokens: Count | None = None
    thinking_budget: Budget | None = None
    grammar: Annotated[str, Meta(max_length=2**16)] | None = None
    cache_salt: Salt | None = None
    priority: Priority | None = None
    timeout: Seconds | None = None
    return_progress: bool | None = None
    overflow: Overflow | None = None
    n_keep: Kept | None = None
    response_format: ResponseFormat | None = None
    structured_outputs: StructuredOutputs | None = None
    guided_json: Schema | str | None = None
    guided_regex: str | None = None
    guided_choice: list[str] | None = None
    guided_grammar: str | None = None

    @property
    def choices(self) -> int:
        return self.n or 1

    @property
    def include_usage(self) -> bool:
        return bool(self.stream_options and self.stream_options.include_usage)


class ChatBody(Body, frozen=True, kw_only=True):
    """https://platform.openai.com/docs/api-reference/chat/create"""

    messages: Messages[Message]
    logprobs: bool | None = None
    top_logprobs: TopCount | None = None
    max_completion_tokens: Count | None = None
    tools: Tools[Tool] | None = None
    tool_choice: str | dict[str, Any] | None = None
    parallel_tool_calls: bool | None = None
    functions: Tools[Function] | None = None  # deprecated by OpenAI, as the next one
    function_call: str | dict[str, Any] | None = None
    add_generation_prompt: bool | None = None
    continue_final_message: bool | None = None
    prediction: Prediction | None = None
    service_tier: str | None = None
    chat_template_kwargs: dict[str, Any] | None = None
    reasoning_effort: Annotated[str, Meta(max_length=32)] | None = None
    reasoning: Reasoning | None = None

    @property
    def effort(self) -> str | None:
        """How hard to think: `none` is not at all, an empty text says no more than to do it."""
        asked = self.reasoning or Reasoning()
        if asked.enabled is False:
            return "none"
        thinks = asked.enabled or asked.max_tokens
        return self.reasoning_effort or asked.effort or ("" if thinks else None)


class CompletionBody(Body, frozen=True, kw_only=True):
    """https://platform.openai.com/docs/api-reference/completions/create"""

    prompt: Texts
    logprobs: TopCount | None = None
    echo: bool | None = None
    best_of: Choices | None = None
    suffix: str | None = None

    @property
    def choices(self) -> int:
        """Answers that are computed to each prompt."""
        return self.best_of or self.told

    @property
    def told(self) -> int:
        """Those of them that are told, the best ones."""
        return self.n or 1


class WarmBody(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What POST /v1/cache/warm takes: one of `prompt` and `messages`."""

    prompt: Annotated[str, Meta(min_length=1)] | None = None
    messages: Messages[Message] | None = None
    tools: Tools[Tool] | None = None
    label: Annotated[str, Meta(min_length=1, max_length=256)] = "warm"
    cache_salt: Salt | None = None


_decoder = functools.cache(msgspec.json.Decoder)  # one for each type
_AT = re.compile(r"^(?P<reason>.*) - at (?:`key` in )?`\$\.?(?P<path>.*)`$", re.DOTALL)
_NO_CHOICE = re.compile(r"^Invalid (?:enum )?value (?P<value>.*)", re.DOTALL)
_MISSING = re.compile(r"^Object missing required field `(?P<name>\w+)`")


def decode(body: bytes, kind: type[B]) -> tuple[B, dict[str, Any]]:
    """The typed body, and all its parameters as they came.

    Raises InvalidRequest where it is no JSON object, gives a name twice or breaks a bound.
    """
    if not body.strip():
        raise InvalidRequest("the body is empty: a JSON object is expected")
    check_depth(body)
    try:
        typed: B = _decoder(kind).decode(body)
        fields: dict[str, Any] = json.loads(
            body, object_pairs_hook=_distinct, parse_constant=_no_constant
        )
    except msgspec.ValidationError as error:
        raise _invalid(str(error), kind) from None
    except ValueError as error:  # bad JSON and bad UTF-8, of either parser
        raise InvalidRequest(f"the body is not valid JSON: {error}", code="invalid_json") from None
    return typed, fields


def texts(given: Texts, name: str) -> list[str | list[int]]:
    """Each text or prompt: a list of integers is one, any other list has one in each item."""
    if isinstance(given, str):
        return [given]
    tokens = [each for each in given if isinstance(each, int)]
    if len(tokens) == len(given):
        return [tokens]
    if tokens:
        raise InvalidRequest(f"`{name}` mixes token ids with other items", param=name)
    return [each for each in given if not isinstance(each, int)]


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        twice = next(
            name for name, times in Counter(name for name, _ in pairs).items() if times > 1
        )
        raise InvalidRequest(f"`{twice}` is given twice", param=twice)
    return found


def _invalid(message: str, kind: type[Struct]) -> InvalidRequest:
    """msgspec's refusal in our words: `n`: expected `int` <= 128."""
    reason, path = message, ""
    if found := _AT.match(message):
        reason, path = found["reason"], found["path"]
    if missing := _MISSING.match(reason):
        path = f"{path}.{missing['name']}".lstrip(".")
        return InvalidRequest(f"`{path}` is missing", param=path)
    if found := _NO_CHOICE.match(reason):
        allowed = ", ".join(map(repr, choices(kind, path)))
        reason = f"{found['value']} is none of {allowed}"
    reason = reason[:1].lower() + reason[1:]
    return InvalidRequest(f"`{path}`: {reason}" if path else reason, param=path or None)
