"""A BERT as a GGUF file, and the same network in numpy as a reference."""

from __future__ import annotations

import json
import math
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float32]

# A layer's parameters by Hugging Face's names and by those of GGUF.
_LAYER = {
    "attention.self.query": "attn_q",
    "attention.self.key": "attn_k",
    "attention.self.value": "attn_v",
    "attention.output.dense": "attn_output",
    "attention.output.LayerNorm": "attn_output_norm",
    "intermediate.dense": "ffn_up",
    "output.dense": "ffn_down",
    "output.LayerNorm": "layer_output_norm",
}
_EMBEDDINGS = {
    "embeddings.word_embeddings": "token_embd",
    "embeddings.position_embeddings": "position_embd",
    "embeddings.token_type_embeddings": "token_types",
    "embeddings.LayerNorm": "token_embd_norm",
}


@dataclass
class Bert:
    """Weights by Hugging Face's names, float32."""

    weights: dict[str, Array]
    vocabulary: list[str]
    layers: int
    heads: int
    epsilon: float

    @staticmethod
    def load(folder: Path) -> Bert:
        """From `config.json`, `model.safetensors` and `vocab.txt`."""
        config = json.loads((folder / "config.json").read_text())
        return Bert(
            _safetensors(folder / "model.safetensors"),
            (folder / "vocab.txt").read_text(encoding="utf-8").splitlines(),
            config["num_hidden_layers"],
            config["num_attention_heads"],
            config["layer_norm_eps"],
        )

    @staticmethod
    def random(
        vocabulary: list[str], *, size: int = 32, layers: int = 2, heads: int = 4, length: int = 64
    ) -> Bert:
        source = np.random.default_rng(7)

        def draw(*shape: int) -> Array:
            return source.normal(0, 0.2, shape).astype(np.float32)

        inner = 2 * size
        shapes = {
            "intermediate.dense": (inner, size),
            "output.dense": (size, inner),
        }
        weights = {
            "embeddings.word_embeddings.weight": draw(len(vocabulary), size),
            "embeddings.position_embeddings.weight": draw(length, size),
            "embeddings.token_type_embeddings.weight": draw(2, size),
        }
        names = [f"encoder.layer.{layer}.{name}" for layer in range(layers) for name in _LAYER]
        for name in ["embeddings.LayerNorm", *names]:
            rows, columns = shapes.get(".".join(name.split(".")[3:]), (size, size))
            weights[f"{name}.bias"] = draw(rows)
            norm = name.endswith("LayerNorm")
            weights[f"{name}.weight"] = 1 + draw(rows) if norm else draw(rows, columns)
        return Bert(weights, vocabulary, layers, heads, 1e-12)

    # As a file

    def write(self, path: Path, *, pooling: int = 1, rank: Array | None = None) -> Path:
        """The GGUF file; `rank` [1, size] is a classification head over the pooled vector."""
        length, size = self.weights["embeddings.position_embeddings.weight"].shape
        writer = gguf.GGUFWriter(path, "bert")
        writer.add_name("bert")
        writer.add_context_length(length)
        writer.add_embedding_length(size)
        writer.add_block_count(self.layers)
        writer.add_feed_forward_length(len(self.weights["encoder.layer.0.intermediate.dense.bias"]))
        writer.add_head_count(self.heads)
        writer.add_layer_norm_eps(self.epsilon)
        writer.add_causal_attention(False)
        writer.add_pooling_type(gguf.PoolingType(pooling))
        self._write_vocabulary(writer)
        for name, values in self.weights.items():
            if (target := _gguf_name(name)) is not None:
                writer.add_tensor(target, values)
        if rank is not None:
            writer.add_tensor("cls.output.weight", rank)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        return path

    def _write_vocabulary(self, writer: gguf.GGUFWriter) -> None:
        special = {"[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"}
        writer.add_tokenizer_model("bert")
        writer.add_tokenizer_pre("default")
        writer.add_token_type_count(2)
        # llama.cpp marks the beginning of a word and not, as BERT does, its continuation.
        writer.add_token_list(
            [
                token if token in special else token[2:] if token[:2] == "##" else f"\u2581{token}"
                for token in self.vocabulary
            ]
        )
        writer.add_token_types([3 if token in special else 1 for token in self.vocabulary])
        at = self.vocabulary.index
        writer.add_pad_token_id(at("[PAD]"))
        writer.add_unk_token_id(at("[UNK]"))
        writer.add_bos_token_id(at("[CLS]"))
        writer.add_sep_token_id(at("[SEP]"))
        writer.add_mask_token_id(at("[MASK]"))

    # As a computation

    def embed(self, tokens: list[int]) -> Array:
        """The mean of the last layer's vectors, of length 1: what sentence-transformers gives."""
        mean = self.vectors(tokens).mean(axis=0)
        found: Array = mean / np.linalg.norm(mean)
        return found

    def vectors(self, tokens: list[int]) -> Array:
        """The last layer's vectors, [tokens, size]."""
        weights = self.weights
        hidden = self._norm(
            "embeddings.LayerNorm",
            weights["embeddings.word_embeddings.weight"][tokens]
            + weights["embeddings.position_embeddings.weight"][: len(tokens)]
            + weights["embeddings.token_type_embeddings.weight"][0],
        )
        for layer in range(self.layers):
            hidden = self._layer(f"encoder.layer.{layer}.", hidden)
        return hidden

    def _layer(self, at: str, hidden: Array) -> Array:
        attended = self._linear(at + "attention.output.dense", self._attention(at, hidden))
        hidden = self._norm(at + "attention.output.LayerNorm", hidden + attended)
        inner = _gelu(self._linear(at + "intermediate.dense", hidden))
        return self._norm(
            at + "output.LayerNorm", hidden + self._linear(at + "output.dense", inner)
        )

    def _attention(self, at: str, hidden: Array) -> Array:
        count, size = hidden.shape
        query, key, value = (
            self._linear(f"{at}attention.self.{name}", hidden)
            .reshape(count, self.heads, -1)
            .transpose(1, 0, 2)
            for name in ("query", "key", "value")
        )
        scores = query @ key.transpose(0, 2, 1) / math.sqrt(size / self.heads)
        shares = np.exp(scores - scores.max(axis=-1, keepdims=True))
        shares /= shares.sum(axis=-1, keepdims=True)
        found: Array = (shares @ value).transpose(1, 0, 2).reshape(count, size)
        return found

    def _linear(self, name: str, values: Array) -> Array:
        found: Array = values @ self.weights[f"{name}.weight"].T + self.weights[f"{name}.bias"]
        return found

    def _norm(self, name: str, values: Array) -> Array:
        centred = values - values.mean(axis=-1, keepdims=True)
        spread = np.sqrt((centred**2).mean(axis=-1, keepdims=True) + self.epsilon)
        found: Array = centred / spread * self.weights[f"{name}.weight"]
        return found + self.weights[f"{name}.bias"]


