"""The settings of one run, and where each of them came from."""

from llmengine.settings.merge import Settings, load

__all__ = ["Settings", "load"]
