"""Which model is loaded, and how."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from llmengine.config.option import Section, option

# What becomes of a request that outgrows the context.
Overflow = Literal["error", "truncate_left", "shift"]


class ModelConfig(Section, frozen=True):
    name: Annotated[
        str, option("Name that the API shows; empty: the file's name.", flag="name")
    ] = ""
    model_path: Annotated[
        str,
        option(
            "GGUF file, or the name of one in models_dir; empty: the embedded tiny-chat.",
            env="LLM_ENGINE_MODEL_PATH",
            flag="model",
        ),
    ] = ""
    mmproj: Annotated[
        str,
        option(
            "GGUF file of the model's projector, with which it takes images or sound.",
            flag="mmproj",
        ),
    ] = ""
    draft_model: Annotated[
        str,
        option(
            "GGUF file, or the name of one in models_dir, of a small model with the same "
            "vocabulary, which guesses what the model says next; empty: none.",
            flag="draft-model",
        ),
    ] = ""
    models_dir: Annotated[str, option("Folder in which models are looked up by name.")] = "models"
    device: Annotated[
        Literal["auto", "cpu", "cuda", "metal", "rocm", "vulkan"],
        option(
            "Where to compute; auto: a GPU if this build and machine have one.",
            env="LLM_ENGINE_DEVICE",
        ),
    ] = "auto"
    gpu_layers: Annotated[
        int, option("Layers kept on the GPU; -1: all of them.", ge=-1, le=10_000)
    ] = -1
    main_gpu: Annotated[
        int, option("Index of the GPU that holds what is not split.", ge=0, le=255)
    ] = 0
    tensor_split: Annotated[
        tuple[Annotated[float, Meta(ge=0)], ...],
        option(
            "Share of the model on each GPU, like [3, 1]; empty: by free memory.", max_length=16
        ),
    ] = ()
    max_sequence_length: Annotated[
        int,
        option(
            "Tokens that prompt and completion of a request may have together; 0: as trained.",
            env="LLM_ENGINE_MAX_SEQUENCE_LENGTH",
            ge=0,
            le=2**24,
        ),
    ] = 0
    overflow: Annotated[
        Overflow,
        option(
            "What becomes of a request that outgrows max_sequence_length; truncate_left: the "
            "prompt loses its oldest turns, shift: the answer goes on without its oldest tokens."
        ),
    ] = "error"
    context_size: Annotated[
        int,
        option(
            "KV cache, in tokens, shared by all requests; 0: chosen by model and memory.",
            flag="ctx",
            ge=0,
            le=2**24,
        ),
    ] = 0
    flash_attention: Annotated[Literal["auto", "on", "off"], option("Flash attention.")] = "auto"
    kv_type: Annotated[
        Literal["f16", "q8_0", "q4_0"],
        option("Type of the KV cache; the quantized ones need flash attention."),
    ] = "f16"
    chat_template: Annotated[
        str, option("File with a Jinja chat template to use in place of the model's.")
    ] = ""
