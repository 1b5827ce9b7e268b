"""What a model can be used for: to write, to embed, to rank."""

from __future__ import annotations

import enum

import llama_cpp
from msgspec import Struct

from llmengine.core import Pair
from llmengine.llama.model import Model


class Pooling(enum.Enum):
    """How the vectors of tokens become one (`enum llama_pooling_type`)."""

    MEAN = 1
    CLS = 2  # the first one
    LAST = 3
    RANK = 4  # a classification head over one of them: scores and no embedding


class Traits(Struct, frozen=True):
    causal: bool  # a token sees only those before it
    generates: bool  # encoders only read
    pooling: Pooling  # mean where the file says nothing, as files made for generation do
    embedding_size: int  # values of a vector
    scores: int  # values that a ranking model gives a text
    keeps_text: bool  # every character is in some token, no matter how unknown


def traits_of(model: Model) -> Traits:
    causal = model.of_architecture("attention.causal") != "false"
    vocab_type = llama_cpp.llama_vocab_type(model.vocab)
    pooling = int(model.of_architecture("pooling_type") or 0)
    handle = model.handle
    return Traits(
        causal=causal,
        generates=causal and not llama_cpp.llama_model_has_encoder(handle),
        pooling=Pooling(pooling) if pooling in (1, 2, 3, 4) else Pooling.MEAN,
        embedding_size=int(llama_cpp.llama_model_n_embd_out(handle)),
        scores=int(llama_cpp.llama_model_n_cls_out(handle)),
        keeps_text=vocab_type
        not in (llama_cpp.LLAMA_VOCAB_TYPE_WPM, llama_cpp.LLAMA_VOCAB_TYPE_UGM),
    )


def pair_of(model: Model) -> Pair:
    """How a ranking model wants a query and a document, as llama-server puts them together."""
    vocab = model.vocab
    eos, sep = int(llama_cpp.llama_vocab_eos(vocab)), int(llama_cpp.llama_vocab_sep(vocab))
    end = (eos if eos >= 0 else sep,) if llama_cpp.llama_vocab_get_add_eos(vocab) else ()
    middle = (sep,) if llama_cpp.llama_vocab_get_add_sep(vocab) else ()
    return Pair(
        start=(model.bos,) if llama_cpp.llama_vocab_get_add_bos(vocab) else (),
        middle=(*end, *middle),
        end=end or middle,  # WordPiece ends a text with the separator
        template=model.metadata("tokenizer.chat_template.rerank"),
    )
