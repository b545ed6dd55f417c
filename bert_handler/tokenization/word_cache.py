"""Token ids of words that were tokenized before, for the tokenizers of BERT.

WordPiece looks at one word at a time, and few words of a text are new: looking them up is sooner done
than to follow each character from the text to its token, which only offsets need.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from itertools import groupby, islice
from string import punctuation
from typing import Any, NamedTuple

import numpy as np
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

from bert_handler.schema import IntArray

MAX_WORDS = 32768
"""Beyond these all are forgotten: about 8 MB."""
MAX_CHARACTERS = 64
"""Of a word that is kept."""
MAX_TEXT = 8192
"""Characters of a text.  The tokenizer reads longer ones without the interpreter's lock, and most are cut."""
LEARNED_A_TEXT = 4
"""A text of many new words, a list of numbers for instance, is not worth to be learned."""

_BY_TEMPLATE = (processors.TemplateProcessing, processors.BertProcessing, processors.RobertaProcessing)
_LETTERS = "A-Za-z0-9\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u00ff"
_WORD = re.compile(f"[{_LETTERS}]+|[^ \t\n\r{_LETTERS}]")
_WESTERN = re.compile(f"[\x00-\x7f{_LETTERS}\u2010-\u2027]*")
"""ASCII, the letters of Latin-1, dashes and curly quotes: none of these changes by what stands beside it."""


class Known(NamedTuple):
    """One text, or pair of texts, with its special tokens: int64 vectors.  type_ids: None where all are 0."""

    ids: IntArray
    type_ids: IntArray | None


class _Template(NamedTuple):
    """Where special tokens stand around a text, or two.

    parts: runs of (text, ids): the tokens of one text, or special tokens where that is None.
    type_ids: of each run; None where all are 0.
    """

    parts: list[tuple[int | None, bytes]]
    type_ids: list[int] | None


class WordCache:
    """The words of Western European texts; others are left to the tokenizer.

    marks: characters by which an added token may be in a text, which no word then tells.
    """

    def __init__(self, tokenizer: Tokenizer, marks: set[str]) -> None:
        self._tokenizer = tokenizer
        self._marks = marks
        self._lowercase: bool = tokenizer.normalizer.lowercase
        self._templates = [_template(tokenizer.encode("a")), _template(tokenizer.encode("a", "b"))]
        self._ids: dict[str, bytes] = {}

    @classmethod
    def of(cls, tokenizer: Tokenizer) -> WordCache | None:
        """The cache of a tokenizer; None for one that does not treat each word on its own."""
        of_bert = (
            isinstance(tokenizer.model, models.WordPiece)
            and isinstance(tokenizer.normalizer, normalizers.BertNormalizer)
            and tokenizer.normalizer.clean_text
            and isinstance(tokenizer.pre_tokenizer, pre_tokenizers.BertPreTokenizer)
            and isinstance(tokenizer.post_processor, _BY_TEMPLATE)
        )
        if not of_bert:
            return None
        added = [token.content for token in tokenizer.get_added_tokens_decoder().values()]
        marks = [set(content).intersection(punctuation) for content in added]
        return cls(tokenizer, set().union(*marks)) if all(marks) else None

    def encode(self, texts: Sequence[str | tuple[str, str]]) -> list[Known | None]:
        """What is known of each text or pair; None for what the tokenizer has to read itself."""
        split = [self._split(text) for text in texts]
        found = [self._found(words) for words in split]
        left = [words for words, item in zip(split, found) if words and item is None]
        if left:
            self._learn({word for words in left for part in words for word in part}, LEARNED_A_TEXT * len(left))
            found = [self._found(words) if item is None else item for words, item in zip(split, found)]
        return found

    def __len__(self) -> int:
        """Words that are known."""
        return len(self._ids)

    def _split(self, text: str | tuple[str, str]) -> list[list[str]]:
        """The words of a text, or of each of two; nothing where one is long or has other characters."""
        if not isinstance(text, str):
            first, second = map(self._split, text)
            return first + second if first and second else []
        if len(text) > MAX_TEXT or not (text.isascii() or _WESTERN.fullmatch(text)):
            return []
        return [_WORD.findall(text.lower() if self._lowercase else text)]

    def _found(self, words: Sequence[Sequence[str]]) -> Known | None:
        if not words:
            return None
        try:
            texts = [b"".join(map(self._ids.__getitem__, part)) for part in words]
        except KeyError:
            return None
        template = self._templates[len(words) - 1]
        runs = [special if text is None else texts[text] for text, special in template.parts]
        ids = np.frombuffer(b"".join(runs), dtype=np.int64)
        if template.type_ids is None:
            return Known(ids, None)
        return Known(ids, np.repeat(template.type_ids, [len(run) // ids.itemsize for run in runs]))

    def _learn(self, words: Iterable[str], at_most: int) -> None:
        unknown = (word for word in words if word not in self._ids and self._stands_alone(word))
        new = list(islice(unknown, min(at_most, MAX_WORDS)))
        if not new:
            return
        if len(self._ids) + len(new) > MAX_WORDS:
            self._ids.clear()
        encodings = self._tokenizer.encode_batch(new, add_special_tokens=False)
        self._ids.update((word, _packed(encoding.ids)) for word, encoding in zip(new, encodings))

    def _stands_alone(self, word: str) -> bool:
        return len(word) <= MAX_CHARACTERS and word.isprintable() and word not in self._marks


def _template(encoding: Any) -> _Template:
    """The template by which one word, or two, were encoded."""
    tokens = zip(encoding.sequence_ids, encoding.type_ids, encoding.ids)
    runs = groupby(tokens, key=lambda token: token[:2])
    found = [(text, type_id, _packed([token[2] for token in run])) for (text, type_id), run in runs]
    type_ids = [type_id for _, type_id, _ in found]
    return _Template([(text, ids) for text, _, ids in found], type_ids if any(type_ids) else None)


def _packed(ids: Sequence[int]) -> bytes:
    """Ids as the bytes of an int64 vector: those of a text's words are joined in one step."""
    return np.array(ids, dtype=np.int64).tobytes()
