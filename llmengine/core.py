"""What crosses the engine's border: plain data, frozen, free of pointers and locks."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Literal, Protocol

from msgspec import Struct

from llmengine.errors import ErrorInfo
from llmengine.inventory import CacheStats, EntryDetail, EntryInfo
from llmengine.sampling import SamplingParams
from llmengine.usage import DeviceUsage, ProcessUsage

FinishReason = Literal["stop", "length", "cancelled", "error"]


class Media(Struct, frozen=True):
    """An image or a recording, as the file that it is."""

    kind: Literal["image", "audio"]
    data: bytes

    @property
    def digest(self) -> bytes:
        return hashlib.blake2b(self.data, digest_size=16, person=self.kind.encode()).digest()


class Request(Struct, frozen=True, kw_only=True):
    """One completion to compute."""

    id: str
    prompt: tuple[int, ...]  # token ids, special tokens included
    media: tuple[Media, ...] = ()  # whose `Host.media_tokens` are in the prompt, in this order
    params: SamplingParams
    deadline: float | None = None  # seconds of time.monotonic()
    special: bool = False  # whether control tokens appear in the text
    tenant: str = ""  # those with different ones share the engine evenly
    priority: int = 0  # lower is more urgent
    progress: bool = False  # whether it is told how far the prompt is
    cache_salt: str = ""  # prefixes are shared only between requests with the same one
    warm: str = ""  # if set: generate nothing, keep the prompt's state pinned under this label
    prediction: tuple[int, ...] = ()  # what the completion is likely to have in it, for its speed
    boundaries: tuple[int, ...] = ()  # prompt lengths at which a state is worth keeping, ascending
    # Tokens of the completion that an engine reported before it was lost: this one goes on
    # behind them. It needs the seed of then.
    completion: tuple[int, ...] = ()
    # If set, the answer goes on when the context is full: the oldest tokens are dropped then, but
    # for so many at the head. Only where `ModelInfo.shifts`.
    keep: int | None = None


class TopLogprob(Struct, frozen=True):
    token: int
    piece: bytes
    logprob: float


class TokenLogprob(Struct, frozen=True):
    """A chosen token with the model's log-probability of it, before any sampler."""

    token: int
    piece: bytes
    logprob: float
    top: tuple[TopLogprob, ...] = ()


class Usage(Struct, frozen=True):
    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int = 0  # prompt tokens whose KV was reused instead of computed
    dropped_tokens: int = 0  # that the model no longer saw, or never: see `Request.keep`
    dropped_messages: int = 0  # left out by who made the prompt
    accepted_prediction_tokens: int = 0  # tokens of `Request.prediction` that came
    rejected_prediction_tokens: int = 0  # those that did not


class Timings(Struct, frozen=True):
    """Seconds a finished request spent in each phase."""

    queued: float
    prefill: float
    decode: float


class Progress(Struct, frozen=True):
    """How far the prompt of a request is."""

    position: int  # in the queue; 0 when it is computed
    total: int  # tokens
    cached: int
    processed: int  # the cached ones included
    seconds: float  # since it was submitted


class Output(Struct, frozen=True, omit_defaults=True):
    """What one step added to a request; the last one has a finish_reason."""

    request_id: str
    text: str = ""
    token_ids: tuple[int, ...] = ()  # computed since the previous output
    logprobs: tuple[TokenLogprob, ...] = ()
    finish_reason: FinishReason | None = None
    stop: str | None = None  # the stop string that ended it, if one did
    usage: Usage | None = None  # on the last output
    timings: Timings | None = None  # on the last output
    error: ErrorInfo | None = None  # when finish_reason is "error"
    progress: Progress | None = None  # then there is nothing else

    @property
    def tokens(self) -> int:
        return len(self.token_ids)


# Called on the engine's thread, at most once per step, with the outputs of all requests that
# were submitted with this same object. It must return at once and must not raise.
Sink = Callable[[Sequence[Output]], None]


class Infill(Struct, frozen=True):
    """The tokens with which a vocabulary marks a gap to be filled (fill in the middle)."""

    prefix: int
    suffix: int
    middle: int


class Pair(Struct, frozen=True):
    """The tokens around a query and a document that are to be compared."""

    start: tuple[int, ...]
    middle: tuple[int, ...]
    end: tuple[int, ...]
    template: str | None = None  # text with {query} and {document}, in place of the tokens


class ModelInfo(Struct, frozen=True, kw_only=True):
    """What a client may know of the loaded model."""

    name: str
    path: str
    description: str  # architecture, size and quantization, as llama.cpp words it
    created: int  # seconds since the epoch: the file's modification time
    size_bytes: int
    parameters: int
    vocabulary: int
    longest_piece: int  # bytes of the longest token
    context_length: int  # tokens the model was trained for
    max_sequence_length: int  # tokens of prompt and completion together that a request may have
    context_size: int  # KV cells that all sequences share
    chat_template: str | None
    bos: str
    eos: str
    sampling: dict[str, float] = {}  # SamplingParams that the file advises, by name
    generates: bool = True  # whether it can write text
    embedding_size: int  # values of an embedding
    ranks: bool = False  # whether `embed` gives scores instead of embeddings
    pair: Pair | None = None  # of a ranking model
    draft_model: str = ""  # the name of the one that guesses what it says next
    infill: Infill | None  # None where the vocabulary cannot mark a gap
    device: str
    threads: int
    shifts: bool = False  # whether the oldest tokens can be dropped while it writes
    media: tuple[str, ...] = ()  # kinds of `Media` that it takes
    needs_checkpoints: bool = False  # whether prefixes are reused at `Request.boundaries` only


