"""What a model would take of memory, found out without taking it."""

from __future__ import annotations

import functools
import re

import llama_cpp
from msgspec import Struct

from llmengine.config import Config
from llmengine.llama import library
from llmengine.llama.context import Context
from llmengine.llama.model import Model
from llmengine.llama.tensors import EMBEDDINGS, OUTPUT, read

MEBIBYTE = 1 << 20

# llama.cpp tells what it would have allocated in its log alone.
_STATE = re.compile(r": size = +([\d.]+) MiB \(")  # of a KV cache, or of recurrent states
_BUFFER = re.compile(r": +(\S+) +(?:compute|output) buffer size = +([\d.]+) MiB")


class Footprint(Struct, frozen=True):
    """Bytes, where all is in one memory."""

    weights: int
    state: int  # the KV cache, recurrent states
    compute: int  # buffers of host memory, for what is computed and its results
    device_compute: int = 0  # those of GPUs
    input: int = 0  # of the weights: the embeddings of tokens, which no GPU has
    share: float = 0.0  # of the other weights and the state that lies on GPUs

    @property
    def host(self) -> int:
        return self.input + int(self._movable * (1 - self.share)) + self.compute

    @property
    def device(self) -> int:
        return int(self._movable * self.share) + self.device_compute

    @property
    def _movable(self) -> int:
        return self.weights - self.input + self.state

    def __add__(self, other: Footprint) -> Footprint:
        """Both together."""
        one, two = self._movable, other._movable
        return Footprint(
            self.weights + other.weights,
            self.state + other.state,
            self.compute + other.compute,
            self.device_compute + other.device_compute,
            self.input + other.input,
            (one * self.share + two * other.share) / max(1, one + two),
        )


class DryModel(Model):
    """A model without its weights: llama.cpp plans everything and allocates nothing."""

    def _params(self, config: Config) -> llama_cpp.llama_model_params:
        params = super()._params(config)
        params.no_alloc = True
        params.load_mode = 0
        return params

    def footprint(self, config: Config, *, cells: int, sequences: int, threads: int) -> Footprint:
        """That with a context of `cells` tokens for so many sequences.

        Raises OutOfMemory where llama.cpp cannot even plan it.
        """
        with library.listening() as lines:
            context = Context(self, config, cells=cells, sequences=sequences, threads=threads)
            context.close()
        text = "\n".join(lines)
        devices = {each.name for each in self.devices}
        buffers = [(name, _bytes(size)) for name, size in _BUFFER.findall(text)]
        share = self._share(config)
        embeddings, tied = self._embeddings if share else (0, False)
        return Footprint(
            weights=self.size_bytes + (embeddings if tied else 0),
            state=sum(_bytes(size) for size in _STATE.findall(text)),
            compute=sum(size for name, size in buffers if name not in devices),
            device_compute=sum(size for name, size in buffers if name in devices),
            input=embeddings,
            share=share,
        )

    @functools.cached_property
    def _embeddings(self) -> tuple[int, bool]:
        """Bytes of those of tokens, and whether the output has a copy of them on the GPU."""
        sizes = {each.name: each.bytes for each in read(self.path)}
        return sizes.get(EMBEDDINGS, 0), OUTPUT not in sizes

    def _share(self, config: Config) -> float:
        """How much of the layers is on GPUs."""
        if not self.devices:
            return 0.0
        wanted = config.model.gpu_layers
        return min(wanted, self.layers) / self.layers if wanted >= 0 else 1.0

    @property
    def layers(self) -> int:
        """Those that `model.gpu_layers` counts: the output is one too."""
        return int(llama_cpp.llama_model_n_layer(self.handle)) + 1


def _bytes(mebibytes: str) -> int:
    return int(float(mebibytes) * MEBIBYTE)
