"""The prompt of a command: what comes through the pipe, and its argument."""

from __future__ import annotations

from typing import TextIO

from llmengine.errors import InvalidRequest, PayloadTooLarge

MAX_BYTES = 16 << 20  # more than any context holds


def is_piped(stdin: TextIO | None) -> bool:
    """Whether something other than a person may be at the other end; a closed one is None."""
    return stdin is not None and not stdin.isatty()


def read_prompt(argument: str | None, stdin: TextIO | None, *, raw: bool = False) -> str:
    """What was piped, then a blank line, then the argument; or the one of them that is there.

    The line feeds at the end of the pipe are dropped, as shells do, and the mark with which Windows
    begins a file; `raw` keeps both where there is no argument. Raises InvalidRequest when there is
    nothing, and for NUL and invalid UTF-8.
    """
    piped = _decode(_read(stdin)) if stdin is not None and is_piped(stdin) else ""
    argument = check_text(argument or "", "the prompt")
    text = piped if raw and not argument else piped.removeprefix("\ufeff").rstrip("\r\n")
    parts = [part for part in (text, argument) if part.strip() or (raw and part)]
    if not parts:
        raise InvalidRequest("the prompt is empty: give it as an argument or through a pipe")
    return "\n\n".join(parts)


def check_text(text: str, name: str) -> str:
    """`text`, which came from the command line; InvalidRequest where its bytes were not UTF-8."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        byte = ord(text[error.start]) - 0xDC00  # as os.fsdecode keeps it
        raise InvalidRequest(
            f"{name} is not UTF-8: byte 0x{byte:02x} after {error.start} characters"
        ) from error
    return text


def _read(stdin: TextIO) -> bytes:
    data = stdin.buffer.read(MAX_BYTES + 1)
    if len(data) > MAX_BYTES:
        raise PayloadTooLarge(f"stdin has more than {MAX_BYTES >> 20} MiB; send less of it")
    return data


def _decode(data: bytes) -> str:
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        raise InvalidRequest(
            f"stdin is not UTF-8: byte 0x{data[error.start]:02x} at offset {error.start};"
            " convert it first, for example with iconv"
        ) from error
    if "\0" in text:
        raise InvalidRequest(
            f"stdin has a NUL byte at offset {data.index(0)}; this looks like a binary file"
        )
    return text
