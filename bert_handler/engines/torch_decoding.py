"""Generation with transformers' decoding loop: tokens watched one by one, each row drawn on its own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from math import isfinite
from typing import Any

import numpy as np
import torch
from transformers import (
    LogitsProcessor,
    LogitsProcessorList,
    MinPLogitsWarper,
    StoppingCriteria,
    StoppingCriteriaList,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
    TypicalLogitsWarper,
)

from bert_handler.generation import Decoding, Generated, Watch


def generate(
    model: Any, inputs: Mapping[str, torch.Tensor], decoding: Decoding, watch: Watch, pad_id: int
) -> list[Generated]:
    """Append tokens to every row of a batch, as `model.generate` does with the model's own settings.

    inputs: int64 (B, L); decoder-only models need them padded on the left.
    """
    ids = inputs["input_ids"]
    own = model.generation_config
    ends = end_tokens(own)
    scores = FiniteScores()
    progress = Progress(len(ids), ends, watch, scores)
    search = Search(len(ids), watch, scores)
    sampler = [RowSampler(decoding, own, len(ids), ids.device)] if decoding.do_sample else []
    # Keyword arguments, not a configuration: a value that is transformers' default would yield to the model's.
    sequences = model.generate(
        input_ids=ids,
        attention_mask=inputs["attention_mask"],
        logits_processor=LogitsProcessorList([scores, *sampler]),
        stopping_criteria=StoppingCriteriaList([progress if decoding.num_beams == 1 else search]),
        max_new_tokens=decoding.max_new_tokens,
        num_beams=decoding.num_beams,
        num_return_sequences=1,
        repetition_penalty=decoding.repetition_penalty,
        # RowSampler draws: the loop itself would draw all rows from the process's generator.
        do_sample=False,
        return_dict_in_generate=False,
        pad_token_id=pad_id if own.pad_token_id is None else own.pad_token_id,
    )
    if decoding.num_beams == 1:
        return progress.generated()
    prompt = 1 if model.config.is_encoder_decoder else ids.shape[1]
    found = [until_end(row, ends) for row in sequences[:, prompt:].tolist()]
    return [replace(item, overflow=search.overflows.get(row)) for row, item in enumerate(found)]


def end_tokens(own: Any) -> frozenset[int]:
    """Ids that end a text by the model's settings: none, one or several."""
    ends = own.eos_token_id
    return frozenset() if ends is None else frozenset([ends] if isinstance(ends, int) else ends)


def until_end(tokens: list[int], ends: frozenset[int]) -> Generated:
    """Cut a row behind its end token: what follows is padding."""
    length = next((i + 1 for i, token in enumerate(tokens) if token in ends), None)
    return Generated(np.array(tokens[:length], dtype=np.int64), length is not None)


class FiniteScores(LogitsProcessor):
    """Puts zeros in the place of scores that no token can be drawn from: a GPU that tries is lost.

    highest: of each row, as the model gave it; the rows where that is not finite are to be ended.
    """

    highest: torch.Tensor

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        # NaN is the highest of all.
        self.highest = scores.amax(dim=-1)
        return scores.masked_fill(~self.highest.isfinite()[:, None], 0.0)


class Progress(StoppingCriteria):
    """Collects each row's new tokens as they come; ends those that the watch ends, and those without scores.

    overflows: by row, its highest score where that was not finite.
    """

    def __init__(self, n_rows: int, ends: frozenset[int], watch: Watch, scores: FiniteScores) -> None:
        self.overflows: dict[int, float] = {}
        self._tokens: list[list[int]] = [[] for _ in range(n_rows)]
        self._live = [True] * n_rows
        self._ends = ends
        self._watch = watch
        self._scores = scores

    def __call__(self, input_ids: torch.Tensor, scores: Any, **_: Any) -> torch.Tensor:
        for row, (token, highest) in enumerate(zip(input_ids[:, -1].tolist(), self._scores.highest.tolist())):
            if self._live[row]:
                self._live[row] = self._goes_on(row, token, highest)
        return torch.tensor([not live for live in self._live], dtype=torch.bool, device=input_ids.device)

    def _goes_on(self, row: int, token: int, highest: float) -> bool:
        if not isfinite(highest):
            self.overflows[row] = highest
            return False
        self._tokens[row].append(token)
        return token not in self._ends and not self._watch(row, token)

    def generated(self) -> list[Generated]:
        found = [until_end(tokens, self._ends) for tokens in self._tokens]
        return [replace(item, overflow=self.overflows.get(row)) for row, item in enumerate(found)]


class Search(StoppingCriteria):
    """Ends a beam search when all of its rows are ended by the watch, or have a beam without scores.

    overflows: by row, the highest score of such a beam.
    """

    def __init__(self, n_rows: int, watch: Watch, scores: FiniteScores) -> None:
        self.overflows: dict[int, float] = {}
        self._n_rows = n_rows
        self._watch = watch
        self._scores = scores

    def __call__(self, input_ids: torch.Tensor, scores: Any, **_: Any) -> torch.Tensor:
        for row, highest in enumerate(self._scores.highest.view(self._n_rows, -1).amax(dim=-1).tolist()):
            if not isfinite(highest):
                self.overflows[row] = highest
        ended = [row in self.overflows or self._watch(row, None) for row in range(self._n_rows)]
        return torch.full((len(input_ids),), all(ended), dtype=torch.bool, device=input_ids.device)


class RowSampler(LogitsProcessor):
    """Draws every row's token with a generator of its own, and leaves only that one possible.

    So a seed gives the same text alone, in a batch, and beside other threads that sample.
    """

    def __init__(self, decoding: Decoding, own: Any, n_rows: int, device: torch.device) -> None:
        self._warpers = warpers(decoding, own)
        self._generators = [torch.Generator(device) for _ in range(n_rows)]
        for generator in self._generators:
            if decoding.seed is None:
                generator.seed()
            else:
                generator.manual_seed(decoding.seed)

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        shaped: Any = scores
        for warper in self._warpers:
            shaped = warper(input_ids, shaped)
        probabilities = shaped.softmax(dim=-1)
        drawn = torch.cat(
            [
                torch.multinomial(probabilities[i : i + 1], 1, generator=generator)
                for i, generator in enumerate(self._generators)
            ]
        )
        return torch.full_like(scores, -torch.inf).scatter_(1, drawn, 0.0)


def warpers(decoding: Decoding, own: Any) -> list[Any]:
    """What shapes the distribution, in the order in which transformers applies it."""
    chosen: list[Any] = []
    if decoding.temperature != 1:
        chosen.append(TemperatureLogitsWarper(decoding.temperature))
    if decoding.top_k:
        chosen.append(TopKLogitsWarper(decoding.top_k))
    if decoding.top_p < 1:
        chosen.append(TopPLogitsWarper(decoding.top_p))
    # These have no request parameter; they count where the model's generation_config.json has them.
    for name, warper in (("min_p", MinPLogitsWarper), ("typical_p", TypicalLogitsWarper)):
        value = getattr(own, name, None)
        if value is not None and 0 < value < 1:
            chosen.append(warper(value))
    return chosen
