"""How far the loading of a model is."""

from __future__ import annotations


class Loading:
    """Looked at from any thread while a model is loaded on another, which asks it to go on."""

    def __init__(self) -> None:
        self.fraction = 0.0  # of the weights
        self.stopped = False

    def stop(self) -> None:
        """Have the loading end early; it raises ModelUnavailable then."""
        self.stopped = True

    def report(self, fraction: float) -> bool:
        """Note how far it is; whether to go on."""
        self.fraction = fraction
        return not self.stopped

    def __str__(self) -> str:
        return f"{self.fraction:.0%} of the model are loaded"
