"""What the time of a step has to do with the cells of the KV cache."""

from __future__ import annotations

from msgspec import Struct

# Flash attention on a CPU computes so many rows together, if there are as many
# (ggml-cpu/ops.cpp); fewer are computed one by one.
FLASH_TILE = 64
_SLOWER = 12.5  # what a multiplication takes in attention, row by row, beside one by weights
_FASTER = 3.0  # how much sooner a row has passed a cell in a tile: 2.8 to 3.5 was measured


class Attention(Struct, frozen=True):
    """Time is in units of what a token takes without any cells before it."""

    tile: int = 0  # rows that are computed together; 0: any number is
    per_cell: float = 0.0  # what a row takes that passes one cell, alone
    in_tile: float = 0.0  # and together with others

    @classmethod
    def flash(cls, values_per_cell: int, parameters: int) -> Attention:
        """On a CPU, of a model with so many values in the queries and keys of all layers."""
        per_cell = _SLOWER * values_per_cell / max(parameters, 1)
        return cls(FLASH_TILE, per_cell, per_cell / _FASTER)
