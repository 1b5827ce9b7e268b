"""Values of options: read from text, checked against their declaration, put into words."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, get_args

import msgspec
import msgspec.inspect as inspect

from llmengine.options import Option

_BOOLEANS = {
    **dict.fromkeys(("true", "1", "yes", "on"), True),
    **dict.fromkeys(("false", "0", "no", "off"), False),
}
_SHOWN = 60  # characters of a wrong value


def parse(text: str, option: Option) -> Any:
    """The value that `text`, from the environment or the command line, gives to `option`.

    Lists are JSON or separated by commas, tables are JSON, booleans also yes/no, on/off, 1/0.
    Raises ValueError with what is allowed.
    """
    kind = _kind(option.type)
    value: Any = text
    if isinstance(kind, inspect.BoolType):
        value = _BOOLEANS.get(text.strip().lower(), text)
    elif isinstance(kind, inspect.VarTupleType) and not text.lstrip().startswith("["):
        value = _items(text)
    elif isinstance(kind, (inspect.VarTupleType, inspect.DictType)):
        value = _json(text)
    return check(value, option, strict=False)


def check(value: Any, option: Option, *, strict: bool = True) -> Any:
    """`value` as the type of `option`; ValueError with what is allowed if it is not that."""
    try:
        converted = msgspec.convert(value, option.type, strict=strict, str_keys=True)
    except ValueError as error:
        shown = "that value" if option.secret else shorten(to_toml(value))
        raise ValueError(f"{option.path} must be {describe(option)}, not {shown}") from error
    if _has_broken_text(converted):
        raise ValueError(
            f"{option.path} must be {describe(option)} without NUL bytes and invalid UTF-8"
        )
    return converted


def describe(option: Option) -> str:
    """What `option` may be, like `an integer from 0 to 65535`."""
    kind = _kind(option.type)
    match kind:
        case inspect.BoolType():
            return "true or false"
        case inspect.LiteralType():
            return "one of " + ", ".join(choices(option))
        case inspect.StrType(pattern=str()):
            return f"a string like {to_toml(option.default)}"
        case inspect.VarTupleType(item_type=item, max_length=most):
            return f"a list of {_noun(item, many=True)}" + (f", {most} at most" if most else "")
        case inspect.DictType(key_type=key, value_type=value, max_length=most):
            pairs = f"{_noun(key, many=True)} to {_noun(value, many=True)}"
            return f"a table from {pairs}" + (f", {most} entries at most" if most else "")
        case _:
            return _noun(kind)


def choices(option: Option) -> tuple[str, ...]:
    """The values of an option that is one of a few, in the order of declaration."""
    if not isinstance(_kind(option.type), inspect.LiteralType):
        return ()
    literal = get_args(option.type)[0]  # inside Annotated
    return tuple(str(each) for each in get_args(literal))


def is_boolean(option: Option) -> bool:
    return isinstance(_kind(option.type), inspect.BoolType)


def to_toml(value: Any) -> str:
    """`value` as TOML writes it, dates and the like as text."""
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=not value.isprintable())
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Mapping):
        inner = ", ".join(
            f"{json.dumps(str(key))} = {to_toml(item)}" for key, item in value.items()
        )
        return f"{{{inner}}}"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(map(to_toml, value)) + "]"
    return "unset" if value is None else str(value)


def _items(text: str) -> list[str] | str:
    items = [item.strip() for item in text.split(",") if item.strip()]
    return items if items or not text else text  # the check refuses blanks, which need JSON


def _json(text: str) -> Any:
    try:
        return msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeEncodeError, RecursionError):
        return text  # the check refuses it, in words for the user


def _kind(annotation: Any) -> inspect.Type:
    """The plain type under Annotated and `| None`."""
    kind = inspect.type_info(annotation)
    while True:
        if isinstance(kind, inspect.Metadata):
            kind = kind.type
        elif isinstance(kind, inspect.UnionType):
            kind = kind.types[0]
        else:
            return kind


def _noun(kind: inspect.Type, *, many: bool = False) -> str:
    if isinstance(kind, inspect.Metadata):
        kind = kind.type
    if isinstance(kind, inspect.StrType):
        limit = f" of at most {kind.max_length} characters" if kind.max_length else ""
        return ("strings" if many else "a string") + limit
    one, several = (
        ("an integer", "integers")
        if isinstance(kind, inspect.IntType)
        else (
            "a number",
            "numbers",
        )
    )
    return (several if many else one) + _range(kind)


def _range(kind: Any) -> str:
    if kind.ge is not None and kind.le is not None:
        return f" from {kind.ge} to {kind.le}"
    if kind.gt is not None:
        return f" above {kind.gt}" + (f" and at most {kind.le}" if kind.le is not None else "")
    return f" of at least {kind.ge}" if kind.ge is not None else ""


def _has_broken_text(value: Any) -> bool:
    texts = value if isinstance(value, tuple) else (value,)
    return any(isinstance(text, str) and ("\0" in text or not _is_unicode(text)) for text in texts)


def _is_unicode(text: str) -> bool:
    """Whether the bytes that `text` came from were UTF-8; see os.fsdecode."""
    return not any("\ud800" <= character <= "\udfff" for character in text)


def shorten(text: str) -> str:
    return text if len(text) <= _SHOWN else text[:_SHOWN] + "..."