_erf = np.vectorize(math.erf, otypes=[np.float32])


def _gelu(values: Array) -> Array:
    found: Array = values * 0.5 * (1 + _erf(values / math.sqrt(2)))
    return found


def _gguf_name(name: str) -> str | None:
    module, _, kind = name.rpartition(".")
    if module in _EMBEDDINGS:
        return f"{_EMBEDDINGS[module]}.{kind}"
    if not module.startswith("encoder.layer."):
        return None  # the pooler, which sentence embeddings do without
    layer, _, rest = module.removeprefix("encoder.layer.").partition(".")
    return f"blk.{layer}.{_LAYER[rest]}.{kind}"


def _safetensors(path: Path) -> dict[str, Array]:
    """Every float32 tensor of a file (https://huggingface.co/docs/safetensors#format)."""
    data = np.memmap(path, np.uint8, "r")
    (length,) = struct.unpack("<Q", bytes(data[:8]))
    header: dict[str, Any] = json.loads(bytes(data[8 : 8 + length]))
    found = {}
    for name, tensor in header.items():
        if name != "__metadata__" and tensor["dtype"] == "F32":
            start, end = (8 + length + offset for offset in tensor["data_offsets"])
            found[name] = data[start:end].view(np.float32).reshape(tensor["shape"])
    return found
