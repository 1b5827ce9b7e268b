"""Measurements: a model's speed on this machine, and a server's under load."""
