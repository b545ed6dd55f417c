"""Continue a text (causal models) or answer it with another one (encoder-decoder models)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from bert_handler import jsonio
from bert_handler.ending import ENDING
from bert_handler.errors import DeadlineError, InvalidRequestError, RequestTooLargeError
from bert_handler.generation import OUT_OF_TIME, Decoding, Detokenizer, Generated, TextStream
from bert_handler.parameters import Parameter
from bert_handler.schema import OutputSpec, Row
from bert_handler.tasks.base import Outcome, RowOutputs, Task, not_finite
from bert_handler.tasks.instances import EncodedExample, Example, Model
from bert_handler.tokenization import Encoded, Truncation

if TYPE_CHECKING:
    from bert_handler.engines.base import Batch, Engine

GENERATION_CONFIG = "generation_config.json"
DEFAULTS: Mapping[str, Any] = {
    "max_new_tokens": 64,
    "do_sample": False,
    "temperature": 1.0,
    "top_k": 50,
    "top_p": 1.0,
    "num_beams": 1,
    "repetition_penalty": 1.0,
}
"""Where neither the request, nor the settings, nor the model's generation_config.json says anything."""
SAMPLING = ("temperature", "top_k", "top_p", "seed")
MAX_STOP_LENGTH = 200

MODEL_DEFAULT = "default: the model's generation_config.json"


@dataclass(frozen=True)
class Key:
    """What rows of one batch have in common."""

    decoding: Decoding
    stop: tuple[str, ...] = ()
    stream: TextStream | None = None
    length: int = 0


