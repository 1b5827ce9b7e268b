"""The continuous-batching engine: one thread that owns everything mutable."""
