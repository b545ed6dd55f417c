"""Text to token ids with the Rust tokenizer alone, one call for a whole batch.

What AutoTokenizer knows beside tokenizer.json (model inputs, lengths, padding) is kept in
tokenizer_spec.json, so that a server needs neither transformers nor torch to tokenize. A directory
without that file is converted when it is loaded, with transformers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Any, Callable, NamedTuple, Union

import numpy as np
import tokenizers

from bert_handler.errors import ConfigError, InvalidRequestError, RequestTooLargeError
from bert_handler.schema import IntArray, Tokens
from bert_handler.tokenization.conversion import convert, set_lower_case
from bert_handler.tokenization.spec import TOKENIZER_SPEC, TokenizerSpec
from bert_handler.tokenization.template import SPECIAL, Template, packed
from bert_handler.tokenization.truncation import Truncation, strided_windows, truncated_window
from bert_handler.tokenization.word_cache import WordCache

TOKENIZER = "tokenizer.json"

Text = Union[str, tuple[str, str]]


class Encoded(NamedTuple):
    """One text, or pair of texts, as the model will see it.

    windows: index vectors into the full encoding, one an engine row; more than one with stride.
    n_tokens: of the whole text, special tokens included.
    encoding: the tokenizer's own, where character offsets are needed.
    """

    full: Mapping[str, IntArray]
    windows: Sequence[IntArray]
    n_tokens: int
    truncated: bool = False
    encoding: tokenizers.Encoding | None = None

    def inputs(self, window: int) -> Mapping[str, IntArray]:
        """The model inputs of one window."""
        if len(self.windows) == 1 and not self.truncated:
            return self.full
        kept = self.windows[window]
        return {name: values[kept] for name, values in self.full.items()}

    def released(self) -> Encoded:
        """Without the tokens that were cut, where no offsets tell of them."""
        n_kept = len(self.windows[0])
        if not self.truncated or self.encoding is not None or n_kept == len(self.full["input_ids"]):
            return self
        return self._replace(full=self.inputs(0), windows=[_places(n_kept)])


class _Shared:
    """Arrays that differ in their length alone: those of most texts are views of one, which nothing can write to."""

    def __init__(self, make: Callable[[int], IntArray]) -> None:
        self._make = make
        self._kept = make(4096)
        self._kept.flags.writeable = False

    def __call__(self, n: int) -> IntArray:
        return self._kept[:n] if n <= len(self._kept) else self._make(n)


_places = _Shared(np.arange)
_ones = _Shared(lambda n: np.ones(n, dtype=np.int64))
_zeros = _Shared(lambda n: np.zeros(n, dtype=np.int64))


class TextTokenizer:
    """The model's fast tokenizer and what the model needs of its output.

    n_types: of tokens, that the model tells apart.
    """

    def __init__(self, tokenizer: tokenizers.Tokenizer, spec: TokenizerSpec, n_types: int = 2) -> None:
        tokenizer.no_padding()
        tokenizer.no_truncation()
        self.spec = spec
        self.backend = tokenizer
        self.n_types = n_types
        self.vocabulary_size = tokenizer.get_vocab_size(with_added_tokens=True)
        self._words = WordCache.of(tokenizer)
        self._encode_fast = getattr(tokenizer, "encode_batch_fast", tokenizer.encode_batch)

    @classmethod
    def load(
        cls,
        directory: Path,
        model_config: Mapping[str, Any],
        do_lower_case: bool | None,
        *,
        trust_remote_code: bool,
    ) -> TextTokenizer:
        """Load from tokenizer_spec.json and tokenizer.json, else convert with transformers."""
        path = directory / TOKENIZER_SPEC
        # Where a config states 0, the model reads none, whatever they are.
        n_types = min(2, int(model_config.get("type_vocab_size") or 2))
        if path.is_file():
            backend, spec = _read_tokenizer(directory / TOKENIZER), TokenizerSpec.read(path)
            if do_lower_case not in (None, spec.do_lower_case):
                spec = set_lower_case(backend, spec, bool(do_lower_case))
            return cls(backend, spec, n_types)
        return cls(*convert(directory, model_config, do_lower_case, trust_remote_code=trust_remote_code), n_types)

    def encode(
        self, texts: Sequence[Text], truncations: Sequence[Truncation], *, offsets: bool = False
    ) -> list[Encoded | RequestTooLargeError]:
        """Tokenize all texts in one call, and their new words in one, and cut or window what is too long.

        offsets: whether character offsets are needed; without them the call is faster.
        An error takes the place of a text that may not be cut.
        """
        known = [None] * len(texts) if offsets else self._known(texts, truncations)
        left = [text for text, item in zip(texts, known) if item is None]
        call = self.backend.encode_batch if offsets else self._encode_fast
        encodings = iter(call(left, add_special_tokens=True) if left else ())
        return [
            self._window(next(encodings), rule, offsets=offsets) if item is None else item
            for item, rule in zip(known, truncations)
        ]

    def encode_pairs(
        self, pairs: Sequence[tuple[str, str]], truncations: Sequence[Truncation]
    ) -> list[Encoded | RequestTooLargeError]:
        """As `encode` has them, but a text that several pairs share is tokenized once."""
        template = self._pair_template
        if template is None:
            return self.encode(pairs, truncations)
        ids = self._ids(list(dict.fromkeys(chain.from_iterable(pairs))))
        return [
            self._pair(template, [ids[first], ids[second]], rule) for (first, second), rule in zip(pairs, truncations)
        ]

    @cached_property
    def _pair_template(self) -> Template | None:
        """None for a tokenizer that makes of pairs what cannot be told from their texts alone."""
        template = Template.of(self.backend.encode("a", "b"))
        return template if sorted(text for text in template.texts if text != SPECIAL) == [0, 1] else None

    def _ids(self, texts: Sequence[str]) -> dict[str, bytes]:
        known = [None] * len(texts) if self._words is None else self._words.ids(texts)
        left = [text for text, ids in zip(texts, known) if ids is None]
        encodings = iter(self._encode_fast(left, add_special_tokens=False) if left else ())
        return {text: packed(next(encodings).ids) if ids is None else ids for text, ids in zip(texts, known)}

    def _pair(self, template: Template, texts: Sequence[bytes], rule: Truncation) -> Encoded | RequestTooLargeError:
        whole = self._whole(*template.fill(texts))
        if rule.fits(whole.n_tokens):
            return whole
        found = self._cut(whole, template.sequence_ids(texts), rule)
        # What was cut would be kept once a pair.
        return found.released() if isinstance(found, Encoded) else found

    def _known(self, texts: Sequence[Text], truncations: Sequence[Truncation]) -> list[Encoded | None]:
        """Texts of known words that need not be cut; None for the others."""
        if self._words is None:
            return [None] * len(texts)
        return [
            self._whole(item.ids, item.type_ids) if item is not None and rule.fits(len(item.ids)) else None
            for item, rule in zip(self._words.encode(texts), truncations)
        ]

    def join(self, tokens: Sequence[str]) -> str:
        """The text that tokens stand for, as the tokenizer's own decoder joins them."""
        decoder = self.backend.decoder
        return " ".join(tokens) if decoder is None else str(decoder.decode(list(tokens)))

    def from_tokens(self, tokens: Tokens, max_length: int | None) -> Encoded:
        """Check what a client tokenized itself; padding at either end is removed: a head that reads the first
        token would read it.

        Raises InvalidRequestError on wrong names or ids, RequestTooLargeError on too many tokens.
        """
        given = dict(tokens.inputs)
        ids = given.get("input_ids")
        if ids is None:
            raise InvalidRequestError("input_ids is missing; a tokenized input has at least input_ids")
        unknown_names = sorted(set(given) - {"input_ids", "attention_mask", "token_type_ids"})
        if unknown_names:
            raise InvalidRequestError(
                f"input {unknown_names[0]!r} is unknown; this model takes {', '.join(self.spec.input_names)}"
            )
        mask = given.setdefault("attention_mask", np.ones_like(ids))
        if any(values.shape != ids.shape for values in given.values()):
            raise InvalidRequestError("input_ids, attention_mask and token_type_ids must have the same shape")
        if not len(ids) or not mask.any():
            raise InvalidRequestError("input_ids has no token that attention_mask keeps")
        if ids.min() < 0 or ids.max() >= self.vocabulary_size:
            raise InvalidRequestError(f"input_ids must be between 0 and {self.vocabulary_size - 1}")
        if not np.isin(mask, (0, 1)).all():
            raise InvalidRequestError("attention_mask must hold 0 and 1 only")
        types = given.setdefault("token_type_ids", np.zeros_like(ids))
        known = range(self.n_types)
        if not np.isin(types, known).all():
            raise InvalidRequestError(f"token_type_ids must hold {' and '.join(map(str, known))} only")
        kept = np.flatnonzero(mask)
        start, end = int(kept[0]), int(kept[-1]) + 1
        length = end - start
        if max_length is not None and length > max_length:
            raise RequestTooLargeError(f"input_ids has {length} tokens; this model takes at most {max_length}")
        inputs = {name: given[name][start:end] for name in self.spec.input_names if name in given}
        return Encoded(inputs, [np.arange(length)], length)

    def _whole(
        self,
        ids: IntArray | Sequence[int],
        type_ids: IntArray | Sequence[int] | None,
        encoding: tokenizers.Encoding | None = None,
    ) -> Encoded:
        """A text that need not be cut.  type_ids: None where all are 0."""
        length = len(ids)
        arrays = {}
        for name in self.spec.input_names:
            if name == "input_ids":
                arrays[name] = np.asarray(ids, dtype=np.int64)
            elif name == "attention_mask":
                arrays[name] = _ones(length)
            elif name == "token_type_ids":
                # A model of one type was trained with it for both texts, and has no embedding for another.
                told = type_ids is not None and self.n_types > 1
                arrays[name] = np.asarray(type_ids, dtype=np.int64) if told else _zeros(length)
        return Encoded(arrays, [_places(length)], length, encoding=encoding)

    def _window(
        self, encoding: tokenizers.Encoding, rule: Truncation, *, offsets: bool
    ) -> Encoded | RequestTooLargeError:
        whole = self._whole(encoding.ids, encoding.type_ids, encoding if offsets else None)
        if rule.fits(whole.n_tokens):
            return whole
        return self._cut(whole, np.array([SPECIAL if item is None else item for item in encoding.sequence_ids]), rule)

    def _cut(self, whole: Encoded, sequence_ids: IntArray, rule: Truncation) -> Encoded | RequestTooLargeError:
        """Cut or window a text that does not fit.  sequence_ids: of each token its text, SPECIAL for none."""
        if rule.mode == "error":
            counted = rule.counted(pair=bool((sequence_ids == 1).any()))
            return RequestTooLargeError(
                f"{counted} {whole.n_tokens} tokens; this model takes at most {rule.max_length} "
                "(set the parameter truncation to have it cut)"
            )
        try:
            if rule.mode == "stride":
                return whole._replace(windows=strided_windows(sequence_ids, rule))
            kept = truncated_window(sequence_ids, rule, rule.side or self.spec.truncation_side)
            return whole._replace(windows=[kept], truncated=True)
        except RequestTooLargeError as exc:
            return exc


def _read_tokenizer(path: Path) -> tokenizers.Tokenizer:
    try:
        return tokenizers.Tokenizer.from_file(str(path))
    except Exception as exc:  # the Rust side raises no other class
        raise ConfigError(f"{path.name} cannot be read: {exc}") from exc
