"""What a step costs at least: bytes that are read and numbers that are multiplied."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import llama_cpp
from msgspec import Struct

from llmengine.llama.model import Model
from llmengine.llama.tensors import EMBEDDINGS, OUTPUT, Tensor, read

_EXPERTS = "_exps."  # in the names of matrices of which a token uses few


class Work(Struct, frozen=True, kw_only=True):
    """Of the weights, in bytes and in multiplications with an addition."""

    kind: str  # of most weights, as ggml names it
    bytes: int  # read in each step, whatever it computes
    expert_bytes: int  # of all experts
    products: int  # per token
    expert_products: int  # per token, if it used all experts
    output_products: int  # per token whose logits are wanted
    attention: int  # products per token and token before it
    experts: int = 0
    experts_used: int = 0

    def read_by(self, rows: int) -> float:
        """Bytes of weights that a step of so many tokens reads, experts being chosen at random."""
        if not self.experts:
            return self.bytes
        missed = (1 - self.experts_used / self.experts) ** rows
        return self.bytes + self.expert_bytes * (1 - missed)

    def operations(self, tokens: int, outputs: int, depth: float) -> float:
        """Additions and multiplications for tokens that have `depth` tokens before them."""
        used = self.experts_used / self.experts if self.experts else 0.0
        each = self.products + self.expert_products * used + self.attention * depth
        return 2 * (tokens * each + outputs * self.output_products)


def work_of(model: Model) -> Work:
    layers, heads = (
        llama_cpp.llama_model_n_layer(model.handle),
        max(1, llama_cpp.llama_model_n_head(model.handle)),
    )
    width = llama_cpp.llama_model_n_embd(model.handle) // heads
    key = int(model.of_architecture("attention.key_length") or width)
    value = int(model.of_architecture("attention.value_length") or width)
    experts = int(model.of_architecture("expert_count") or 0)
    used = int(model.of_architecture("expert_used_count") or 0)
    return counted(read(model.path), layers * heads * (key + value), experts, used)


def counted(tensors: Sequence[Tensor], attention: int, experts: int = 0, used: int = 0) -> Work:
    names = {each.name for each in tensors}
    # Of an embedding of its own a step reads no more than the rows of its tokens.
    output = OUTPUT if OUTPUT in names else EMBEDDINGS
    kinds: Counter[str] = Counter()
    total, products = Counter[str](), Counter[str]()
    for each in tensors:
        if each.name == EMBEDDINGS and output != EMBEDDINGS:
            continue
        part = "output" if each.name == output else "expert" if _EXPERTS in each.name else "layer"
        kinds[each.kind] += each.elements
        total[part] += each.bytes
        products[part] += each.elements
    return Work(
        kind=kinds.most_common(1)[0][0],
        bytes=total["layer"] + total["output"],
        expert_bytes=total["expert"],
        products=products["layer"],
        expert_products=products["expert"],
        output_products=products["output"],
        attention=attention,
        experts=experts,
        experts_used=used,
    )
