"""What Prometheus may read of a server; docs/metrics.md has every name."""

from llmengine.metrics.registry import Metrics

__all__ = ["Metrics"]
