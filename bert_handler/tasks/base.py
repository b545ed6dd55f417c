"""What a task is: how its instances are read, encoded, and turned into predictions."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Union, cast

import numpy as np
from numpy.typing import NDArray

from bert_handler.decisions import Decision
from bert_handler.errors import (
    ConfigError,
    InvalidRequestError,
    RequestError,
    RequestTooLargeError,
    UnservableError,
)
from bert_handler.generation import TextStream
from bert_handler.parameters import Parameter, check_unicode, describe, unknown
from bert_handler.schema import Failure, Instance, OutputSpec, Prediction, Row, Tokens
from bert_handler.scores import is_finite
from bert_handler.tasks.explanation_parameters import EXPLANATION_FIELDS
from bert_handler.tasks.instances import EncodedExample, Example, Model
from bert_handler.tasks.size import Size, check_sizes
from bert_handler.tokenization import Encoded, Text, Truncation

if TYPE_CHECKING:
    from bert_handler.engines.base import Batch, Engine

RowOutputs = Mapping[str, "NDArray[Any]"]
Outcome = Union[RowOutputs, RequestError]

NOT_A_NUMBER = "the model's output for this instance is not a number (NaN)"
NOT_FINITE = "the model's output for this instance is not a finite number (infinity)"

TRUNCATIONS = ("error", "truncate", "stride")
TRUNCATION = Parameter("truncation", str, "truncate", "what happens to a text that is too long", choices=TRUNCATIONS)
STRIDE = Parameter("stride", int, 64, "tokens that two windows share with truncation: stride", minimum=0)


class Task(ABC):
    """One `mode`.  Subclasses say what they read and how outputs of the graph become predictions."""

    name: ClassVar[str]
    model_class: str
    """Name of the transformers auto class with the task's head."""
    architectures: ClassVar[tuple[str, ...]] = ()
    """Endings of the architectures that are served with this task where no mode is set."""
    optional_weights: ClassVar[tuple[str, ...]] = ()
    """Prefixes of weights that a checkpoint may lack because the head does not use them."""
    fields: ClassVar[tuple[str, ...]] = ("text",)
    """Required fields of a JSON instance; a plain text is the first of them where it is the only one."""
    optional_fields: ClassVar[tuple[str, ...]] = ()
    parameters: ClassVar[tuple[Parameter, ...]] = (TRUNCATION, STRIDE)
    has_labels: ClassVar[bool] = False
    """Whether the model's outputs are named by index_to_name.json."""
    needs_offsets: ClassVar[bool] = False
    accepts_tokens: ClassVar[bool] = True
    shares_text: ClassVar[bool] = False
    """Whether an instance is pairs that have a text in common."""
    multiplies: ClassVar[bool] = False
    """Whether far more text may be made of an instance than it has, which `size` tells."""
    segments: ClassVar[tuple[str, ...]] = ("text", "text_pair")
    """What the first and the second text of a sequence are called in explanations."""
    has_decision: ClassVar[bool] = True
    """Whether `decision` says what could be explained."""
    targets_are_texts: ClassVar[bool] = False
    """Whether an explanation's target is an instance of its own, whose prediction `decision` needs."""
    needs_generation: ClassVar[bool] = False
    """Whether rows are answered by `engine.generate` instead of one forward."""
    default_outputs: ClassVar[tuple[str, ...]] = ("predict",)
    """What is sent where neither the settings nor the request choose."""
    padding_side: str = "right"
    """Where padding goes, whatever the tokenizer says.

    At the left it moves the positions of a batch's shorter rows: right for nothing but causal generation.
    """
    sample: Instance = "The quick brown fox jumps over the lazy dog."
    """What the self-test at load sends."""

    def __init__(self, model: Model) -> None:
        self.model = model
        self._by_name = {parameter.name: parameter for parameter in self.parameters}

    @property
    @abstractmethod
    def outputs(self) -> tuple[OutputSpec, ...]:
        """Every output that a request may ask for, `predict` first."""

    @abstractmethod
    def head(self, output: Any, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """Reduce the model's output to what leaves the device; part of the graph on every engine.

        output: transformers' model output.  inputs: int64 tensors (B, L).  Tensor methods only.
        """

    @abstractmethod
    def decode(self, encoded: EncodedExample, rows: Sequence[RowOutputs]) -> Mapping[str, Any]:
        """Turn the graph's outputs for one instance's rows into its outputs by name."""

    @cached_property
    def output_specs(self) -> Mapping[str, OutputSpec]:
        """The outputs by name."""
        return {spec.name: spec for spec in self.outputs}

    def select_outputs(self, names: Sequence[str] | None = None) -> list[OutputSpec]:
        """The outputs of these names, else those that are sent where a request names none.

        Raises ConfigError where the task has no output of a name.
        """
        known = self.output_specs
        try:
            return [known[name] for name in names or self.model.config.outputs or self.default_outputs]
        except KeyError as exc:
            raise ConfigError(unknown(exc.args[0], known, "output")) from exc

    def comparable(self, answer: Any) -> Any:
        """What of a `predict` output must be the same whatever engine has computed it."""
        return answer

    def execute(self, engine: Engine, rows: Sequence[Row], batch: Batch, threads: int) -> Sequence[Outcome]:
        """Run rows of one key, padded into `batch`: one forward, whose outputs are shared out to the rows.

        A row of which an output is not a finite number is refused alone.
        """
        outputs = engine.forward(batch, threads)
        shares = [{name: values[i] for name, values in outputs.items()} for i in range(len(rows))]
        if all(map(is_finite, outputs.values())):
            return shares
        return [share if all(map(is_finite, share.values())) else not_finite(share) for share in shares]

    def streamed(self, encoded: EncodedExample, stream: TextStream) -> EncodedExample:
        """Have the text of one instance put into `stream` as it is generated."""
        raise UnservableError(f"{self.name} does not generate text; only text_generation can be streamed")

    def decision(
        self,
        encoded: EncodedExample,
        rows: Sequence[RowOutputs],
        asked: Sequence[Any],
        references: Sequence[Prediction] = (),
    ) -> Decision:
        """Say which numbers of the graph's outputs explain the instance's answer.

        asked: the targets of the request, none for what the model decided.
        references: the predictions for `asked`, where `targets_are_texts`.
        """
        raise NotImplementedError

    def texts(self, example: Example) -> list[Text]:
        """The sequences of one instance, each a text or a pair."""
        text, pair = example.fields["text"], example.fields.get("text_pair")
        # An empty second text is none, as AutoTokenizer has it.
        return [(text, pair) if pair else text]

    def size(self, example: Example) -> Size:
        """How much text is made of an instance, told without making it; asked where it `multiplies`."""
        raise NotImplementedError

    def truncation(self, example: Example) -> Truncation:
        """What is done with this instance when it is too long."""
        parameters = example.parameters
        return Truncation(parameters["truncation"], self.model.max_length, parameters["stride"], names=self.segments)

    def check_parameters(self, given: Mapping[str, Any], merged: Mapping[str, Any]) -> None:  # noqa: B027
        """Refuse parameters that are wrong together, or for this model.

        given: what a request or the settings say.  merged: all parameters, as they apply.
        Raises RequestError, whose message begins with the name of one.
        """

    # ---- one way for every task -------------------------------------------------------------

    def parse_parameters(self, given: Mapping[str, Any], base: Mapping[str, Any]) -> Mapping[str, Any]:
        """Check request parameters and lay them over `base`; InvalidRequestError names a wrong one."""
        if not given:
            return base
        merged = dict(base)
        for name, value in given.items():
            parameter = self._by_name.get(name)
            if parameter is None and name in EXPLANATION_FIELDS:
                continue
            if parameter is None:
                raise InvalidRequestError(unknown(name, self._requestable(), "parameter", EXPLANATION_FIELDS))
            if not parameter.request:
                raise InvalidRequestError(f"parameter {name} is a setting of the model; a request cannot change it")
            try:
                merged[name] = parameter.parse(value)
            except ValueError as exc:
                raise InvalidRequestError(f"parameter {exc}") from exc
        try:
            self.check_parameters(given, merged)
        except RequestError as exc:
            raise type(exc)(f"parameter {exc}") from exc
        return merged

    def check_settings(self) -> None:
        """Check the parameters that the settings give; ConfigError names a wrong one."""
        settings = self.model.config.parameters
        try:
            self.check_parameters(settings, settings)
        except RequestError as exc:
            raise ConfigError(f"setting {exc}") from exc

    def parse(self, instance: Instance, base: Mapping[str, Any]) -> Example:
        """Check one instance against the task's fields and parameters."""
        if isinstance(instance, Failure):
            raise instance.error
        if isinstance(instance, Tokens):
            if not self.accepts_tokens:
                raise UnservableError(f"{self.name} needs text, not input_ids")
            return Example({}, base, instance)
        if isinstance(instance, str):
            if len(self.fields) > 1:
                raise InvalidRequestError(f"{self.fields[1]} is missing; send {self._form()}")
            return Example({self.fields[0]: self.check_text(self.fields[0], instance)}, base)
        return self._parse_object(instance, base)

    def _parse_object(self, instance: Mapping[str, Any], base: Mapping[str, Any]) -> Example:
        fields, given = {}, {}
        for key, value in instance.items():
            if key in self.fields or key in self.optional_fields:
                fields[key] = value
            elif key in self._by_name:
                given[key] = value
            elif key not in EXPLANATION_FIELDS:
                known = [*self.fields, *self.optional_fields, *self._requestable()]
                raise InvalidRequestError(unknown(key, known, "field", EXPLANATION_FIELDS))
        for name in self.fields:
            if name not in fields:
                raise InvalidRequestError(f"{name} is missing; send {self._form()}")
        fields = {name: self.read_field(name, value) for name, value in fields.items()}
        return Example(fields, self.parse_parameters(given, base))

    def _requestable(self) -> list[str]:
        return [name for name, parameter in self._by_name.items() if parameter.request]

    def read_field(self, name: str, value: Any) -> Any:
        """Check the value of one field, a text in most tasks, and give it its form in `Example.fields`."""
        return self.check_text(name, value)

    def check_size(self, examples: Sequence[Example]) -> Size:
        """The size of a request's instances; RequestTooLargeError where no limit would let them through."""
        n_special = self.model.tokenizer.backend.num_special_tokens_to_add(is_pair=True)
        return check_sizes(map(self.size, examples), n_special, self.model.config.max_request_tokens)

    def encode(self, examples: Sequence[Example], *, offsets: bool = False) -> list[EncodedExample | RequestError]:
        """Tokenize all instances with one tokenizer call; an error takes the place of a refused one.

        offsets: keep character offsets also where the task itself needs none.
        """
        texts: list[Text] = []
        rules: list[Truncation] = []
        spans = []
        for example in examples:
            own = [] if example.tokens is not None else self.texts(example)
            spans.append((len(texts), len(texts) + len(own)))
            texts += own
            rules += [self.truncation(example)] * len(own)
        encoded = self._tokenized(texts, rules, offsets=offsets or self.needs_offsets) if texts else []
        return [self._assemble(example, encoded[start:end]) for example, (start, end) in zip(examples, spans)]

    def encode_one(self, example: Example, *, offsets: bool = False) -> EncodedExample:
        """Tokenize one instance; its RequestError is raised."""
        (encoded,) = self.encode([example], offsets=offsets)
        if isinstance(encoded, RequestError):
            raise encoded
        return encoded

    def _tokenized(
        self, texts: Sequence[Text], rules: Sequence[Truncation], *, offsets: bool
    ) -> list[Encoded | RequestTooLargeError]:
        if self.shares_text and not offsets:
            return self.model.tokenizer.encode_pairs(cast("Sequence[tuple[str, str]]", texts), rules)
        return self.model.tokenizer.encode(texts, rules, offsets=offsets)

    def _assemble(
        self, example: Example, encoded: Sequence[Encoded | RequestTooLargeError]
    ) -> EncodedExample | RequestError:
        try:
            if example.tokens is not None:
                encoded = [self.model.tokenizer.from_tokens(example.tokens, self.model.max_length)]
            sequences = []
            for item in encoded:
                if isinstance(item, RequestError):
                    return item
                self._check_size(example, item.n_tokens)
                sequences.append(item)
            if len(sequences) > 1:
                self._check_rows(sum(len(sequence.windows) for sequence in sequences))
            rows = [row for sequence in sequences for row in self.rows(example, sequence)]
            self._check_rows(len(rows))
        except RequestError as exc:
            return exc
        return EncodedExample(example, [sequence.released() for sequence in sequences], rows)

    def rows(self, example: Example, sequence: Encoded) -> list[Row]:
        """The engine rows of one sequence, one a window; InvalidRequestError where it has no token at all."""
        if not sequence.n_tokens:
            raise InvalidRequestError(f"{self.fields[0]} is empty: this model makes no token of it")
        return [Row(sequence.inputs(i), len(kept)) for i, kept in enumerate(sequence.windows)]

    def unpadded(self, values: NDArray[Any], n_tokens: int) -> NDArray[Any]:
        """Cut an output that has one entry a token to the row's own `n_tokens` tokens."""
        return values[:n_tokens] if self.padding_side == "right" else values[len(values) - n_tokens :]

    def predict(self, encoded: EncodedExample, rows: Sequence[RowOutputs]) -> Prediction:
        """The prediction for one instance from its rows' outputs."""
        return Prediction(self.decode(encoded, rows), encoded.n_tokens, encoded.truncated)

    def _check_size(self, example: Example, n_tokens: int) -> None:
        limit = self.model.config.max_input_tokens
        if n_tokens <= limit:
            return
        if example.tokens is not None:
            counted = "input_ids has"
        else:
            counted = self.truncation(example).counted(pair=isinstance(self.texts(example)[0], tuple))
        raise RequestTooLargeError(f"{counted} {n_tokens} tokens; max_input_tokens is {limit}")

    def _check_rows(self, n_rows: int) -> None:
        # A queue that is empty takes any number: one instance of many windows could hold it for long.
        limit = self.model.config.max_queue_rows
        if n_rows > limit:
            raise RequestTooLargeError(f"the instance needs {n_rows} sequences; max_queue_rows is {limit}")

    def check_text(self, name: str, value: Any) -> str:
        """The text itself.  Raises RequestTooLargeError where it is too long, InvalidRequestError where it is none."""
        if not isinstance(value, str):
            raise InvalidRequestError(f"{name} must be a string, not {describe(value)}")
        limit = self.model.config.max_input_chars
        if len(value) > limit:
            raise RequestTooLargeError(f"{name} has {len(value)} characters; max_input_chars is {limit}")
        check_unicode(name, value, InvalidRequestError)
        return value

    def _form(self) -> str:
        return "{" + ", ".join(f'"{name}": ...' for name in self.fields) + "}"


def not_finite(share: RowOutputs) -> UnservableError:
    """The refusal of a row of whose outputs one is no finite number."""
    nan = any(values.dtype.kind == "f" and np.isnan(values).any() for values in share.values())
    return UnservableError(NOT_A_NUMBER if nan else NOT_FINITE)
