"""A conversation as a file: JSON, written whole or not at all, checked when it is read."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any, Literal

import msgspec
from msgspec import Struct

from llmengine.cli import file
from llmengine.core import Media
from llmengine.errors import InvalidRequest

MAX_BYTES = 256 << 20


class Message(Struct, frozen=True, omit_defaults=True):
    role: Literal["user", "assistant"]
    content: str  # exactly as written or generated
    reasoning: str = ""
    stopped: bool = False  # whether its user stopped it before its end
    files: tuple[Media, ...] = ()  # that go before the content


class Transcript(Struct, frozen=True, kw_only=True):
    format: Literal["llmengine-conversation"]
    version: Literal[1]
    model: str = ""
    system: str = ""
    settings: dict[str, Any] = {}  # sampling parameters, where they differ from the configuration
    think: bool = False
    messages: tuple[Message, ...] = ()


def write(path: Path, transcript: Transcript) -> None:
    """Replace `path` by `transcript`; a file that is no saved conversation is left alone.

    Raises InvalidRequest where it cannot be written.
    """
    text = msgspec.json.format(msgspec.json.encode(transcript), indent=2) + b"\n"
    if len(text) > MAX_BYTES:
        raise InvalidRequest(f"the conversation is larger than {MAX_BYTES >> 20} MiB")
    try:
        path = path.expanduser().resolve()
        if path.exists():
            _refuse_foreign(path)
        _replace(path, text)
    except (OSError, RuntimeError, ValueError) as error:
        raise file.inaccessible("write", path, error) from error


def read(path: Path) -> Transcript:
    """The conversation in `path`; raises InvalidRequest that says what is wrong with it."""
    data = _read(path)
    try:
        transcript = msgspec.json.decode(data, type=Transcript)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidRequest(f"{path} is not a saved conversation: {error}") from error
    roles = [message.role for message in transcript.messages]
    if roles != ["user", "assistant"] * (len(roles) // 2):
        raise InvalidRequest(
            f"{path} is not a saved conversation: user and assistant must take turns,"
            " and the assistant comes last"
        )
    return transcript


def _read(path: Path) -> bytes:
    data = file.read(path, MAX_BYTES)
    if len(data) > MAX_BYTES:
        raise InvalidRequest(f"{path} is not a saved conversation: larger than any")
    return data


def _refuse_foreign(path: Path) -> None:
    try:
        read(path)
    except InvalidRequest as error:
        raise InvalidRequest(
            f"{path} exists and is not a saved conversation; choose another name"
        ) from error


def _replace(path: Path, text: bytes) -> None:
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)  # mode 0600
    try:
        with os.fdopen(handle, "wb") as target:
            target.write(text)
            target.flush()
            os.fsync(target.fileno())
        os.replace(name, path)
    except BaseException:
        os.unlink(name)
        raise