class TextGeneration(Task):
    """A causal model goes on from the end of the text; an encoder-decoder reads all of it first.

    A text that is too long loses its beginning with a causal model, whose answer depends on the end,
    and its end with an encoder-decoder.  Only new text is answered, up to the first stop string,
    which is not part of it.
    """

    name = "text_generation"
    architectures = ("ForCausalLM", "LMHeadModel", "ForConditionalGeneration")
    needs_generation = True
    has_decision = False
    sample = MappingProxyType({"text": "The quick brown fox", "max_new_tokens": 1})
    parameters = (
        Parameter("max_new_tokens", int, None, f"most tokens of the answer; {MODEL_DEFAULT}, else 64", 1),
        Parameter("max_new_tokens_limit", int, 1024, "most new tokens that a request may ask for", 1, request=False),
        Parameter("do_sample", bool, None, f"draw tokens instead of taking the likeliest; {MODEL_DEFAULT}"),
        Parameter("temperature", float, None, f"of the drawing; {MODEL_DEFAULT}", 0.01, 100),
        Parameter("top_k", int, None, "draw from the k likeliest tokens, 0: from all", 0, 1_000_000),
        Parameter("top_p", float, None, "draw from the likeliest tokens of this mass", 0, 1),
        Parameter("seed", int, None, "the same seed draws the same text", 0, 2**63 - 1),
        Parameter("stop", list, None, "strings that end the answer", 1, 16),
        Parameter("return_full_text", bool, False, "answer with the text and what follows it"),
        Parameter("num_beams", int, None, f"of the beam search; {MODEL_DEFAULT}", 1, 16),
        Parameter("repetition_penalty", float, None, f"against repetition; {MODEL_DEFAULT}", 0.01, 10),
        Parameter(
            "truncation",
            str,
            "truncate",
            "what happens to a text that leaves no room",
            choices=("error", "truncate"),
        ),
    )

    def __init__(self, model: Model) -> None:
        super().__init__(model)
        config = model.model_config
        self.is_causal = not config.get("is_encoder_decoder", False)
        self.model_class = "AutoModelForCausalLM" if self.is_causal else "AutoModelForSeq2SeqLM"
        self.padding_side = "left" if self.is_causal else "right"
        # A causal model's positions hold the text and the answer, an encoder-decoder's each of them.
        self._positions = model.max_length if self.is_causal else config.get("max_position_embeddings")
        self._defaults = self._model_defaults()

    @property
    def outputs(self) -> tuple[OutputSpec, ...]:
        return (
            OutputSpec("predict", "BYTES"),
            OutputSpec("n_tokens", "INT64"),
            OutputSpec("finish_reason", "BYTES"),
        )

    def head(self, output: Any, inputs: Mapping[str, Any]) -> dict[str, Any]:
        return {"logits": output.logits}

    # ---- parameters -------------------------------------------------------------------------

    def value(self, parameters: Mapping[str, Any], name: str) -> Any:
        """A parameter as it applies: the request's, the settings', or the model's default."""
        return self._defaults[name] if parameters[name] is None else parameters[name]

    def decoding(self, parameters: Mapping[str, Any]) -> Decoding:
        """How the engine shall choose tokens; equal for rows that may share a batch."""
        values = {name: self.value(parameters, name) for name in DEFAULTS}
        if not values["do_sample"]:
            values.update({name: DEFAULTS[name] for name in SAMPLING if name in values})
            return Decoding(**values)
        return Decoding(**values, seed=parameters["seed"])

    def check_parameters(self, given: Mapping[str, Any], merged: Mapping[str, Any]) -> None:
        """Refuse what is out of the model's bounds, and what would have no effect."""
        asked, limit = merged["max_new_tokens"], merged["max_new_tokens_limit"]
        if asked is not None and asked > limit:
            raise InvalidRequestError(f"max_new_tokens={asked}; max_new_tokens_limit is {limit}")
        if asked is not None and self._positions and asked >= self._positions:
            raise InvalidRequestError(
                f"max_new_tokens={asked} leaves no room: the model has {self._positions} positions"
            )
        sampled = self.value(merged, "do_sample")
        for name in SAMPLING:
            if not sampled and given.get(name) is not None:
                raise InvalidRequestError(f"{name} has no effect without do_sample: true")
        if sampled and self.value(merged, "num_beams") > 1:
            raise InvalidRequestError("num_beams must be 1 with do_sample: true")
        for text in merged["stop"] or ():
            if not 0 < len(text) <= MAX_STOP_LENGTH:
                raise InvalidRequestError(f"stop: each string must have 1 to {MAX_STOP_LENGTH} characters")

    def _model_defaults(self) -> Mapping[str, Any]:
        defaults = dict(DEFAULTS)
        if self.model.directory is not None:
            stated = jsonio.read_file(self.model.directory / GENERATION_CONFIG, dict)
            defaults.update({name: stated[name] for name in DEFAULTS if stated.get(name) is not None})
        most = self.model.config.parameters["max_new_tokens_limit"]
        if self._positions:
            most = min(most, self._positions // 2)
        defaults["max_new_tokens"] = min(defaults["max_new_tokens"], most)
        return defaults

    # ---- rows -------------------------------------------------------------------------------

    def truncation(self, example: Example) -> Truncation:
        limit = self.model.max_length
        if not self.is_causal:
            return Truncation(example.parameters["truncation"], limit)
        if limit is not None:
            limit -= self.value(example.parameters, "max_new_tokens")
        return Truncation(example.parameters["truncation"], limit, side="left")

    def rows(self, example: Example, sequence: Encoded) -> list[Row]:
        inputs = self._started(sequence.inputs(0))
        length = len(inputs["input_ids"])
        n_new = self.value(example.parameters, "max_new_tokens")
        if self.is_causal and self._positions and length + n_new > self._positions:
            raise RequestTooLargeError(
                f"text has {length} tokens, and max_new_tokens is {n_new}; "
                f"together this model takes at most {self._positions}"
            )
        return [Row(inputs, length + n_new, self._key(example, length))]

    def execute(self, engine: Engine, rows: Sequence[Row], batch: Batch, threads: int) -> Sequence[Outcome]:
        key = cast("Key", rows[0].key)
        stream, is_read = key.stream, bool(key.stop) or key.stream is not None
        texts = [Detokenizer(self._text, key.stop) for _ in rows]
        given_up: set[int] = set()

        def watch(row: int, token: int | None) -> bool:
            if rows[row].given_up() or ENDING.is_set():
                given_up.add(row)
                return True
            if token is None or not is_read:
                return False
            piece = texts[row].push(token)
            if stream is not None:
                stream.put(piece)
            return texts[row].stopped

        generated = engine.generate(batch, key.decoding, watch, threads)
        if stream is not None:
            stream.put(texts[0].finish())
        return [DeadlineError(OUT_OF_TIME) if i in given_up else _outcome(item) for i, item in enumerate(generated)]

    def decode(self, encoded: EncodedExample, rows: Sequence[RowOutputs]) -> Mapping[str, Any]:
        parameters = encoded.example.parameters
        text = Detokenizer(self._text, parameters["stop"] or ())
        pieces, n_tokens = [self._prompt(encoded)], 0
        for token in rows[0]["tokens"].tolist():
            pieces.append(text.push(token))
            n_tokens += 1
            if text.stopped:
                break
        pieces.append(text.finish())
        stopped = text.stopped or bool(rows[0]["ended"])
        return {
            "predict": "".join(pieces),
            "n_tokens": n_tokens,
            "finish_reason": "stop" if stopped else "length",
        }

    def streamed(self, encoded: EncodedExample, stream: TextStream) -> EncodedExample:
        if self.value(encoded.example.parameters, "num_beams") > 1:
            raise InvalidRequestError("parameter num_beams must be 1 in a stream: beams end together")
        stream.put(self._prompt(encoded))
        row = encoded.rows[0]
        key = self._key(encoded.example, 0, stream)
        return encoded._replace(rows=[row._replace(key=key)])

    def _key(self, example: Example, length: int, stream: TextStream | None = None) -> Key:
        decoding = self.decoding(example.parameters)
        # The penalty would count padding as text: rows of one length need none.
        own_length = length if self.is_causal and decoding.repetition_penalty != 1 else 0
        return Key(decoding, tuple(example.parameters["stop"] or ()), stream, own_length)

    def _started(self, inputs: Mapping[str, Any]) -> Mapping[str, Any]:
        """Keep what generation needs, and give an empty text the token that texts begin with."""
        ids = inputs["input_ids"]
        if len(ids):
            return {"input_ids": ids, "attention_mask": inputs.get("attention_mask", np.ones_like(ids))}
        start = self.model.model_config.get("bos_token_id")
        if start is None:
            raise InvalidRequestError("text is empty, and this model has no token to begin with")
        return {"input_ids": np.array([start]), "attention_mask": np.array([1])}

    def _prompt(self, encoded: EncodedExample) -> str:
        if not encoded.example.parameters["return_full_text"]:
            return ""
        if encoded.example.tokens is not None:
            return self._text(encoded.rows[0].inputs["input_ids"].tolist())
        return str(encoded.example.fields["text"])

    def _text(self, tokens: list[int]) -> str:
        text: str = self.model.tokenizer.backend.decode(tokens, skip_special_tokens=True)
        return text


def _outcome(generated: Generated) -> Outcome:
    if generated.overflow is not None:
        return not_finite({"score": np.array(generated.overflow)})
    return {"tokens": generated.tokens, "ended": np.array(generated.ended)}
