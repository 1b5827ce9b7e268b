"""The prompt cache: what is kept of finished prompts, and for how long."""
