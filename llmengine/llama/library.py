"""llama.cpp as a loaded library: its log, its start."""

from __future__ import annotations

import ctypes
import functools
import logging
import os
import re
import tempfile
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import llama_cpp
from llama_cpp._ggml import libggml

log = logging.getLogger("llmengine.llama")

# The last errors in llama.cpp's log: its functions return null and tell the reason only there.
_recent: deque[str] = deque(maxlen=8)

# Who wants to hear what llama.cpp logs on a thread, by the thread.
_listeners: dict[int, list[str]] = {}


def _write_log(level: int, text: bytes, _: ctypes.c_void_p) -> None:
    line = text.decode("utf-8", "replace").rstrip()
    if not line or set(line) == {"."}:  # progress dots of a load
        return
    if (heard := _listeners.get(threading.get_ident())) is not None:
        heard.append(line)
    if level == 4:  # GGML_LOG_LEVEL_ERROR
        _recent.append(line)
    log.debug("%s", line)


on_log = llama_cpp.llama_log_callback(_write_log)  # llama.cpp keeps it: it must outlive all


def _write_last_words(message: bytes) -> None:
    """Say in one line why llama.cpp aborts. By itself it has a debugger write pages of frames."""
    text = re.sub(r"^\S*/", "", message.decode("utf-8", "replace"))  # without its build's folder
    os.write(2, f"llama.cpp gave up: {' '.join(text.split())}\n".encode())


on_abort = ctypes.CFUNCTYPE(None, ctypes.c_char_p)(_write_last_words)  # kept as `on_log` is


@functools.cache
def start() -> None:
    """Load the library once per process, its log and its last words going to ours."""
    llama_cpp.llama_log_set(on_log, ctypes.c_void_p())
    ggml({"ggml_set_abort_callback": ([type(on_abort)], ctypes.c_void_p)}).ggml_set_abort_callback(
        on_abort
    )
    llama_cpp.llama_backend_init()


def last_error(default: str) -> str:
    """The first error that llama.cpp logged since `forget_errors`, without its function's name."""
    if not _recent:
        return default
    line = _recent[0]
    _recent.clear()
    head, separator, rest = line.partition(": ")
    return rest if separator and " " not in head else line


def forget_errors() -> None:
    _recent.clear()


@contextmanager
def listening() -> Iterator[list[str]]:
    """The lines that llama.cpp logs meanwhile on this thread, as they come."""
    thread = threading.get_ident()
    lines: list[str] = []
    _listeners[thread] = lines
    try:
        yield lines
    finally:
        del _listeners[thread]


_stderr_lock = threading.Lock()


@contextmanager
def captured_stderr() -> Iterator[list[str]]:
    """The lines that C code prints past the log; filled in when the block is left."""
    lines: list[str] = []
    with _stderr_lock, tempfile.TemporaryFile() as file:
        saved = os.dup(2)
        os.dup2(file.fileno(), 2)
        try:
            yield lines
        finally:
            os.dup2(saved, 2)
            os.close(saved)
            file.seek(0)
            lines += file.read().decode("utf-8", "replace").splitlines()


def ggml(signatures: dict[str, tuple[list[Any], Any]]) -> Any:
    """The library with these functions of it, of which llama_cpp declares no types."""
    for name, (arguments, result) in signatures.items():
        function = getattr(libggml, name)
        function.argtypes, function.restype = arguments, result
    return libggml


def system_info() -> str:
    """The CPU features that were compiled in (`llama_print_system_info`)."""
    start()
    return str(llama_cpp.llama_print_system_info().decode())
