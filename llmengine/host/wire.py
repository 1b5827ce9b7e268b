"""What the engine's process and its parent say to each other."""

from __future__ import annotations

from typing import Any, Literal

import msgspec
from msgspec import Struct

from llmengine.config import Config
from llmengine.core import Media, ModelInfo, Output, Request, Stats
from llmengine.errors import ErrorInfo


class Message(Struct, frozen=True, array_like=True, tag=True):
    pass


# To the engine


class Setup(Message, frozen=True):
    """The first of all."""

    config: Config


class Submit(Message, frozen=True):
    request: Request
    call: int = 0  # whom to answer whether it was accepted; 0: nobody, a refusal is its last output


class Cancel(Message, frozen=True):
    request_id: str


class Embed(Message, frozen=True):
    call: int
    inputs: tuple[tuple[int, ...], ...]


class Abandon(Message, frozen=True):
    """Nobody waits for the embeddings of that call any more."""

    call: int


class Tokenize(Message, frozen=True):
    call: int
    text: str
    special: bool
    bos: bool


class Detokenize(Message, frozen=True):
    call: int
    tokens: tuple[int, ...]


class Piece(Message, frozen=True):
    call: int
    token: int


class MediaTokens(Message, frozen=True):
    call: int
    media: Media


class AskCache(Message, frozen=True):
    """A method of `llmengine.core.CacheControl`."""

    call: int
    method: Literal["stats", "list", "show", "pin", "remove", "clear", "verify"]
    arguments: tuple[str | bool, ...] = ()


class LogFrom(Message, frozen=True):
    """Log from that level on, as numbered by `logging`."""

    level: int


class Close(Message, frozen=True):
    """Cancel what runs, save what is to be kept, and end."""


ToEngine = (
    Setup
    | Submit
    | Cancel
    | Embed
    | Abandon
    | Tokenize
    | Detokenize
    | Piece
    | MediaTokens
    | AskCache
    | LogFrom
    | Close
)

# From the engine


class Beat(Message, frozen=True):
    """Comes at short intervals from the first moment on."""

    loaded: float  # share of the model's weights
    stalled: float = 0.0  # seconds that the engine's thread has not got on with its work
    stats: Stats | None = None


class Ready(Message, frozen=True):
    info: ModelInfo


class Failed(Message, frozen=True):
    """The model could not be loaded; nothing follows."""

    error: ErrorInfo


class Outputs(Message, frozen=True):
    """All outputs of one step; with the end of a request come the counters."""

    outputs: list[Output]
    stats: Stats | None = None


class Answer(Message, frozen=True):
    call: int
    result: msgspec.Raw


class Refused(Message, frozen=True):
    call: int
    error: ErrorInfo


class Logged(Message, frozen=True):
    """A log record; fields that are no plain data come as their text."""

    name: str
    level: int
    created: float  # seconds since the epoch
    message: str
    fields: dict[str, Any] = {}
    exception: str | None = None


FromEngine = Beat | Ready | Failed | Outputs | Answer | Refused | Logged
