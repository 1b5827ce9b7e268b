"""A GGUF model: its weights, its vocabulary and what its file says of it."""

from __future__ import annotations

import ctypes
import functools
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import llama_cpp

from llmengine.config import Config
from llmengine.core import Infill
from llmengine.errors import ConfigError, InvalidRequest, ModelNotFound, ModelUnavailable
from llmengine.llama import advice, device, library
from llmengine.llama.tokenizer import Tokenizer
from llmengine.loading import Loading

GGUF_MAGIC = b"GGUF"


class Model:
    """Wraps `llama_model`. Any thread may call; what needs `handle` or `vocab` is `in_use`."""

    def __init__(self, path: Path, config: Config, loading: Loading | None = None) -> None:
        """Load the model, and tell `loading` how far it is.

        Raises ModelNotFound, ModelUnavailable (not a GGUF, truncated, no weights, stopped) and
        ConfigError (a device that is not there).
        """
        loading = loading or Loading()
        check_file(path)
        library.start()
        self._idle = threading.Condition()
        self._users = 0  # calls under way that need the model
        self._closed = False
        self.path = path
        self.devices = device.choose(config.model.device)
        self._gpu_layers = config.model.gpu_layers
        library.forget_errors()
        params = self._params(config)
        report = llama_cpp.llama_progress_callback(lambda fraction, _: loading.report(fraction))
        params.progress_callback = report
        self._model = llama_cpp.llama_model_load_from_file(str(path).encode(), params)
        if not self._model:
            reason = library.last_error("it is damaged or of an unknown kind")
            reason = "it was stopped" if loading.stopped else reason
            raise ModelUnavailable(f"cannot load {path}: {reason}")
        self._vocab = llama_cpp.llama_model_get_vocab(self._model)
        if llama_cpp.llama_vocab_type(self._vocab) == llama_cpp.LLAMA_VOCAB_TYPE_NONE:
            self.close()
            raise ModelUnavailable(f"cannot use {path}: it has no vocabulary")

    def _params(self, config: Config) -> llama_cpp.llama_model_params:
        params = llama_cpp.llama_model_default_params()
        settings, performance = config.model, config.performance
        # llama.cpp keeps these pointers: they must live as long as the model.
        handles = [each.handle for each in self.devices] + [0]
        self._handles = (ctypes.c_void_p * len(handles))(*handles)
        params.devices = ctypes.cast(self._handles, ctypes.c_void_p)
        params.n_gpu_layers = settings.gpu_layers if self.devices else 0
        params.main_gpu = settings.main_gpu
        if settings.tensor_split:
            limit = llama_cpp.llama_max_devices()
            if len(settings.tensor_split) > limit:
                raise ConfigError(f"model.tensor_split has more than {limit} shares")
            self._split = (ctypes.c_float * limit)(*settings.tensor_split)
            params.tensor_split = self._split
        # `enum llama_load_mode`: 0 none, 1 mmap, 2 mlock, 3 both.
        params.load_mode = performance.use_mmap | performance.use_mlock << 1
        # Repacked weights round rows beyond a multiple of four differently.
        params.use_extra_bufts = not performance.deterministic
        return params

    @property
    def handle(self) -> llama_cpp.llama_model_p:
        return self._model

    @functools.cached_property
    def vocab(self) -> llama_cpp.llama_vocab_p:
        return self._vocab

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """Keep the model from being freed meanwhile; raises ModelUnavailable if it is closed."""
        with self._idle:
            self._check_open()
            self._users += 1
        try:
            yield
        finally:
            with self._idle:
                self._users -= 1
                self._idle.notify_all()

    def _check_open(self) -> None:
        if self._closed:
            raise ModelUnavailable("the model is closed")

    def close(self) -> None:
        """Free the model once nobody uses it. May be called again."""
        with self._idle:
            self._closed = True
            self._idle.wait_for(lambda: not self._users)
            if self._model:
                llama_cpp.llama_model_free(self._model)
                self._model = None

    # What the file says

    @functools.cached_property
    def description(self) -> str:
        buffer = ctypes.create_string_buffer(256)
        llama_cpp.llama_model_desc(self._model, buffer, len(buffer))
        text = buffer.value.decode("utf-8", "replace")
        return text.replace("?B", rounded(self.parameters))  # of a size llama.cpp has no name for

    def metadata(self, key: str) -> str | None:
        """The GGUF value of `key` as text, or None."""
        size = llama_cpp.llama_model_meta_val_str(self._model, key.encode(), None, 0)
        if size < 0:
            return None
        buffer = ctypes.create_string_buffer(size + 1)
        llama_cpp.llama_model_meta_val_str(self._model, key.encode(), buffer, len(buffer))
        return buffer.value.decode("utf-8", "replace")

    @functools.cached_property
    def chat_template(self) -> str | None:
        return self.metadata("tokenizer.chat_template")

    @functools.cached_property
    def sampling(self) -> dict[str, float]:
        return advice.read(self.metadata, self.path.name)

    @functools.cached_property
    def input_size(self) -> int:
        """Values of an embedding that takes the place of a token."""
        return int(llama_cpp.llama_model_n_embd_inp(self._model))

    @functools.cached_property
    def size_bytes(self) -> int:
        return int(llama_cpp.llama_model_size(self._model))

    @functools.cached_property
    def parameters(self) -> int:
        return int(llama_cpp.llama_model_n_params(self._model))

    @functools.cached_property
    def context_length(self) -> int:
        """Tokens the model was trained for."""
        return int(llama_cpp.llama_model_n_ctx_train(self._model))

    @functools.cached_property
    def vocabulary(self) -> int:
        return int(llama_cpp.llama_vocab_n_tokens(self._vocab))

    @property
    def copied(self) -> bool:
        """Whether what it computes is brought to the host by copies, of one layer at least."""
        # The first that goes to a GPU is the output, which has no state.
        return self._gpu_layers not in (0, 1) and any(each.copies for each in self.devices)

    @functools.cached_property
    def can_truncate(self) -> bool:
        """Whether a sequence's tail can be dropped; recurrent state has no parts."""
        return not (
            llama_cpp.llama_model_is_recurrent(self._model)
            or llama_cpp.llama_model_is_hybrid(self._model)
        )

    @property
    def needs_checkpoints(self) -> bool:
        """Whether a saved state serves only prompts that begin with all of its tokens.

        So it is too with a sliding window: llama.cpp saves no cells outside of it, and what a
        shorter prefix would look back on is gone.
        """
        return not self.can_truncate or self.sliding_window > 0

    @functools.cached_property
    def sliding_window(self) -> int:
        """Tokens of the attention window, 0 for full attention."""
        return int(llama_cpp.llama_model_n_swa(self._model))

    def of_architecture(self, key: str) -> str | None:
        """The GGUF value of a key whose name begins with the architecture's."""
        return self.metadata(f"{self.metadata('general.architecture')}.{key}")

    def kv_bytes_per_token(self, bytes_per_value: float) -> int:
        """Bytes of KV cache that one token takes at most."""
        kv_heads = max(1, llama_cpp.llama_model_n_head_kv(self._model))
        return int(self._layers * kv_heads * self._head_values * bytes_per_value)

    @property
    def attention_values(self) -> int:
        """Values that a token multiplies with those of one cell, in all heads and layers."""
        return self._layers * self._heads * self._head_values

    @property
    def _layers(self) -> int:
        return int(llama_cpp.llama_model_n_layer(self._model))

    @property
    def _heads(self) -> int:
        return max(1, int(llama_cpp.llama_model_n_head(self._model)))

    @property
    def _head_values(self) -> int:
        """Of a key and a value together."""
        width = llama_cpp.llama_model_n_embd(self._model) // self._heads
        key = int(self.of_architecture("attention.key_length") or width)
        value = int(self.of_architecture("attention.value_length") or width)
        return key + value

    # The vocabulary

    @functools.cached_property
    def bos(self) -> int:
        """Token id of the start of text, -1 if the file names none."""
        if self.metadata("tokenizer.ggml.bos_token_id") is None:
            return -1
        return int(llama_cpp.llama_vocab_bos(self._vocab))

    @functools.cached_property
    def eos(self) -> int:
        return int(llama_cpp.llama_vocab_eos(self._vocab))

    @functools.cached_property
    def infill(self) -> Infill | None:
        names = (
            llama_cpp.llama_vocab_fim_pre,
            llama_cpp.llama_vocab_fim_suf,
            llama_cpp.llama_vocab_fim_mid,
        )
        tokens = [int(name(self._vocab)) for name in names]
        return Infill(*tokens) if min(tokens) >= 0 else None

    @functools.cached_property
    def end_tokens(self) -> frozenset[int]:
        """Tokens that end a generation (`llama_vocab_is_eog`)."""
        is_end = llama_cpp.llama_vocab_is_eog
        return frozenset(token for token in range(self.vocabulary) if is_end(self._vocab, token))

    def tokenize(self, text: str, *, special: bool = False, bos: bool = False) -> list[int]:
        """Token ids of `text`.

        With `special`, names of control tokens become those tokens; with `bos`, the start and end
        tokens that the model wants are added. Raises InvalidRequest on lone surrogates.
        """
        with self.in_use():
            return self._tokenizer.tokenize(text, special=special, bos=bos)

    @functools.cached_property
    def _tokenizer(self) -> Tokenizer:
        return Tokenizer(self._vocab)

    @functools.cached_property
    def longest_piece(self) -> int:
        """Bytes of the longest token."""
        size = llama_cpp.llama_token_to_piece
        with self.in_use():
            sizes = [-size(self._vocab, each, None, 0, 0, True) for each in range(self.vocabulary)]
        return int(max(1, *sizes))

    def piece(self, token: int, special: bool = True) -> bytes:
        """The bytes of a token; without `special`, control tokens have none."""
        if not 0 <= token < self.vocabulary:
            raise InvalidRequest(f"token {token} is not in the vocabulary of {self.vocabulary}")
        pieces = self._pieces[special]
        found = pieces[token]
        if found is None:
            found = pieces[token] = self._read_piece(token, special)
        return found

    @functools.cached_property
    def _pieces(self) -> tuple[list[bytes | None], list[bytes | None]]:
        """What was read of the vocabulary so far, without and with the names of control tokens."""
        return [None] * self.vocabulary, [None] * self.vocabulary

    def _read_piece(self, token: int, special: bool) -> bytes:
        buffer = self._piece_buffer
        with self._idle:  # cheaper than `in_use`, and streams come here for every new token
            self._check_open()
            count = llama_cpp.llama_token_to_piece(
                self._vocab, token, buffer, len(buffer), 0, special
            )
            return ctypes.string_at(buffer, count)

    @functools.cached_property
    def _piece_buffer(self) -> ctypes.Array[ctypes.c_char]:
        return ctypes.create_string_buffer(self.longest_piece)

    def detokenize(self, tokens: Sequence[int], special: bool = True) -> str:
        return b"".join(self.piece(each, special) for each in tokens).decode("utf-8", "replace")


def check_file(path: Path) -> None:
    """Refuse what is plainly no model before llama.cpp sees it."""
    try:
        with path.open("rb") as file:
            magic = file.read(len(GGUF_MAGIC))
    except FileNotFoundError:
        raise ModelNotFound(f"model file {path} does not exist") from None
    except OSError as error:
        raise ModelUnavailable(f"cannot read {path}: {error.strerror}") from None
    if magic != GGUF_MAGIC:
        raise ModelUnavailable(f"{path} is not a GGUF file")


def rounded(count: int) -> str:
    """`3.2M`, `1.1B`: a number of parameters as models are named by it."""
    return f"{count / 1e9:.1f}B" if count >= 1e9 else f"{count / 1e6:.1f}M"
