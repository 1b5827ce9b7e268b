"""llmengine: run, chat with and serve GGUF models, many requests at once."""

__version__ = "0.1.0"
