"""Random-weight projectors of some ten kilobytes, made by the tests for models of any width."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import gguf
import numpy as np

WIDTH, HEADS, FFN, PATCH = 32, 2, 64, 4
MELS, FRAMES, STACK = 80, 3000, 50  # of a recording: 30 s are 30 tokens
GRID = 4  # patches on a side of an image of the fixed size


class TinyProjector:
    """A GGUF file in the making; `size` is the width of the model that it is for."""

    def __init__(self, path: Path, kind: str, part: str, size: int) -> None:
        self.path = path
        self.writer = gguf.GGUFWriter(path, "clip")
        self._size = size
        self._random = np.random.default_rng(0)
        self._part = part
        self.writer.add_clip_projector_type(kind)
        self.writer.add_bool(f"clip.has_{part}_encoder", True)
        for key, value in (
            ("embedding_length", WIDTH),
            ("feed_forward_length", FFN),
            ("block_count", 1),
            ("projection_dim", size),
            ("attention.head_count", HEADS),
        ):
            self.writer.add_uint32(f"clip.{part}.{key}", value)
        self.writer.add_float32(f"clip.{part}.attention.layer_norm_epsilon", 1e-5)

    def random(self, name: str, *shape: int, scale: float = 0.3) -> None:
        values = self._random.standard_normal(shape, np.float32) * np.float32(scale)
        self.writer.add_tensor(name, values)

    def ones(self, name: str, size: int) -> None:
        self.writer.add_tensor(f"{name}.weight", np.ones(size, np.float32))
        self.writer.add_tensor(f"{name}.bias", np.zeros(size, np.float32))

    def layer(self, prefix: str, biased: Sequence[str]) -> None:
        block = f"{prefix}.blk.0"
        for name in ("attn_q", "attn_k", "attn_v", "attn_out"):
            self.random(f"{block}.{name}.weight", WIDTH, WIDTH)
            if name in biased:
                self.random(f"{block}.{name}.bias", WIDTH)
        self.random(f"{block}.ffn_up.weight", FFN, WIDTH)
        self.random(f"{block}.ffn_down.weight", WIDTH, FFN)
        self.ones(f"{block}.ln1", WIDTH)
        self.ones(f"{block}.ln2", WIDTH)
        self.ones(f"{prefix}.post_ln", WIDTH)

    def pixels(self, grid: int = GRID) -> None:
        """What says how images come in."""
        self.writer.add_vision_image_size(grid * PATCH)
        self.writer.add_vision_patch_size(PATCH)
        self.writer.add_vision_image_mean([0.5] * 3)
        self.writer.add_vision_image_std([0.5] * 3)
        self.random("v.patch_embd.weight", WIDTH, 3, PATCH, PATCH)
        self.layer("v", ("attn_q", "attn_k", "attn_v", "attn_out"))

    def write(self) -> Path:
        self.writer.write_header_to_file()
        self.writer.write_kv_data_to_file()
        self.writer.write_tensors_to_file()
        self.writer.close()
        return self.path


def fixed(path: Path, size: int, merge: int = 1, grid: int = GRID) -> Path:
    """As Gemma 3's: (grid / merge)² tokens of each image, which look at each other."""
    made = TinyProjector(path, "gemma3", "vision", size)
    made.pixels(grid)
    made.writer.add_vision_projector_scale_factor(merge)
    made.random("v.position_embd.weight", grid * grid, WIDTH)
    made.random("mm.input_projection.weight", WIDTH, size, scale=1.0)
    made.writer.add_tensor("mm.soft_emb_norm.weight", np.ones(WIDTH, np.float32))
    return made.write()


def growing(path: Path, size: int) -> Path:
    """As Qwen2-VL's: a token for each 8 x 8 pixels, from left to right."""
    made = TinyProjector(path, "qwen2vl_merger", "vision", size)
    made.pixels()
    made.random("v.patch_embd.weight.1", WIDTH, 3, PATCH, PATCH)
    made.random("mm.0.weight", 4 * WIDTH, 4 * WIDTH)
    made.random("mm.0.bias", 4 * WIDTH)
    made.random("mm.2.weight", size, 4 * WIDTH)
    made.random("mm.2.bias", size)
    return made.write()


def hearing(path: Path, size: int) -> Path:
    """As Ultravox's, over an encoder as Whisper's: a token for each second of sound."""
    made = TinyProjector(path, "ultravox", "audio", size)
    made.writer.add_uint32("clip.audio.num_mel_bins", MELS)
    made.writer.add_uint32("clip.audio.projector.stack_factor", STACK)
    made.random("a.conv1d.1.weight", WIDTH, MELS, 3)
    made.random("a.conv1d.1.bias", WIDTH, 1)
    made.random("a.conv1d.2.weight", WIDTH, WIDTH, 3)
    made.random("a.conv1d.2.bias", WIDTH, 1)
    made.random("a.position_embd.weight", FRAMES // 2, WIDTH)
    made.layer("a", ("attn_q", "attn_v", "attn_out"))
    made.writer.add_tensor("mm.a.norm_pre.weight", np.ones(WIDTH * STACK, np.float32))
    made.random("mm.a.mlp.1.weight", 2 * WIDTH, WIDTH * STACK)
    made.writer.add_tensor("mm.a.norm_mid.weight", np.ones(WIDTH, np.float32))
    made.random("mm.a.mlp.2.weight", size, WIDTH)
    return made.write()
