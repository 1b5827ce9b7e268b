"""Images and recordings become embeddings on a thread of their own: streams go on meanwhile."""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from queue import SimpleQueue
from typing import Protocol
from weakref import ReferenceType, WeakValueDictionary, ref

from llmengine.core import Media
from llmengine.engine.embedder import give_way
from llmengine.engine.pulse import Pulse
from llmengine.errors import EngineError, Internal, ModelUnavailable
from llmengine.llama.vectors import Vectors

log = logging.getLogger("llmengine.engine")


class Encodes(Protocol):
    """What the encoder needs of `llmengine.llama.projector.Projector`."""

    def encode(self, media: Media) -> Iterator[Vectors]: ...


class Encoding:
    """The embeddings of what has a digest, once they are there; dropped when nobody holds it."""

    def __init__(self, media: Media, digest: bytes) -> None:
        self.media = media
        self.digest = digest
        self.parts: list[Vectors] = []
        self.error: EngineError | None = None
        self.done = False

    @property
    def size(self) -> int:
        """Bytes."""
        return sum(each.size for each in self.parts) + len(self.media.data)


class Encoder:
    """Encodes one after the other, and keeps what was encoded last for who comes with the same."""

    def __init__(
        self, projector: Encodes, wake: Callable[[], None], budget: int, pulse: Pulse
    ) -> None:
        """`wake` is called when one is done; `budget` is what is kept, in bytes."""
        self._projector = projector
        self._wake = wake
        self._budget = budget
        self._pulse = pulse
        self._inbox: SimpleQueue[ReferenceType[Encoding] | None] = SimpleQueue()
        self._lock = threading.Lock()
        self._alive: WeakValueDictionary[bytes, Encoding] = WeakValueDictionary()
        self._kept: OrderedDict[bytes, Encoding] = OrderedDict()  # the latest used last
        self._thread: threading.Thread | None = None
        self._closing = False

    @property
    def stalled(self) -> float:
        """How long it takes over one part of a file, by the clock of the pulse; from any thread."""
        return self._pulse.age

    def start(self, media: Media, digest: bytes) -> Encoding:
        """The encoding of `media`, kept, under way or begun now."""
        with self._lock:
            if digest in self._kept:
                self._kept.move_to_end(digest)
            found = self._alive.get(digest)
            if found is None or found.error:
                found = self._alive[digest] = Encoding(media, digest)
                self._inbox.put(ref(found))
                if self._thread is None:
                    self._thread = threading.Thread(target=self._run, name="encoder", daemon=True)
                    self._thread.start()
            return found

    def close(self) -> None:
        """Fail what is left; waits for the one under way."""
        self._closing = True
        if self._thread:
            self._inbox.put(None)
            self._thread.join()

    def _run(self) -> None:
        give_way()
        while (item := self._receive()) is not None:
            self._encode(item())

    def _receive(self) -> ReferenceType[Encoding] | None:
        with self._pulse.resting():
            return self._inbox.get()

    def _encode(self, encoding: Encoding | None) -> None:
        if encoding is None:  # nobody waits for it any more
            return
        try:
            if self._closing:
                raise ModelUnavailable("the server is shutting down")
            for part in self._projector.encode(encoding.media):
                encoding.parts.append(part)
                self._pulse.beat()
        except EngineError as error:
            encoding.error = error
        except Exception:
            log.exception("an %s could not be encoded", encoding.media.kind)
            encoding.error = Internal(f"the {encoding.media.kind} could not be encoded")
        encoding.done = True
        if not encoding.error:
            self._keep(encoding)
        self._wake()

    def _keep(self, encoding: Encoding) -> None:
        with self._lock:
            self._kept[encoding.digest] = encoding
            while sum(each.size for each in self._kept.values()) > self._budget:
                self._kept.popitem(last=False)
