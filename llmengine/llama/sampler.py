"""llama.cpp's samplers in a chain, and the choice of one token from a row of logits."""

from __future__ import annotations

import ctypes
import math
import secrets
import struct
import zlib
from collections.abc import Callable, Sequence

import llama_cpp
import numpy as np
import numpy.typing as npt

from llmengine.core import TokenLogprob, TopLogprob
from llmengine.errors import Internal, InvalidRequest
from llmengine.llama.choice import Choice
from llmengine.llama.context import Logits
from llmengine.llama.matcher import Matcher
from llmengine.llama.model import Model
from llmengine.llama.thinking import ThinkingBudget
from llmengine.sampling import SamplingParams

_DRY_BREAKERS = (b"\n", b":", b'"', b"*")  # llama.cpp's defaults
_CANDIDATE = np.dtype([("id", np.int32), ("logit", np.float32), ("p", np.float32)])


class Sampler:
    """Chooses the tokens of one sequence; keeps what the penalties and the grammar have seen."""

    def __init__(
        self,
        model: Model,
        params: SamplingParams,
        prompt: Sequence[int],
        room: int,
        matcher: Matcher | None = None,
    ):
        """Build the chain for `params`; with a `matcher`, the tokens follow its grammar.

        `room` is the largest number of tokens that the penalties look back. Raises InvalidRequest
        for a bias on a token that does not exist.
        """
        self._model = model
        self.greedy = params.greedy
        self._chain = None
        self.matcher = matcher
        self._choice: Choice | None = None
        self._thinking: ThinkingBudget | None = None
        self._tokens = 0  # of the completion so far
        self._added = 0  # samplers in the chain
        self._drawing: list[Callable[[int], llama_cpp.llama_sampler_p]] = []  # its last ones
        self._ends: npt.NDArray[np.intp] | None = None  # tokens that no choice may be
        if not params.ends_at_eos:
            self._ends = np.array(sorted(model.end_tokens), np.intp)
        if params.thinking_budget is not None and params.thinking_tags is not None:
            self._thinking = ThinkingBudget(model, params.thinking_tags, params.thinking_budget)
        if self.greedy:
            return  # the largest logit needs no chain
        self._seed = secrets.randbits(32) if params.seed is None else params.seed
        if params.plain:
            self._choice = Choice(params, self._seed)
            return
        self._chain = llama_cpp.llama_sampler_chain_init(
            llama_cpp.llama_sampler_chain_default_params()
        )
        self._add_biases(params)
        self._add_penalties(params, prompt, room)
        self._add_choice(params)

    def __del__(self) -> None:
        if self._chain:
            llama_cpp.llama_sampler_free(self._chain)
        self._chain = None

    @property
    def ended(self) -> bool:
        """Whether the grammar allows nothing more."""
        return self.matcher is not None and self.matcher.ended

    def replay(self, token: int) -> None:
        """Go on by a token that an equal sampler chose."""
        forced = self._thinking is not None and token == self._thinking.due
        if self._choice is not None and not forced:
            self._choice.skip()
        if self.matcher is not None:
            self.matcher.take(token)
        self._accept(token)
        self._saw(token)

    def _saw(self, token: int) -> None:
        self._tokens += 1
        if self._thinking is not None:
            self._thinking.saw(token)

    def _accept(self, token: int) -> None:
        if self._chain:
            llama_cpp.llama_sampler_accept(self._chain, token)

    def _add(self, sampler: llama_cpp.llama_sampler_p) -> None:
        llama_cpp.llama_sampler_chain_add(self._chain, sampler)
        self._added += 1

    def _add_biases(self, params: SamplingParams) -> None:
        vocabulary = self._model.vocabulary
        for token in params.logit_bias:
            if token >= vocabulary:
                raise InvalidRequest(
                    f"logit_bias names token {token}, the vocabulary has {vocabulary}",
                    param="logit_bias",
                )
        biases = dict(params.logit_bias)
        if not params.ends_at_eos:
            biases |= dict.fromkeys(self._model.end_tokens, -float("inf"))
        if biases:
            array = (llama_cpp.llama_logit_bias * len(biases))(*biases.items())
            self._add(llama_cpp.llama_sampler_init_logit_bias(vocabulary, len(biases), array))

    def _add_penalties(self, params: SamplingParams, prompt: Sequence[int], room: int) -> None:
        vocabulary = self._model.vocabulary
        look_back = room if params.repeat_last_n < 0 else min(params.repeat_last_n, room)
        repeat = params.repeat_penalty
        if repeat != 1 and look_back:
            self._add_fed(
                llama_cpp.llama_sampler_init_penalties(vocabulary, look_back, repeat, 0.0, 0.0),
                prompt[-look_back:],
            )
        frequency, presence = params.frequency_penalty, params.presence_penalty
        if frequency or presence:  # of the completion alone, as OpenAI counts
            self._add(
                llama_cpp.llama_sampler_init_penalties(vocabulary, room, 1.0, frequency, presence)
            )
        if params.dry_multiplier and params.dry_penalty_last_n:
            self._add_fed(_dry(self._model, params, room), prompt[-room:])

    def _add_fed(self, sampler: llama_cpp.llama_sampler_p, tokens: Sequence[int]) -> None:
        for token in tokens:
            llama_cpp.llama_sampler_accept(sampler, token)
        self._add(sampler)

    def _add_choice(self, params: SamplingParams) -> None:
        """The order of llama.cpp's own default chain."""
        api = llama_cpp
        if params.temperature == 0:
            self._add(api.llama_sampler_init_greedy())
            return
        if params.mirostat:
            self._add(api.llama_sampler_init_temp(params.temperature))
            tau, eta = params.mirostat_tau, params.mirostat_eta
            if params.mirostat == 1:
                size = self._model.vocabulary
                self._add(api.llama_sampler_init_mirostat(size, self._seed, tau, eta, 100))
            else:
                self._add(api.llama_sampler_init_mirostat_v2(self._seed, tau, eta))
            return
        if params.top_n_sigma > 0:
            self._add(api.llama_sampler_init_top_n_sigma(params.top_n_sigma))
        if params.top_k:
            self._add(api.llama_sampler_init_top_k(params.top_k))
        if params.typical_p < 1:
            self._add(api.llama_sampler_init_typical(params.typical_p, 1))
        if params.top_p < 1:
            self._add(api.llama_sampler_init_top_p(params.top_p, 1))
        if params.min_p > 0:
            self._add(api.llama_sampler_init_min_p(params.min_p, 1))
        if params.xtc_probability > 0:
            chance, threshold = params.xtc_probability, params.xtc_threshold
            self._drawing.append(
                lambda seed: api.llama_sampler_init_xtc(chance, threshold, 1, seed)
            )
        self._drawing.append(lambda _: api.llama_sampler_init_temp(params.temperature))
        self._drawing.append(api.llama_sampler_init_dist)

    def _reseed(self) -> None:
        """Have what draws begin anew with every token.

        How many numbers it takes for one depends on the logits: in a stream of them, nobody could
        find the place of a token without computing all before it.
        """
        seed = _seed_of(self._seed, self._tokens)
        for _ in range(llama_cpp.llama_sampler_chain_n(self._chain) - self._added):
            llama_cpp.llama_sampler_free(
                llama_cpp.llama_sampler_chain_remove(self._chain, self._added)
            )
        for new in self._drawing:
            llama_cpp.llama_sampler_chain_add(self._chain, new(seed))

    def sample(self, context: llama_cpp.llama_context_p, row: int, logits: Logits) -> int:
        """The next token, from output `row` of the last decode, whose `logits` are given.

        Raises Internal where the model computed no numbers or the grammar has no token.
        """
        forced = self._forced(self._thinking.due) if self._thinking is not None else None
        token = self._sample(context, row, logits) if forced is None else forced
        self._saw(token)
        if not math.isfinite(logits[token]):
            raise Internal("the model computed logits that are no numbers")
        return token

    def _forced(self, token: int | None) -> int | None:
        """The token with which thinking is closed now, if the grammar takes it."""
        if token is None or (self.matcher is not None and not self.matcher.take(token)):
            return None
        self._accept(token)
        return token

    def _sample(self, context: llama_cpp.llama_context_p, row: int, logits: Logits) -> int:
        if self._drawing:
            self._reseed()
        if self.matcher is None and self._chain:
            return int(llama_cpp.llama_sampler_sample(self._chain, context, row))
        token = self._choose(logits) if self._ends is None else self._choose_no_end(logits)
        if self.matcher is not None and not self.matcher.take(token):
            # To find all that may follow costs far more than to check the one that was chosen.
            token = self._choose(self.matcher.mask(logits), again=True)
            if not self.matcher.take(token):
                raise Internal("the grammar takes none of the model's tokens")
        self._accept(token)
        return token

    def _choose_no_end(self, logits: Logits) -> int:
        values = logits[self._ends]
        logits[self._ends] = -np.inf
        try:
            return self._choose(logits)
        finally:
            logits[self._ends] = values  # log-probabilities are those of the model

    def _choose(self, logits: Logits, *, again: bool = False) -> int:
        if self.greedy:
            return int(logits.argmax())
        if self._choice is not None:
            return self._choice.draw_again(logits) if again else self._choice.draw(logits)
        candidates = np.zeros(len(logits), _CANDIDATE)
        candidates["id"] = np.arange(len(logits))
        candidates["logit"] = logits
        array = _token_array(candidates)
        llama_cpp.llama_sampler_apply(self._chain, ctypes.byref(array))
        return int(array.data[array.selected].id)


