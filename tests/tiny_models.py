"""Random-weight models of unusual memories, of some hundred kilobytes, made by the tests."""

from __future__ import annotations

from pathlib import Path

import gguf
import numpy as np

WIDTH, FFN, HEADS, KV_HEADS, LAYERS, VOCABULARY = 64, 96, 4, 2, 4, 320
HEAD = WIDTH // HEADS
WINDOW = 48  # tokens that the sliding-window layers see
SPECIALS = ["<|im_start|>", "<|im_end|>", "<|end|>"]

# As ChatML, but what an assistant thought is not told again.
TEMPLATE = """\
{%- for message in messages -%}
{%- set text = message.content.split('</think>')[-1] -%}
{{- '<|im_start|>' + message.role + '\\n' + text + '<|im_end|>\\n' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\\n<think>\\n' -}}{%- endif -%}
"""


class TinyModel:
    """A GGUF file in the making."""

    def __init__(self, path: Path, architecture: str) -> None:
        self.path = path
        self.writer = gguf.GGUFWriter(path, architecture)
        self._random = np.random.default_rng(0)
        self.writer.add_context_length(4096)
        self.writer.add_embedding_length(WIDTH)
        self.writer.add_block_count(LAYERS)
        self.writer.add_feed_forward_length(FFN)
        self.writer.add_head_count(HEADS)
        self.writer.add_rope_freq_base(10_000.0)
        self.writer.add_chat_template(TEMPLATE)
        self._add_vocabulary()
        self.matrix("token_embd", VOCABULARY, WIDTH)

    def _add_vocabulary(self) -> None:
        """The 256 bytes as GPT-2 writes them, fillers, and the names of control tokens."""
        printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
        moved = iter(range(256, 512))
        letters = [chr(byte) if byte in printable else chr(next(moved)) for byte in range(256)]
        fillers = [f"tok{number}" for number in range(257, VOCABULARY - len(SPECIALS))]
        tokens = [*letters, "to", *fillers, *SPECIALS]
        normal = VOCABULARY - len(SPECIALS)
        types = [gguf.TokenType.NORMAL] * normal + [gguf.TokenType.CONTROL] * len(SPECIALS)
        self.writer.add_tokenizer_model("gpt2")
        self.writer.add_tokenizer_pre("qwen2")
        self.writer.add_token_list(tokens)
        self.writer.add_token_types(types)
        self.writer.add_token_merges(["t o"])  # llama.cpp wants one at least
        self.writer.add_eos_token_id(VOCABULARY - 1)
        self.writer.add_add_bos_token(False)

    def matrix(self, name: str, rows: int, columns: int, scale: float = 1.0) -> None:
        weights = self._random.standard_normal((rows, columns), np.float32)
        self.writer.add_tensor(f"{name}.weight", weights * np.float32(scale * columns**-0.5))

    def ones(self, name: str, size: int) -> None:
        self.writer.add_tensor(f"{name}.weight", np.ones(size, np.float32))

    def ffn(self, block: str) -> None:
        self.matrix(f"{block}.ffn_gate", FFN, WIDTH)
        self.matrix(f"{block}.ffn_up", FFN, WIDTH)
        self.matrix(f"{block}.ffn_down", WIDTH, FFN)

    def attention(self, block: str) -> None:
        self.matrix(f"{block}.attn_q", WIDTH, WIDTH, 2.0)
        self.matrix(f"{block}.attn_k", KV_HEADS * HEAD, WIDTH, 2.0)
        self.matrix(f"{block}.attn_v", KV_HEADS * HEAD, WIDTH)
        self.matrix(f"{block}.attn_output", WIDTH, WIDTH)

    def write(self) -> Path:
        self.writer.write_header_to_file()
        self.writer.write_kv_data_to_file()
        self.writer.write_tensors_to_file()
        self.writer.close()
        return self.path


def sliding_window(path: Path) -> Path:
    """Cohere2: three layers of four look back on `WINDOW` tokens only."""
    model = TinyModel(path, "cohere2")
    model.writer.add_head_count_kv(KV_HEADS)
    model.writer.add_layer_norm_eps(1e-5)
    model.writer.add_sliding_window(WINDOW)
    model.writer.add_logit_scale(1.0)
    model.writer.add_rope_dimension_count(HEAD)
    model.ones("output_norm", WIDTH)
    for layer in range(LAYERS):
        model.ones(f"blk.{layer}.attn_norm", WIDTH)
        model.attention(f"blk.{layer}")
        model.ffn(f"blk.{layer}")
    return model.write()


def hybrid(path: Path) -> Path:
    """LFM2: every second layer is a convolution with a state, the others are attention."""
    model = TinyModel(path, "lfm2")
    convolutions = range(0, LAYERS, 2)
    model.writer.add_head_count_kv(
        [0 if each in convolutions else KV_HEADS for each in range(LAYERS)]
    )
    model.writer.add_layer_norm_rms_eps(1e-5)
    model.writer.add_shortconv_l_cache(3)
    model.ones("token_embd_norm", WIDTH)
    for layer in range(LAYERS):
        block = f"blk.{layer}"
        model.ones(f"{block}.attn_norm", WIDTH)
        model.ones(f"{block}.ffn_norm", WIDTH)
        model.ffn(block)
        if layer in convolutions:
            model.matrix(f"{block}.shortconv.conv", WIDTH, 3)
            model.matrix(f"{block}.shortconv.in_proj", 3 * WIDTH, WIDTH)
            model.matrix(f"{block}.shortconv.out_proj", WIDTH, WIDTH)
        else:
            model.ones(f"{block}.attn_q_norm", HEAD)
            model.ones(f"{block}.attn_k_norm", HEAD)
            model.attention(block)
    return model.write()


def turning(path: Path) -> Path:
    """Qwen2-VL: positions have several dimensions, of which an image needs two."""
    model = TinyModel(path, "qwen2vl")
    model.writer.add_head_count_kv(KV_HEADS)
    model.writer.add_layer_norm_rms_eps(1e-5)
    model.writer.add_rope_dimension_count(HEAD)
    model.writer.add_rope_dimension_sections([2, 3, 3, 0])
    model.ones("output_norm", WIDTH)
    for layer in range(LAYERS):
        block = f"blk.{layer}"
        model.ones(f"{block}.attn_norm", WIDTH)
        model.ones(f"{block}.ffn_norm", WIDTH)
        model.attention(block)
        for name, size in (("q", WIDTH), ("k", KV_HEADS * HEAD), ("v", KV_HEADS * HEAD)):
            model.writer.add_tensor(f"{block}.attn_{name}.bias", np.zeros(size, np.float32))
        model.ffn(block)
    return model.write()
