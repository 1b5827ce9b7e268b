"""A projector (mtmd): what turns images and recordings into embeddings of a model."""

from __future__ import annotations

import ctypes
import threading
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from llama_cpp import mtmd_cpp as mtmd

from llmengine.config import Config
from llmengine.core import Media
from llmengine.errors import Internal, InvalidRequest, ModelUnavailable
from llmengine.llama import library
from llmengine.llama.model import Model, check_file
from llmengine.llama.vectors import Vectors
from llmengine.media.picture import picture
from llmengine.media.sound import check_sound
from llmengine.media.spans import ids

# Where an image's embeddings depend on what comes before it, it cannot be looked at alone.
_BOUND = ("hunyuan_vl", "hunyuan-vl", "hunyuanvl", "deepseek4")
_REMEMBERED = 256  # media whose tokens are known without looking at them again


class Projector:
    """Wraps `mtmd_context`. `tokens` may be called from any thread, `encode` from one."""

    def __init__(self, path: Path, model: Model, config: Config, *, threads: int) -> None:
        """Raises ModelNotFound and ModelUnavailable."""
        check_file(path)
        self.path = path
        self._model = model
        self._width = model.input_size
        self._lock = threading.Lock()
        self._known: OrderedDict[bytes, tuple[int, ...]] = OrderedDict()
        if model.metadata("general.architecture") in _BOUND:
            raise ModelUnavailable(f"{path}: images are not offered for models of this kind")
        mtmd.mtmd_helper_log_set(library.on_log, ctypes.c_void_p())
        params = mtmd.mtmd_context_params_default()
        params.use_gpu = bool(model.devices)
        params.print_timings = params.warmup = False
        params.n_threads = threads
        library.forget_errors()
        self._context: Any = mtmd.mtmd_init_from_file(str(path).encode(), model.handle, params)
        if not self._context:
            reason = library.last_error("llama.cpp gave no reason")
            raise ModelUnavailable(f"cannot load the projector {path}: {reason}")
        self.mrope = bool(mtmd.mtmd_decode_use_mrope(self._context))
        sees = bool(mtmd.mtmd_support_vision(self._context))
        hears = bool(mtmd.mtmd_support_audio(self._context))
        self.kinds = ("image",) * sees + ("audio",) * hears
        # Whether all tokens of an image have to be in one batch.
        self.undivided = sees and bool(mtmd.mtmd_decode_use_non_causal(self._context, None))

    def close(self) -> None:
        """Free it, once the model is closed: nobody uses it then."""
        if self._context:
            mtmd.mtmd_free(self._context)
        self._context = None

    def tokens(self, media: Media) -> tuple[int, ...]:
        """What stands for `media` in a prompt: spans, and the tokens that the model wants around.

        Raises InvalidRequest for what cannot be decoded.
        """
        digest = media.digest
        with self._lock:
            found = self._known.pop(digest, None) or self._read(media, digest)
            self._known[digest] = found
            if len(self._known) > _REMEMBERED:
                self._known.popitem(last=False)
            return found

    def encode(self, media: Media) -> Iterator[Vectors]:
        """The embeddings of each of its spans; takes its time."""
        with self._chunks(media) as chunks:
            yield from map(self._encoded, filter(_is_media, chunks))

    def _read(self, media: Media, digest: bytes) -> tuple[int, ...]:
        tokens: list[int] = []
        part = 0
        with self._chunks(media) as chunks:
            for each in chunks:
                length = int(mtmd.mtmd_input_chunk_get_n_tokens(each))
                if _is_media(each):
                    skip = length - int(mtmd.mtmd_input_chunk_get_n_pos(each))
                    tokens += ids(digest, part, length, skip)
                    part += 1
                else:
                    count = ctypes.c_size_t()
                    words: Any = mtmd.mtmd_input_chunk_get_tokens_text(each, ctypes.byref(count))
                    tokens += words[: count.value]
        return tuple(tokens)

    @contextmanager
    def _chunks(self, media: Media) -> Iterator[list[Any]]:
        """What mtmd makes of `media`: text and embeddings to be, in order."""
        with self._model.in_use():
            bitmap, chunks = self._bitmap(media), mtmd.mtmd_input_chunks_init()
            try:
                self._tokenize(bitmap, chunks, media.kind)
                count = mtmd.mtmd_input_chunks_size(chunks)
                yield [mtmd.mtmd_input_chunks_get(chunks, at) for at in range(count)]
            finally:
                mtmd.mtmd_input_chunks_free(chunks)
                mtmd.mtmd_bitmap_free(bitmap)

    def _tokenize(self, bitmap: Any, chunks: Any, kind: str) -> None:
        marker = mtmd.mtmd_get_marker(self._context) or b""
        text = mtmd.mtmd_input_text(marker, len(marker), False, True)
        bitmaps: Any = (ctypes.c_void_p * 1)(bitmap)
        library.forget_errors()
        if mtmd.mtmd_tokenize(self._context, chunks, ctypes.byref(text), bitmaps, 1):
            reason = library.last_error("it gave no reason")
            raise InvalidRequest(f"llama.cpp does not take this {kind}: {reason}")

    def _bitmap(self, media: Media) -> Any:
        if media.kind == "image":
            image = picture(media.data)
            return mtmd.mtmd_bitmap_init(image.width, image.height, _bytes(image.pixels))
        check_sound(media.data)
        options = mtmd.mtmd_helper_init_opt_default()
        made = mtmd.mtmd_helper_bitmap_init_from_buf(
            self._context, _bytes(media.data), len(media.data), False, options
        )
        if not made:
            raise InvalidRequest("a recording is damaged", code="invalid_audio")
        return made

    def _encoded(self, chunk: Any) -> Vectors:
        if mtmd.mtmd_encode_chunk(self._context, chunk):
            raise Internal("the projector failed")
        count = int(mtmd.mtmd_input_chunk_get_n_tokens(chunk))
        pointer = mtmd.mtmd_get_output_embd(self._context)
        values = np.ctypeslib.as_array(pointer, (count, self._width)).copy()
        causal = not mtmd.mtmd_decode_use_non_causal(self._context, chunk)
        places = self._places(chunk, count, 0)
        return Vectors(values, places, self._places(chunk, count, 1) - places, causal)

    def _places(self, chunk: Any, count: int, start: int) -> Any:
        """The positions of a chunk that begins at `start`, in each dimension."""
        image = mtmd.mtmd_input_chunk_get_tokens_image(chunk)
        if not self.mrope or not image:
            return np.arange(start, start + count, dtype=np.int32)[None].repeat(
                4 if self.mrope else 1, axis=0
            )
        place = mtmd.mtmd_image_tokens_get_decoder_pos
        found = [place(image, start, at) for at in range(count)]
        # In the order in which llama.cpp has its dimensions.
        return np.array([[getattr(each, name) for each in found] for name in "tyxz"], np.int32)


def _is_media(chunk: Any) -> bool:
    return bool(mtmd.mtmd_input_chunk_get_type(chunk) != mtmd.MTMD_INPUT_CHUNK_TYPE_TEXT)


def _bytes(data: bytes) -> Any:
    return ctypes.cast(ctypes.c_char_p(data), ctypes.POINTER(ctypes.c_uint8))