def _seed_of(seed: int, token: int) -> int:
    """A seed for one token; never the one that has llama.cpp take a random one."""
    return zlib.crc32(struct.pack("<QQ", seed, token)) & 0x7FFFFFFF


def _token_array(candidates: npt.NDArray[np.void]) -> llama_cpp.llama_token_data_array:
    data = ctypes.cast(candidates.ctypes.data, ctypes.POINTER(llama_cpp.llama_token_data))
    return llama_cpp.llama_token_data_array(data, len(candidates), -1, False)


def _dry(model: Model, params: SamplingParams, room: int) -> llama_cpp.llama_sampler_p:
    breakers = (ctypes.c_char_p * len(_DRY_BREAKERS))(*_DRY_BREAKERS)
    look_back = room if params.dry_penalty_last_n < 0 else min(params.dry_penalty_last_n, room)
    return llama_cpp.llama_sampler_init_dry(
        model.vocab,
        params.dry_multiplier,
        params.dry_base,
        params.dry_allowed_length,
        look_back,
        breakers,
        len(breakers),
    )


def logprobs(model: Model, logits: Logits, token: int, top: int) -> TokenLogprob:
    """The log-probability of `token` and of the `top` likeliest, by the model alone."""
    highest = float(logits.max())
    total = highest + float(np.log(np.exp(logits - highest).sum(dtype=np.float64)))
    best: list[int] = []
    if top:
        found = np.argpartition(logits, -top)[-top:]
        best = found[np.argsort(-logits[found], kind="stable")].tolist()
    return TokenLogprob(
        token=token,
        piece=model.piece(token),
        logprob=float(logits[token]) - total,
        top=tuple(
            TopLogprob(each, model.piece(each), float(logits[each]) - total) for each in best
        ),
    )
