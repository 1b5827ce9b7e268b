"""Images and recordings on their way to a model: decoding, and their place in a prompt."""
