"""The engine behind OpenAI's HTTP API. Its JSON is known here and nowhere else."""
