"""Token ids of words that were tokenized before, for the tokenizers of BERT.

WordPiece looks at one word at a time, and few words of a text are new: looking them up is sooner done
than to follow each character from the text to its token, which only offsets need.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from itertools import islice
from string import punctuation

from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

from bert_handler.tokenization.template import Template, TokenIds, packed

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


class WordCache:
    """The words of Western European texts; others are left to the tokenizer.

    marks: characters by which an added token may be in a text, which no word then tells.
    """

    def __init__(self, tokenizer: Tokenizer, marks: set[str]) -> None:
        self._tokenizer = tokenizer
        self._marks = marks
        self._lowercase: bool = tokenizer.normalizer.lowercase
        self._templates = [Template.of(tokenizer.encode("a")), Template.of(tokenizer.encode("a", "b"))]
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

    def encode(self, texts: Sequence[str | tuple[str, str]]) -> list[TokenIds | None]:
        """What is known of each text or pair; None for what the tokenizer has to read itself."""
        found = self._looked_up([self._split(text) for text in texts])
        return [None if parts is None else self._templates[len(parts) - 1].fill(parts) for parts in found]

    def ids(self, texts: Sequence[str]) -> list[bytes | None]:
        """The same of texts without special tokens: int64 as bytes."""
        found = self._looked_up([self._split(text) for text in texts])
        return [None if parts is None else parts[0] for parts in found]

    def _looked_up(self, split: Sequence[list[list[str]]]) -> list[list[bytes] | None]:
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

    def _found(self, words: Sequence[Sequence[str]]) -> list[bytes] | None:
        if not words:
            return None
        try:
            return [b"".join(map(self._ids.__getitem__, part)) for part in words]
        except KeyError:
            return None

    def _learn(self, words: Iterable[str], at_most: int) -> None:
        unknown = (word for word in words if word not in self._ids and self._stands_alone(word))
        new = list(islice(unknown, min(at_most, MAX_WORDS)))
        if not new:
            return
        if len(self._ids) + len(new) > MAX_WORDS:
            self._ids.clear()
        encodings = self._tokenizer.encode_batch(new, add_special_tokens=False)
        self._ids.update((word, packed(encoding.ids)) for word, encoding in zip(new, encodings))

    def _stands_alone(self, word: str) -> bool:
        return len(word) <= MAX_CHARACTERS and word.isprintable() and word not in self._marks
