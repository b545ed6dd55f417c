"""Where a tokenizer puts its special tokens around a text, or around two."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import NamedTuple

import numpy as np
import tokenizers

from bert_handler.schema import IntArray

SPECIAL = -1
_ID_BYTES = 8


class TokenIds(NamedTuple):
    """One text, or pair of texts, with its special tokens: int64 vectors.  type_ids: None where all are 0."""

    ids: IntArray
    type_ids: IntArray | None


class Template(NamedTuple):
    """Runs of tokens, in their order.

    texts: of each run, which text's tokens it is, 0 or 1; SPECIAL for special tokens.
    ids: of its special tokens, int64 as bytes.
    type_ids: of each run; None where all are 0.
    """

    texts: list[int]
    ids: list[bytes]
    type_ids: list[int] | None

    @classmethod
    def of(cls, encoding: tokenizers.Encoding) -> Template:
        """The template by which one word, or two, were encoded."""
        sequence_ids = (SPECIAL if text is None else text for text in encoding.sequence_ids)
        tokens = zip(sequence_ids, encoding.type_ids, encoding.ids)
        runs = groupby(tokens, key=lambda token: token[:2])
        found = [(text, type_id, packed([token[2] for token in run])) for (text, type_id), run in runs]
        type_ids = [type_id for _, type_id, _ in found]
        return cls([text for text, _, _ in found], [ids for _, _, ids in found], type_ids if any(type_ids) else None)

    def fill(self, texts: Sequence[bytes]) -> TokenIds:
        """Put the special tokens around texts, whose ids are int64 as bytes."""
        runs = self._runs(texts)
        ids = np.frombuffer(b"".join(runs), dtype=np.int64)
        return TokenIds(ids, None if self.type_ids is None else _repeated(self.type_ids, runs))

    def sequence_ids(self, texts: Sequence[bytes]) -> IntArray:
        """Of each token the text that it belongs to, int64; SPECIAL for none."""
        return _repeated(self.texts, self._runs(texts))

    def _runs(self, texts: Sequence[bytes]) -> list[bytes]:
        return [special if text == SPECIAL else texts[text] for text, special in zip(self.texts, self.ids)]


def packed(ids: Sequence[int]) -> bytes:
    """Ids as the bytes of an int64 vector: those of several texts are joined in one step."""
    return np.array(ids, dtype=np.int64).tobytes()


def _repeated(values: Sequence[int], runs: Sequence[bytes]) -> IntArray:
    return np.repeat(values, [len(run) // _ID_BYTES for run in runs])