class Stats(Struct, frozen=True, kw_only=True):
    """Counters since the start, and gauges of now."""

    requests: int = 0
    finished: dict[str, int] = {}  # requests by finish reason
    running: int = 0
    waiting: int = 0
    steps: int = 0
    prompt_tokens: int = 0
    prefilled_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    drafted_tokens: int = 0  # computed on a guess
    accepted_tokens: int = 0  # of those, the right ones
    preemptions: int = 0
    evictions: int = 0
    cells: int = 0
    cells_used: int = 0
    slots: int = 0
    slots_idle: int = 0
    prefill_seconds: float = 0.0
    decode_seconds: float = 0.0
    last_step_seconds: float = 0.0
    threads: int = 0  # that compute now
    load_seconds: float = 0.0  # what loading the model took
    process: ProcessUsage | None = None  # the engine's, as of a moment ago
    devices: tuple[DeviceUsage, ...] = ()  # GPUs in use
    memory_headroom_bytes: int = 0  # bytes up to the ceiling, as of a moment ago
    memory_drops: int = 0  # times that caches were dropped to stay under it

    @property
    def cache_hit_rate(self) -> float:
        """The share of prompt tokens that was not computed again."""
        return self.cached_tokens / self.prompt_tokens if self.prompt_tokens else 0.0


class HostState(Struct, frozen=True, kw_only=True):
    """Whether an engine can be reached, and what is going on if it cannot."""

    phase: Literal["ready", "degraded", "failed"] = "ready"
    reason: str = ""  # in words, where it is not ready
    pid: int = 0  # of the process that it is in
    restarts: int = 0  # engines that were lost and started anew
    stalled: float = 0.0  # seconds that the engine has not got on with the work it has


class CacheControl(Protocol):
    """The prompt cache, seen and steered. An id may be given by its beginning.

    All methods may be called from any thread. Raises NotFound where no entry has the id, and
    InvalidRequest where several have its beginning.
    """

    def stats(self) -> CacheStats: ...

    def list(self) -> Sequence[EntryInfo]:
        """All entries in memory and on disk, the latest used first."""
        ...

    def show(self, id: str) -> EntryDetail: ...

    def pin(self, id: str, pinned: bool = True) -> str:
        """Keep an entry from leaving, or let it go again; its whole id."""
        ...

    def remove(self, id: str) -> str:
        """Remove an entry from all tiers; its whole id."""
        ...

    def clear(self) -> int:
        """Forget every prompt, the pinned ones too; how many entries that were."""
        ...

    def verify(self) -> Sequence[str]:
        """Read all that is on disk and drop what is damaged; the ids of that."""
        ...


class Host(Protocol):
    """Where an engine runs: in this process, in a child process, in an actor elsewhere.

    All methods may be called from any thread. Errors are those of `llmengine.errors`.
    """

    def submit(self, request: Request, sink: Sink) -> None:
        """Queue a request.

        Raises ContextLengthExceeded and InvalidRequest before anything is computed,
        EngineOverloaded when the queue is full, ModelUnavailable when closing.
        """
        ...

    def embed(self, inputs: Sequence[Sequence[int]]) -> Future[list[bytes]]:
        """Compute an embedding of each input of token ids, special tokens included.

        Each comes as float32 values, little-endian, of length 1 and `ModelInfo.embedding_size`
        many; from a ranking model, its scores. Cancelling the future stops it at the next batch.
        Raises, and fails with, what `submit` does.
        """
        ...

    def cancel(self, request_id: str) -> None:
        """End a request within one step; its last output says `cancelled`. Unknown ids pass."""
        ...

    def tokenize(self, text: str, *, special: bool = False, bos: bool = False) -> list[int]:
        """Token ids of `text`; with `special`, names of control tokens become those tokens."""
        ...

    def detokenize(self, tokens: Sequence[int]) -> str: ...

    def piece(self, token: int) -> bytes:
        """The bytes of one token, control tokens by their names."""
        ...

    def media_tokens(self, media: Media) -> tuple[int, ...]:
        """What stands for an image or a recording in a prompt, negative ids among it.

        Raises InvalidRequest for what cannot be decoded, or has no place in this model.
        """
        ...

    def info(self) -> ModelInfo: ...

    def stats(self) -> Stats: ...

    def state(self) -> HostState: ...

    def cache(self) -> CacheControl | None:
        """The prompt cache; None where it is turned off."""
        ...

    def drain(self, timeout: float) -> bool:
        """Refuse new requests and wait for the running ones; False if some were still running."""
        ...

    def close(self) -> None:
        """Cancel what runs and free everything. May be called again."""
        ...
