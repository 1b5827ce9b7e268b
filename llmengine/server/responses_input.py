"""The items of a request: checked, given ids, and made into the messages of a chat."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeVar

from msgspec.structs import replace

from llmengine.errors import InvalidRequest
from llmengine.server.bodies import CalledFunction, Message, ToolCall
from llmengine.server.responses_body import InputItem, InputPart, Role
from llmengine.server.responses_wire import (
    CallItem,
    InputImage,
    InputSound,
    InputText,
    Item,
    MessageItem,
    OutputText,
    ReasoningItem,
    ReasoningText,
    ResultItem,
    SummaryText,
)

MAX_ITEMS = 2**14
Input = InputText | InputImage | InputSound
T = TypeVar("T")


def item_id(kind: type[Item], response: str, name: str) -> str:
    """The id of an item of the response `response`, from which that response can be told."""
    return f"{kind.prefix}_{response.removeprefix('resp_')}_{name}"


def response_of(item_id: str) -> str:
    """The id of the response that an item belongs to, as `item_id` made it."""
    parts = item_id.split("_")
    return f"resp_{parts[1]}" if len(parts) == 3 else ""


def referenced(given: str | Sequence[InputItem]) -> dict[str, set[str]]:
    """The ids of the items that `given` refers to, by the responses that they belong to."""
    found: dict[str, set[str]] = {}
    for item in () if isinstance(given, str) else given:
        if item.id is not None and _kind(item) == "item_reference":
            found.setdefault(response_of(item.id), set()).add(item.id)
    return found


def distinct(items: Iterable[Item], response: str) -> list[Item]:
    """`items` with an id for each: clients that page through them go on from the last one's."""
    found: dict[str, Item] = {}
    for at, item in enumerate(items):
        if item.id in found:  # a client sent it twice
            item = replace(item, id=item_id(type(item), response, f"t{at}"))
        found[item.id] = item
    return list(found.values())


def _kind(item: InputItem) -> str:
    return item.type or ("message" if item.role else "item_reference")


class Items:
    """The items of one request's `input`."""

    def __init__(self, response: str, find: Callable[[str], Item | None]) -> None:
        """`find` looks up an item of another response by its id."""
        self._response = response
        self._find = find

    def of(self, given: str | Sequence[InputItem]) -> list[Item]:
        """Raises InvalidRequest, which names what is wrong in which item."""
        if isinstance(given, str):
            given = [InputItem(role="user", content=given)]
        if len(given) > MAX_ITEMS:
            raise InvalidRequest(f"`input` has more than {MAX_ITEMS} items", param="input")
        return [self._item(at, each) for at, each in enumerate(given)]

    def _item(self, at: int, item: InputItem) -> Item:
        where = f"input[{at}]"
        kind = _kind(item)
        if kind == "message":
            return self._message(at, item)
        if kind == "reasoning":
            return ReasoningItem(
                id=item.id or item_id(ReasoningItem, self._response, f"i{at}"),
                content=[ReasoningText(each) for each in _texts(item.content or [], where)],
                summary=[SummaryText(each.text or "") for each in item.summary or []],
            )
        if kind == "function_call":
            return CallItem(
                id=item.id or item_id(CallItem, self._response, f"i{at}"),
                call_id=_needed(item.call_id, f"{where}.call_id"),
                name=_needed(item.name, f"{where}.name"),
                arguments=_needed(item.arguments, f"{where}.arguments"),
            )
        if kind == "function_call_output":
            return self._result(at, item)
        if kind == "item_reference":
            return self._reference(_needed(item.id, f"{where}.id"), where)
        raise _refused(f"{where}.type", f"{kind[:50]!r} is not offered by this server")

    def _message(self, at: int, item: InputItem) -> MessageItem:
        where = f"input[{at}]"
        role: Role = _needed(item.role, f"{where}.role")
        content: list[Input | OutputText] = list(_inputs(item.content, f"{where}.content"))
        if role == "assistant":
            texts = _texts(item.content, f"{where}.content")
            content = [OutputText(text=each) for each in texts]
        id = item.id or item_id(MessageItem, self._response, f"i{at}")
        return MessageItem(id=id, role=role, content=content)

    def _result(self, at: int, item: InputItem) -> ResultItem:
        where = f"input[{at}]"
        given = item.output
        parts = list(_inputs(given, f"{where}.output"))
        return ResultItem(
            id=item.id or item_id(ResultItem, self._response, f"i{at}"),
            call_id=_needed(item.call_id, f"{where}.call_id"),
            output=given if isinstance(given, str) else parts,
        )

    def _reference(self, id: str, where: str) -> Item:
        found = self._find(id)
        if found is None:
            raise InvalidRequest(
                f"`{where}`: there is no stored item {id!r}", param=where, code="item_not_found"
            )
        return found


