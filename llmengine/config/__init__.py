"""Every setting of llmengine, declared once.

The TOML key, the environment variable, the flag, the help text, the allowed range and
`config.toml` all follow from the declarations in this package; `llmengine.settings` reads them.
"""

from __future__ import annotations

from llmengine.config.cache import CacheConfig
from llmengine.config.model import ModelConfig, Overflow
from llmengine.config.observation import LoggingConfig, MetricsConfig, TracingConfig
from llmengine.config.option import Section
from llmengine.config.performance import PerformanceConfig
from llmengine.config.server import ServerConfig
from llmengine.config.worker import WorkerConfig
from llmengine.sampling import SamplingParams

__all__ = [
    "CacheConfig",
    "Config",
    "LoggingConfig",
    "MetricsConfig",
    "ModelConfig",
    "Overflow",
    "PerformanceConfig",
    "ServerConfig",
    "TracingConfig",
    "WorkerConfig",
]


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
