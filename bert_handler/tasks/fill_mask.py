"""Fill the masked places of a text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from bert_handler.errors import ConfigError, InvalidRequestError
from bert_handler.parameters import Parameter, quoted
from bert_handler.schema import IntArray, OutputSpec, Row
from bert_handler.tasks.base import STRIDE, TRUNCATION, RowOutputs, Task
from bert_handler.tasks.instances import EncodedExample, Example, Model
from bert_handler.tasks.size import CHARACTERS_A_TOKEN, Size
from bert_handler.tasks.windows import deciding_windows
from bert_handler.tokenization import Encoded

Ranking = list[tuple[int, float]]
"""Token ids and their probabilities, the best one first."""

NO_TARGETS = np.zeros(1, dtype=np.int64)
"""Never empty, so that the graph's inputs have the same form with and without targets."""
MAX_TOP_K = 100
"""So many candidates leave the graph for each mask, however few a request asks for."""


class FillMask(Task):
    """The likeliest tokens for each mask, all masks of a text in one forward.

    The graph gathers the masked places before its softmax: `mask_positions` (B, M) and `target_ids`
    (B, T) are inputs beside the tokens, padded with zeros whose outputs nobody reads.
    """

    name = "fill_mask"
    model_class = "AutoModelForMaskedLM"
    multiplies = True
    architectures = ("ForMaskedLM",)
    has_decision = False
    parameters: ClassVar[tuple[Parameter, ...]] = (
        Parameter("top_k", int, 5, "how many tokens each mask gets", minimum=1, maximum=MAX_TOP_K),
        Parameter(
            "targets",
            list,
            None,
            "the only tokens that are compared; each one token of the vocabulary",
            minimum=1,
            maximum=1000,
        ),
        TRUNCATION,
        STRIDE,
    )

    def __init__(self, model: Model) -> None:
        super().__init__(model)
        spec = model.tokenizer.spec
        if spec.mask_id is None or spec.mask_token is None:
            raise ConfigError("fill_mask needs a tokenizer with a mask token; this model's has none")
        self._mask_id = spec.mask_id
        self._mask_token = spec.mask_token
        self.sample = f"The fox {spec.mask_token} over the dog."
        self._last_targets: tuple[tuple[str, ...], IntArray | str] = ((), NO_TARGETS)

    @property
    def outputs(self) -> tuple[OutputSpec, ...]:
        return (OutputSpec("predict", "BYTES"),)

    def size(self, example: Example) -> Size:
        """The answer has the whole text for each candidate of each mask."""
        if example.tokens is None:
            text = example.fields["text"]
            n_sequences, length = text.count(self._mask_token), len(text)
        else:
            ids = example.tokens.inputs["input_ids"]
            n_sequences, length = int((ids == self._mask_id).sum()), CHARACTERS_A_TOKEN * len(ids)
        n_sequences *= example.parameters["top_k"]
        return Size(n_sequences, n_sequences * length)

    def head(self, output: Any, inputs: Mapping[str, Any]) -> dict[str, Any]:
        n_tokens = output.logits.shape[-1]
        places = inputs["mask_positions"].unsqueeze(-1).expand(-1, -1, n_tokens)
        scores = output.logits.gather(1, places).float().softmax(-1)
        targets = inputs["target_ids"].unsqueeze(1).expand(-1, scores.shape[1], -1)
        best, tokens = scores.topk(min(MAX_TOP_K, n_tokens), dim=-1)
        return {"scores": best, "tokens": tokens, "target_scores": scores.gather(2, targets)}

    def rows(self, example: Example, sequence: Encoded) -> list[Row]:
        """One row for each window that decides a mask; the others are not computed."""
        deciding = np.where(sequence.full["input_ids"] == self._mask_id, deciding_windows(sequence), -2)
        if (deciding == -2).all():
            raise InvalidRequestError(f"text has no mask; write {self._mask_token} where a token is wanted")
        if (deciding == -1).any():
            raise InvalidRequestError(
                f"a mask is cut off: text has {sequence.n_tokens} tokens and the model takes "
                f"{self.model.max_length}; set truncation to 'stride'"
            )
        targets = self._target_ids(example.parameters["targets"])
        rows = []
        for i, kept in enumerate(sequence.windows):
            places = np.flatnonzero(deciding[kept] == i)
            if len(places):
                extra = {"mask_positions": places, "target_ids": targets}
                rows.append(Row({**sequence.inputs(i), **extra}, len(kept)))
        return rows

    def decode(self, encoded: EncodedExample, rows: Sequence[RowOutputs]) -> Mapping[str, Any]:
        parameters = encoded.example.parameters
        best: list[Ranking] = []
        for row, outputs in zip(encoded.rows, rows):
            targets = None if parameters["targets"] is None else row.inputs["target_ids"]
            n_masks = len(row.inputs["mask_positions"])
            best += [self._ranking(outputs, i, targets, parameters["top_k"]) for i in range(n_masks)]
        sequence = encoded.sequences[0]
        # A truncated text has one window, and its answer shows what the model saw.
        ids = sequence.inputs(0)["input_ids"] if sequence.truncated else sequence.full["input_ids"]
        masks = np.flatnonzero(ids == self._mask_id).tolist()
        filled = [self._filled(ids.tolist(), mask, ranking, len(masks) == 1) for mask, ranking in zip(masks, best)]
        return {"predict": filled[0] if len(filled) == 1 else filled}

    def comparable(self, answer: Any) -> Any:
        """The best token of each mask: of those that follow, many are nearly equal."""
        rankings = answer if isinstance(answer[0], list) else [answer]
        return [ranking[0]["token"] for ranking in rankings]

    @staticmethod
    def _ranking(outputs: RowOutputs, mask: int, targets: IntArray | None, top_k: int) -> Ranking:
        if targets is None:
            tokens = outputs["tokens"][mask][:top_k].astype(np.int64)
            return list(zip(tokens.tolist(), outputs["scores"][mask].tolist()))
        scores = outputs["target_scores"][mask][: len(targets)]
        best = np.argsort(-scores, kind="stable")[:top_k]
        return list(zip(targets[best].tolist(), scores[best].tolist()))

    def _filled(self, ids: list[int], mask: int, ranking: Ranking, only: bool) -> list[dict[str, Any]]:
        decode = self.model.tokenizer.backend.decode
        filled = []
        for token, score in ranking:
            ids[mask] = token
            # The other masks of a text are special tokens too; they must stay visible.
            text = decode(ids, skip_special_tokens=only)
            token_text = decode([token], skip_special_tokens=False)
            filled.append({"token_str": token_text, "token": token, "score": score, "sequence": text})
        return filled

    def _target_ids(self, targets: Sequence[str] | None) -> IntArray:
        """Their ids, looked up once for the instances of a request that have them in common."""
        if targets is None:
            return NO_TARGETS
        own = tuple(targets)
        known, found = self._last_targets
        if known != own:
            found = self._find_targets(own)
            self._last_targets = own, found
        if isinstance(found, str):
            raise InvalidRequestError(found)
        return found

    def _find_targets(self, targets: Sequence[str]) -> IntArray | str:
        """The ids, each once, or what is wrong with one of the targets."""
        tokenizer = self.model.tokenizer
        own = [tokenizer.backend.token_to_id(target) for target in targets]
        others = [target for target, token in zip(targets, own) if token is None]
        encoded = iter(tokenizer.backend.encode_batch(others, add_special_tokens=False))
        ids = []
        for target, token in zip(targets, own):
            found = next(encoded).ids if token is None else [token]
            if len(found) != 1 or found[0] == tokenizer.spec.unk_id:
                return f"parameter targets: {quoted(target)} is not one token of this model's vocabulary"
            ids += found
        return np.array(list(dict.fromkeys(ids)), dtype=np.int64)