def _inputs(content: str | Iterable[InputPart] | None, where: str) -> Iterator[Input]:
    for at, part in enumerate(() if content is None or isinstance(content, str) else content):
        if part.type == "input_image":
            if part.file_id is not None:
                raise _refused(f"{where}[{at}].file_id", "files are not offered by this server")
            url = _needed(part.image_url, f"{where}[{at}].image_url")
            yield InputImage(url, part.detail or "auto")
        elif part.type == "input_audio":
            yield InputSound(_needed(part.input_audio, f"{where}[{at}].input_audio"))
        else:
            yield from map(InputText, _texts([part], where, at))
    if content is None or isinstance(content, str):
        yield from map(InputText, _texts(content, where))


def _texts(content: str | Iterable[InputPart] | None, where: str, start: int = 0) -> Iterator[str]:
    if content is None:
        raise _missing(where)
    if isinstance(content, str):
        yield content
        return
    for at, part in enumerate(content, start):
        text = part.text if part.text is not None else part.refusal
        if part.type not in ("input_text", "output_text", "reasoning_text", "text", "refusal"):
            raise _refused(
                f"{where}[{at}].type",
                f"{part.type[:50]!r} is not offered, this server takes text, images and sound",
                "unsupported_content",
            )
        yield _needed(text, f"{where}[{at}].text")


def _needed(value: T | None, param: str) -> T:
    if value is None:
        raise _missing(param)
    return value


def _missing(param: str) -> InvalidRequest:
    return InvalidRequest(f"`{param}` is missing", param=param)


def _refused(param: str, reason: str, code: str = "unsupported_parameter") -> InvalidRequest:
    return InvalidRequest(f"`{param}`: {reason}", param=param, code=code)


def messages(items: Iterable[Item]) -> list[Message]:
    """The conversation that `items` are.

    Thinking, text and calls that follow each other in this order are one message.
    """
    found: list[Message] = []
    for item in items:
        if isinstance(item, ResultItem):
            found.append(Message("tool", item.said, tool_call_id=item.call_id))
        elif isinstance(item, MessageItem) and item.role != "assistant":
            found.append(Message(item.role, item.said))
        else:
            if not found or not _goes_on(found[-1], item):
                found.append(Message("assistant"))
            _extend(found[-1], item)
    return [each for each in found if each.role != "assistant" or _says(each)]


def _says(message: Message) -> bool:
    """Whether anything is in it: thinking may come encrypted, by another server."""
    return bool(message.reasoning_content or message.tool_calls) or message.content is not None


def _goes_on(message: Message, item: MessageItem | ReasoningItem | CallItem) -> bool:
    """Whether `item` is more of what `message` says."""
    if message.role != "assistant":
        return False
    if isinstance(item, CallItem):
        return True
    spoken = message.content is not None or bool(message.tool_calls)
    return not spoken and isinstance(item, MessageItem)


def _extend(message: Message, item: MessageItem | ReasoningItem | CallItem) -> None:
    if isinstance(item, ReasoningItem):
        message.reasoning_content = item.text or None
    elif isinstance(item, MessageItem):
        message.content = item.said
    else:
        call = ToolCall(CalledFunction(item.name, item.arguments), item.call_id)
        message.tool_calls = [*(message.tool_calls or []), call]
