"""What llama.cpp's own helper makes of a prompt with images or sound."""

from __future__ import annotations

import ctypes
from typing import Any

import llama_cpp
import numpy as np
from llama_cpp import mtmd_cpp as mtmd

from llmengine.core import Media
from llmengine.engine.engine import Engine
from llmengine.media.picture import picture


def logits(engine: Engine, *parts: str | Media) -> np.ndarray[Any, Any]:
    """The logits after the prompt, computed in a context of its own."""
    projector: Any = engine._projector
    marker = mtmd.mtmd_default_marker()
    text = b"".join(each.encode() if isinstance(each, str) else marker for each in parts)
    bitmaps = [_bitmap(projector._context, each) for each in parts if isinstance(each, Media)]
    chunks = mtmd.mtmd_input_chunks_init()
    given = mtmd.mtmd_input_text(text, len(text), False, True)
    array: Any = (ctypes.c_void_p * len(bitmaps))(*bitmaps)
    assert not mtmd.mtmd_tokenize(
        projector._context, chunks, ctypes.byref(given), array, len(bitmaps)
    )
    params = llama_cpp.llama_context_default_params()
    params.n_ctx = params.n_batch = params.n_ubatch = 1024
    context = llama_cpp.llama_init_from_model(engine._model.handle, params)
    past = ctypes.c_int32()
    assert not mtmd.mtmd_helper_eval_chunks(
        projector._context, context, chunks, 0, 0, 512, True, ctypes.byref(past)
    )
    pointer = llama_cpp.llama_get_logits_ith(context, -1)
    found = np.ctypeslib.as_array(pointer, (engine.info().vocabulary,)).copy()
    llama_cpp.llama_free(context)
    mtmd.mtmd_input_chunks_free(chunks)
    for each in bitmaps:
        mtmd.mtmd_bitmap_free(each)
    return found


def _bitmap(context: Any, media: Media) -> Any:
    if media.kind == "image":
        image = picture(media.data)
        data = (ctypes.c_uint8 * len(image.pixels)).from_buffer_copy(image.pixels)
        return mtmd.mtmd_bitmap_init(image.width, image.height, data)
    data = (ctypes.c_uint8 * len(media.data)).from_buffer_copy(media.data)
    return mtmd.mtmd_helper_bitmap_init_from_buf(context, data, len(data), False)
