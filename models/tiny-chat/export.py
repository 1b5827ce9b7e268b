"""Writes a checkpoint as GGUF, with its tokenizer and chat template."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import gguf
import numpy as np
import torch

from conversation import TEMPLATE_PATH
from tokenizer import CONTROL, VISIBLE

TEMPERATURE = 0.3  # advised: one unlikely token is enough to confuse so small a model


def _add_tokenizer(writer: gguf.GGUFWriter, path: Path) -> None:
    model = json.loads(path.read_text(encoding="utf-8"))["model"]
    tokens = sorted(model["vocab"], key=model["vocab"].__getitem__)
    kinds = {**dict.fromkeys(CONTROL, gguf.TokenType.CONTROL),
             **dict.fromkeys(VISIBLE, gguf.TokenType.USER_DEFINED)}
    merges = [m if isinstance(m, str) else " ".join(m) for m in model["merges"]]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("qwen2")
    writer.add_token_list(tokens)
    writer.add_token_types([kinds.get(t, gguf.TokenType.NORMAL) for t in tokens])
    writer.add_token_merges(merges)
    writer.add_eos_token_id(model["vocab"]["<|im_end|>"])
    writer.add_pad_token_id(model["vocab"]["<|endoftext|>"])
    writer.add_add_bos_token(False)
    writer.add_chat_template(TEMPLATE_PATH.read_text(encoding="utf-8"))


def _name(parameter: str) -> str:
    return parameter if parameter.endswith(".weight") else parameter + ".weight"


def export(checkpoint: Path, tokenizer: Path, target: Path, name: str) -> None:
    saved = torch.load(checkpoint, map_location="cpu", weights_only=False)
    shape = saved["shape"]
    temporary = target.with_name(target.name + ".new")
    writer = gguf.GGUFWriter(str(temporary), "qwen3")
    writer.add_name(name)
    writer.add_description("A tiny chat model, trained from scratch on generated text.")
    writer.add_float32("general.sampling.temp", TEMPERATURE)
    writer.add_context_length(shape.context)
    writer.add_embedding_length(shape.width)
    writer.add_block_count(shape.layers)
    writer.add_feed_forward_length(shape.hidden)
    writer.add_head_count(shape.heads)
    writer.add_head_count_kv(shape.kv_heads)
    writer.add_key_length(shape.head)
    writer.add_value_length(shape.head)
    writer.add_rope_freq_base(shape.rope_base)
    writer.add_layer_norm_rms_eps(shape.epsilon)
    writer.add_vocab_size(shape.vocabulary)
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_F16)
    _add_tokenizer(writer, tokenizer)
    for parameter, tensor in saved["model"].items():
        kind = np.float32 if tensor.ndim == 1 else np.float16
        writer.add_tensor(_name(parameter), tensor.float().numpy().astype(kind))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    temporary.rename(target)
    print(f"{target.name}: {target.stat().st_size:,} bytes, step {saved['step']}, "
          f"{saved['tokens']:,} tokens, {saved['seconds'] / 60:.0f} minutes")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder with the checkpoint")
    parser.add_argument("--target", type=Path, required=True)
    parser.add_argument("--name", default="tiny-chat")
    arguments = parser.parse_args()
    export(arguments.out / "checkpoint.pt", arguments.out / "tokenizer.json", arguments.target,
           arguments.name)


if __name__ == "__main__":
    main()
