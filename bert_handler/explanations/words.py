"""Tokens to words: what an explanation shows, and where it stands in the texts as sent."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from bert_handler.schema import FloatArray, IntArray
from bert_handler.tokenization import Encoded, TextTokenizer


@dataclass(frozen=True)
class Word:
    """One word of a sequence.

    tokens: indices into the full encoding.  segment: 0 or 1, the first or second text.
    start, end: characters of that text; None where the client sent tokens.
    """

    text: str
    tokens: Sequence[int]
    segment: int = 0
    start: int | None = None
    end: int | None = None


def words_of(sequence: Encoded, texts: Sequence[str], tokenizer: TextTokenizer) -> list[Word]:
    """The words of a sequence, special tokens excepted.

    texts: the sequence's texts as they were tokenized.
    """
    encoding = sequence.encoding
    if encoding is None:
        special = set(tokenizer.spec.special_ids)
        ids = sequence.full["input_ids"].tolist()
        return [Word(str(tokenizer.backend.id_to_token(id_)), [i]) for i, id_ in enumerate(ids) if id_ not in special]
    kept = set(np.concatenate(list(sequence.windows)).tolist())
    groups: dict[tuple[int, int], list[int]] = {}
    for i, (segment, word) in enumerate(zip(encoding.sequence_ids, encoding.word_ids)):
        if segment is not None and i in kept and not encoding.special_tokens_mask[i]:
            groups.setdefault((segment, -i - 1 if word is None else word), []).append(i)
    words = [_word(segment, tokens, encoding.offsets, texts[segment]) for (segment, _), tokens in groups.items()]
    return _joined(words)


def _word(segment: int, tokens: list[int], offsets: Sequence[tuple[int, int]], text: str) -> Word:
    start, end = offsets[tokens[0]][0], offsets[tokens[-1]][1]
    # Byte-level and Unigram tokens carry the space before them.
    while start < end and text[start].isspace():
        start += 1
    return Word(text[start:end], tokens, segment, start, end)


def _joined(words: Sequence[Word]) -> list[Word]:
    """Give the tokens of a lone space to the word before it."""
    joined: list[Word] = []
    for word in words:
        last = joined[-1] if joined else None
        if last is not None and not word.text and last.segment == word.segment:
            joined[-1] = replace(last, tokens=[*last.tokens, *word.tokens])
        else:
            joined.append(word)
    return joined


def per_word(words: Sequence[Word], tokens: FloatArray) -> FloatArray:
    """Sum the tokens' values, float (n_tokens,), to one value a word."""
    return np.array([float(tokens[list(word.tokens)].sum()) for word in words], dtype=np.float32)


def places(words: Sequence[Word], window: IntArray) -> list[IntArray]:
    """Where each word's tokens are in a window, int64 vectors; empty for a word that it lacks."""
    position = {int(token): i for i, token in enumerate(window)}
    return [np.array([position[t] for t in word.tokens if t in position], dtype=np.int64) for word in words]
