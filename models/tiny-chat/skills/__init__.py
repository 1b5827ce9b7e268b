"""One skill a file; each sampler is `(rng, fillers) -> Conversation`."""
