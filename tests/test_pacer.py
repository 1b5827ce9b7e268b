"""Prefill chunks beside running streams."""

from __future__ import annotations

from llmengine.engine.mix import Mix
from llmengine.engine.pacer import Pacer
from llmengine.llama.attention import Attention

FLASH = Attention(tile=64, per_cell=0.0011, in_tile=0.0011 / 3)


def paced(per_row: float, rows: int, steps: int = 12, base: float = 0.0) -> list[int]:
    """The chunks of a long prefill beside `rows` decoding rows on a machine of that speed."""
    pacer = Pacer(0.4, 512)
    chunks = []
    for _ in range(4):
        pacer.decoded(rows, base + rows * per_row)
    for _ in range(steps):
        chunk = pacer.chunk(Mix(rows, 4096))
        pacer.prefilled(Mix(rows, chunk), base + (rows + chunk) * per_row)
        chunks.append(chunk)
    return chunks


def test_a_short_prompt_does_not_have_the_next_one_begin_small() -> None:
    """On a GPU, where a step of 512 rows is far from the limit."""
    pacer = Pacer(0.4, 512)
    pacer.decoded(1, 0.004)
    chunks = []
    for prompt in (3200, 3200, 3200, 3200, 3200, 20, 3200):
        chunk = min(pacer.chunk(Mix(1, prompt)), prompt)
        pacer.prefilled(Mix(1, chunk), 0.004 + chunk * 0.0001)
        chunks.append(chunk)
    assert chunks == [32, 64, 128, 256, 512, 20, 512]


class Machine:
    """Prefills a prompt beside streams of `own` tokens each; 4 ms a token, and for its cells."""

    def __init__(self, streams: int, own: int, *, slower: float = 1.0) -> None:
        self.pacer = Pacer(0.4, 512, attention=FLASH)
        self.streams, self.own, self.slower = streams, own, slower
        self.seconds: list[float] = []
        for _ in range(4):
            self.pacer.decoded(streams, self._decode)

    @property
    def _decode(self) -> float:
        behind = self.streams * self.own
        return self.slower * (0.016 + 0.004 * (self.streams + FLASH.per_cell * behind))

    def prefill(self, start: int, end: int) -> list[int]:
        chunks = []
        while start < end:
            mix = self._mix(start, end - start)
            chunk = min(self.pacer.chunk(mix), end - start)
            taken = self._decode + self.slower * 0.004 * mix.work(chunk, FLASH)
            self.pacer.prefilled(self._mix(start, chunk), taken)
            self.seconds.append(taken)
            chunks.append(chunk)
            start += chunk
        return chunks

    def _mix(self, start: int, prompt: int) -> Mix:
        behind = self.streams * self.own
        return Mix(self.streams, prompt, behind, start, behind + start)


def test_nobody_waits_a_whole_batch() -> None:
    assert Pacer(0.4, 512).chunk(Mix(0, 4096)) == 512


def test_chunks_grow_to_what_the_time_holds() -> None:
    # 0.36 s at 3 ms a row are 120 rows, 4 of them decode.
    assert paced(0.003, 4) == [32, 64, *[112] * 10]


def test_no_step_takes_longer_than_the_bound() -> None:
    for per_row in (0.0001, 0.001, 0.003, 0.01):
        for chunk in paced(per_row, 4):
            assert (chunk + 4) * per_row <= 0.4


def test_a_machine_too_slow_for_the_bound_still_moves_on() -> None:
    assert paced(0.2, 1)[1:] == [8] * 11


def test_a_machine_that_slows_down_gets_smaller_chunks() -> None:
    pacer = Pacer(0.4, 512)
    for _ in range(8):
        pacer.prefilled(Mix(4, 112), 0.35)
    assert pacer.chunk(Mix(4, 4096)) == 112
    for _ in range(4):
        pacer.prefilled(Mix(4, 112), 0.8)
    assert pacer.chunk(Mix(4, 4096)) <= 56


def test_one_step_that_was_held_up_says_nothing() -> None:
    pacer = Pacer(0.4, 512)
    for _ in range(8):
        pacer.prefilled(Mix(4, 112), 0.35)
    for seconds in (0.8, 0.35, 0.8):
        assert pacer.chunk(Mix(4, 4096)) == 112
        pacer.prefilled(Mix(4, 112), seconds)
    assert pacer.chunk(Mix(4, 4096)) <= 56  # two of three


# Flash attention on a CPU, which takes 64 rows together in less time than many fewer


def test_a_long_prompt_fills_tiles_as_long_as_the_time_holds_one() -> None:
    machine = Machine(streams=1, own=60)
    chunks = machine.prefill(0, 4096)
    assert chunks[:28] == [32, *[63] * 27]
    # Behind 1,733 tokens a tile takes longer than 0.44 s, and fewer rows are taken one by one.
    assert set(chunks[28:-1]) <= {8, 16, 24, 32}
    assert max(machine.seconds) <= 0.44


def test_streams_with_much_of_their_own_are_kept_out_of_tiles() -> None:
    # A tile would pass by the 8 x 400 cells of the streams for each of its rows.
    machine = Machine(streams=8, own=400)
    assert max(machine.prefill(0, 400)) < 64 - 8
    assert max(machine.seconds) <= 0.44


def test_the_cells_before_a_prompt_are_known_before_it_is_computed() -> None:
    machine = Machine(streams=4, own=50)
    machine.prefill(0, 300)
    # It begins with a prefix of 2,500 tokens that another has: no step was as slow before.
    machine.prefill(2500, 2700)
    assert max(machine.seconds) <= 0.44


def test_a_fast_machine_computes_several_tiles() -> None:
    machine = Machine(streams=2, own=50, slower=0.1)
    assert machine.prefill(0, 2000) == [32, 62, 126, 254, 510, 510, 506]


def test_a_tile_by_which_many_streams_gain_leaves_the_time_of_a_token_as_it_is() -> None:
    """They share a prefix, which it passes by once; one by one, each of them did."""
    pacer = Machine(48, 4096).pacer
    pacer.prefilled(Mix(0, 512), 2.0)
    known = pacer.seconds_per_token
    shared = Mix(48, 16, behind=48 * 4096, depth=4096, cells=4096 + 48 * 50)
    assert shared.work(16, FLASH) < 0
    pacer.prefilled(shared, 0.1)
    assert pacer.seconds_per_token == known > 0
