"""Every setting of llmengine, declared once.

The TOML key, the environment variable, the flag, the help text, the allowed range and
`config.toml` all follow from the declarations below; `llmengine.settings` reads them.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

from llmengine.sampling import SamplingParams

Count = Annotated[int, Meta(ge=1, le=2**31 - 1)]
# What becomes of a request that outgrows the context.
Overflow = Literal["error", "truncate_left", "shift"]


def option(
    description: str,
    *,
    env: str = "",
    flag: str = "",
    secret: bool = False,
    live: bool = False,
    **bounds: Any,
) -> Meta:
    """What is said of an option beside its type and default.

    `env` is a second, shorter name of its environment variable, `flag` its name on the command
    line where that is not the key itself; what is `secret` is never shown; what is `live` may
    change while a server runs.
    """
    extra = {"env": env, "flag": flag, "secret": secret, "live": live}
    return Meta(description=description, extra=extra, **bounds)


class Section(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    pass


class ServerConfig(Section, frozen=True):
    host: Annotated[str, option("Address to listen on.", env="LLM_ENGINE_HOST")] = "127.0.0.1"
    port: Annotated[
        int, option("Port to listen on; 0 takes a free one.", env="LLM_ENGINE_PORT", ge=0, le=65535)
    ] = 8000
    api_key: Annotated[
        str,
        option(
            "Key that clients must send; empty: none.",
            env="LLM_ENGINE_API_KEY",
            secret=True,
            live=True,
        ),
    ] = ""
    admin_key: Annotated[
        str,
        option(
            "Key for /v1/cache; empty: the api_key serves for it too.",
            env="LLM_ENGINE_ADMIN_KEY",
            secret=True,
            live=True,
        ),
    ] = ""
    api_keys: Annotated[
        tuple[str, ...],
        option(
            "More keys for clients, each NAME:KEY; the name is told in logs.",
            env="LLM_ENGINE_API_KEYS",
            secret=True,
            live=True,
        ),
    ] = ()
    keys_file: Annotated[
        str,
        option("File of the keys that `llmengine keys` makes; empty: in the user's config folder."),
    ] = ""
    insecure: Annotated[
        bool, option("Listen beyond this machine without a key: whoever reaches it may use it.")
    ] = False
    allowed_hosts: Annotated[
        tuple[str, ...],
        option("Names, beside addresses, that clients may call the server by."),
    ] = ()
    tls_cert: Annotated[
        str, option("PEM file of the certificate, and those that vouch for it; empty: no TLS.")
    ] = ""
    tls_key: Annotated[
        str, option("PEM file of its private key; empty: it is in the file of tls_cert.")
    ] = ""
    max_concurrent_requests: Annotated[
        int, option("Requests that run at once.", flag="slots", ge=1, le=128)
    ] = 16
    max_queue: Annotated[
        int, option("Requests that may wait; more are refused with 503.", ge=0, le=1_000_000)
    ] = 256
    request_timeout_seconds: Annotated[
        float,
        option("Seconds after which a request is ended; 0: never.", ge=0, le=86_400, live=True),
    ] = 0.0
    keepalive_seconds: Annotated[
        float,
        option(
            "Seconds of silence after which a stream says that it lives; proxies often wait 30.",
            gt=0,
            le=86_400,
        ),
    ] = 15.0
    drain_seconds: Annotated[
        float,
        option(
            "Seconds that running requests get to finish at shutdown.", ge=0, le=86_400, live=True
        ),
    ] = 30.0
    max_body_mb: Annotated[int, option("Largest request body, in MiB.", ge=1, le=1024)] = 16
    media_hosts: Annotated[
        tuple[str, ...],
        option(
            "Hosts from which images and sound given by URL are fetched, like example.com, "
            "*.example.com, or * for any; none: only what comes in the request itself is taken."
        ),
    ] = ()
    media_max_mb: Annotated[
        int, option("Largest image or recording that is fetched, in MiB.", ge=1, le=1024)
    ] = 16
    media_timeout_seconds: Annotated[
        float, option("Seconds that fetching one may take.", ge=0.1, le=600)
    ] = 10.0
    enable_cors: Annotated[
        bool, option("Answer browsers of other origins (those in cors_origins).")
    ] = False
    cors_origins: Annotated[
        tuple[str, ...], option("Origins that CORS allows, each like https://app.example.com.")
    ] = ()
    strict_parameters: Annotated[
        bool, option("Refuse unknown request parameters instead of warning.", live=True)
    ] = False
    responses_path: Annotated[
        str, option("Folder of the stored /v1/responses; empty: in the user's cache folder.")
    ] = ""
    responses_max_size_mb: Annotated[
        int, option("Disk for stored /v1/responses, in MiB; 0: none are stored.", ge=0, le=2**30)
    ] = 256
    responses_ttl_seconds: Annotated[
        float, option("Seconds that a response stays stored; 0: no limit.", ge=0)
    ] = 2_592_000.0
    files_path: Annotated[
        str, option("Folder of /v1/files and /v1/batches; empty: in the user's data folder.")
    ] = ""
    files_max_size_mb: Annotated[
        int, option("Disk for files and batches, in MiB; 0: there are none.", ge=0, le=2**30)
    ] = 256
    files_ttl_seconds: Annotated[
        float, option("Seconds that files and ended batches stay; 0: no limit.", ge=0)
    ] = 2_592_000.0
    batch_concurrency: Annotated[
        int, option("Requests of batches that are answered at once.", ge=1, le=128)
    ] = 2


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


class CacheConfig(Section, frozen=True):
    enabled: Annotated[
        bool,
        option("Keep finished prompts to reuse their prefixes.", env="LLM_ENGINE_CACHE_ENABLED"),
    ] = True
    eviction_policy: Annotated[
        Literal["lru", "lfu", "fifo"], option("Which cached prompt leaves first, in every tier.")
    ] = "lfu"
    ttl_seconds: Annotated[
        float, option("Seconds that a prompt stays in slots and memory unused; 0: no limit.", ge=0)
    ] = 0.0
    max_sequences: Annotated[
        int, option("Finished prompts that stay in the KV cache itself.", ge=0, le=127)
    ] = 32
    max_size_mb: Annotated[
        int,
        option(
            "Host memory for states of prompts that left the KV cache, in MiB.",
            env="LLM_ENGINE_CACHE_SIZE_MB",
            ge=0,
            le=2**24,
        ),
    ] = 1024
    memory_max_sequences: Annotated[
        int, option("States in host memory at most.", ge=0, le=1_000_000)
    ] = 1000
    disk: Annotated[bool, option("Keep states on disk as well, for the next start.")] = True
    path: Annotated[
        str, option("Folder of the states on disk; empty: in the user's cache folder.")
    ] = ""
    disk_max_size_mb: Annotated[int, option("Disk for states, in MiB.", ge=0, le=2**30)] = 8192
    disk_max_sequences: Annotated[int, option("States on disk at most.", ge=0, le=1_000_000)] = (
        10_000
    )
    disk_ttl_seconds: Annotated[
        float, option("Seconds that a state stays on disk unused; 0: no limit.", ge=0)
    ] = 604_800.0
    share: Annotated[
        Literal["key", "all"],
        option("Who shares prefixes: requests with the same API key, or all."),
    ] = "key"
    warm: Annotated[
        tuple[str, ...],
        option("Files of text, or of chat messages (*.json), computed and pinned when serving."),
    ] = ()
    min_tokens: Annotated[
        int, option("Shortest prompt whose state is worth keeping, in tokens.", ge=1, le=2**24)
    ] = 64
    checkpoint_tokens: Annotated[
        int,
        option(
            "Distance of saved states in long prompts, for models whose state cannot be cut; "
            "0: only at turns.",
            ge=0,
            le=2**24,
        ),
    ] = 2048

    @property
    def stores(self) -> bool:
        """Whether states of prompts are kept beside the KV cache itself."""
        return self.enabled and bool(self.max_size_mb or (self.disk and self.disk_max_size_mb))


class PerformanceConfig(Section, frozen=True):
    batch_size: Annotated[
        int,
        option("Sequences decoded together; 0: as many as max_concurrent_requests.", ge=0, le=128),
    ] = 0
    prefill_batch: Annotated[
        int, option("Prompt tokens computed in one step while nothing else runs.", ge=32, le=8192)
    ] = 512
    max_itl_ms: Annotated[
        float,
        option(
            "Time that a step may take while streams run, in ms; bounds the prefill chunks.",
            ge=1,
            le=60_000,
        ),
    ] = 400.0
    threads: Annotated[
        int,
        option(
            "Threads that compute; 0: the cores this process may use, fewer while others use them.",
            ge=0,
            le=1024,
        ),
    ] = 0
    speculation: Annotated[
        Literal["auto", "off"],
        option("Guess tokens from repeated text and compute them together; auto: where it pays."),
    ] = "auto"
    draft_tokens: Annotated[
        int, option("Tokens of a request that are guessed in one step at most.", ge=1, le=63)
    ] = 15
    memory_pool_size_mb: Annotated[
        int, option("Host memory for the states of preempted requests, in MiB.", ge=0, le=2**20)
    ] = 256
    media_cache_mb: Annotated[
        int,
        option("Host memory for what images and sound were encoded to, in MiB.", ge=0, le=2**20),
    ] = 256
    memory_check: Annotated[bool, option("Refuse to load what does not fit into memory.")] = True
    memory_ceiling_mb: Annotated[
        int,
        option(
            "Memory of the engine's process from which on caches are dropped, in MiB; "
            "0: a tenth of all memory, at most 1 GiB, is left free.",
            ge=0,
            le=2**24,
        ),
    ] = 0
    use_mmap: Annotated[bool, option("Map the model file instead of reading it.")] = True
    use_mlock: Annotated[bool, option("Keep the model's pages in memory.")] = False
    deterministic: Annotated[
        bool,
        option("Equal requests give equal bits whatever else runs, at some cost in speed."),
    ] = False


class WorkerConfig(Section, frozen=True):
    in_process: Annotated[
        bool,
        option("Serve with the engine in the server's own process: a crash ends both."),
    ] = False
    watchdog_seconds: Annotated[
        float,
        option(
            "Seconds that a step may take; an engine that hangs is started anew. 0: any time.",
            ge=0,
            le=86_400,
        ),
    ] = 120.0
    max_resumes: Annotated[
        int,
        option(
            "Deaths of the engine that a request survives without a new token in between.",
            ge=0,
            le=1000,
        ),
    ] = 3


class LoggingConfig(Section, frozen=True):
    level: Annotated[
        Literal["debug", "info", "warning", "error"],
        option("What to log.", env="LLM_ENGINE_LOG_LEVEL", flag="log-level", live=True),
    ] = "info"
    format: Annotated[
        Literal["pretty", "json"], option("How a log line looks.", flag="log-format", live=True)
    ] = "pretty"
    log_requests: Annotated[
        bool, option("One line per request, without its prompt.", live=True)
    ] = True
    log_prompts: Annotated[bool, option("Log prompts, as the model reads them.", live=True)] = False
    slow_request_seconds: Annotated[
        float,
        option(
            "From how long a request is logged as slow, with its phases; 0: never.", ge=0, live=True
        ),
    ] = 0.0


class MetricsConfig(Section, frozen=True):
    enabled: Annotated[bool, option("Serve Prometheus metrics.")] = True
    endpoint: Annotated[str, option("Path of the metrics.", pattern=r"^/[\w/.-]*$")] = "/metrics"


class TracingConfig(Section, frozen=True):
    endpoint: Annotated[
        str,
        option("OTLP collector for traces, like http://127.0.0.1:4318; empty: no traces."),
    ] = ""


class Config(Section, frozen=True):
    server: ServerConfig = ServerConfig()
    model: ModelConfig = ModelConfig()
    cache: CacheConfig = CacheConfig()
    performance: PerformanceConfig = PerformanceConfig()
    sampling: SamplingParams = SamplingParams()
    worker: WorkerConfig = WorkerConfig()
    logging: LoggingConfig = LoggingConfig()
    metrics: MetricsConfig = MetricsConfig()
    tracing: TracingConfig = TracingConfig()

    @property
    def capacity(self) -> int:
        """Requests that may run and wait together."""
        return self.slots + self.server.max_queue

    @property
    def slots(self) -> int:
        """Sequences that run at once."""
        running = self.server.max_concurrent_requests
        return min(running, self.performance.batch_size or running)
