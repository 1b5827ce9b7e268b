"""The conversation in the terminal, behind `llmengine chat`."""
