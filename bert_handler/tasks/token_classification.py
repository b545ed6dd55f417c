"""Label the tokens of a text and gather them into entities that point into the text."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bert_handler.decisions import Decision, Probe, Target
from bert_handler.errors import InvalidRequestError
from bert_handler.parameters import Parameter, unknown
from bert_handler.schema import FloatArray, OutputSpec, Prediction
from bert_handler.scores import softmax
from bert_handler.tasks.base import STRIDE, TRUNCATION, RowOutputs, Task
from bert_handler.tasks.instances import EncodedExample
from bert_handler.tasks.windows import deciding_windows
from bert_handler.tokenization import Encoded

BoolArray = NDArray[np.bool_]

STRATEGIES = ("none", "simple", "first", "average", "max")


@dataclass(frozen=True)
class Token:
    """One token of the text; its label is that of its highest score.

    index: in the encoded text, special tokens included.  start, end: characters of the text as sent.
    continues: whether it belongs to the word of the token before it.
    """

    index: int
    text: str
    start: int
    end: int
    scores: FloatArray
    continues: bool


@dataclass(frozen=True)
class Piece:
    """Neighbouring tokens that have one label together.  index: the label's, for several may have one name."""

    tokens: Sequence[Token]
    label: str
    index: int
    score: float


class TokenClassification(Task):
    """Entities with character offsets; `aggregation_strategy` says how tokens become entities.

    none: each token alone.  simple: neighbours of one label.  first, average, max: words first take
    the label of their first token, of the average, or of their surest token.
    """

    name = "token_classification"
    model_class = "AutoModelForTokenClassification"
    architectures = ("ForTokenClassification",)
    has_labels = True
    needs_offsets = True
    accepts_tokens = False
    parameters = (
        Parameter("aggregation_strategy", str, "simple", "how tokens become entities", choices=STRATEGIES),
        Parameter("ignore_labels", list, ["O"], "labels, or entity groups, that are left out"),
        TRUNCATION,
        STRIDE,
    )

    @property
    def outputs(self) -> tuple[OutputSpec, ...]:
        return (OutputSpec("predict", "BYTES"),)

    def head(self, output: Any, inputs: Mapping[str, Any]) -> dict[str, Any]:
        return {"logits": output.logits.float()}

    def decode(self, encoded: EncodedExample, rows: Sequence[RowOutputs]) -> Mapping[str, Any]:
        parameters = encoded.example.parameters
        tokens = self._tokens(encoded.example.fields["text"], encoded.sequences[0], rows)
        entities = self._entities(tokens, parameters)
        if parameters["aggregation_strategy"] == "none":
            return {"predict": [self._token(piece) for [piece] in entities]}
        return {"predict": [self._entity(group) for group in entities]}

    def decision(
        self,
        encoded: EncodedExample,
        rows: Sequence[RowOutputs],
        asked: Sequence[Any],
        references: Sequence[Prediction] = (),
    ) -> Decision:
        """Each entity by the mean logit of its tokens' labels; without any, the likeliest one."""
        sequence, parameters = encoded.sequences[0], encoded.example.parameters
        tokens = list(self._tokens(encoded.example.fields["text"], sequence, rows))
        if not tokens:
            raise InvalidRequestError("text has no token that could be labelled")
        entities = list(self._entities(tokens, parameters))
        if not asked:
            labels = [label for label in self.model.labels.names if not _is_ignored(label, parameters)]
            chosen = entities or [[self._likeliest(tokens, labels or self.model.labels.names)]]
        else:
            chosen = [group for item in asked for group in self._asked(item, entities, tokens)]
        targets = [self._target(group, sequence) for group in chosen]
        return Decision(targets[0].name if entities else "O", targets[0].score if entities else None, targets)

    def _entities(self, tokens: Iterable[Token], parameters: Mapping[str, Any]) -> Iterator[Sequence[Piece]]:
        """What the answer lists: groups of pieces, each token its own without aggregation."""
        strategy = parameters["aggregation_strategy"]
        pieces = map(self._alone, tokens) if strategy in ("none", "simple") else self._words(tokens, strategy)
        groups = ([piece] for piece in pieces) if strategy == "none" else grouped(pieces)
        return (group for group in groups if not _is_ignored(group[0].label, parameters))

    def _asked(
        self, item: Any, entities: Sequence[Sequence[Piece]], tokens: Sequence[Token]
    ) -> Sequence[Sequence[Piece]]:
        names = self.model.labels.names
        label = names[item] if isinstance(item, int) and 0 <= item < len(names) else item
        own = [name for name in names if label in (name, _type(name))]
        if not own:
            raise InvalidRequestError(f"target: {unknown(str(item), {*names, *map(_type, names)}, 'label')}")
        found = [group for group in entities if group[0].label in own]
        return found or [[self._likeliest(tokens, own)]]

    def _likeliest(self, tokens: Sequence[Token], labels: Sequence[str]) -> Piece:
        indices = [index for index, name in enumerate(self.model.labels.names) if name in labels]
        token = max(tokens, key=lambda token: float(token.scores[indices].max()))
        return self._piece([token], token.scores, indices[int(token.scores[indices].argmax())])

    def _target(self, group: Sequence[Piece], sequence: Encoded) -> Target:
        n_tokens = sum(len(piece.tokens) for piece in group)
        deciding = deciding_windows(sequence)
        weights: dict[int, FloatArray] = {}
        for piece in group:
            for token in piece.tokens:
                row = int(deciding[token.index])
                kept = sequence.windows[row]
                own = weights.setdefault(row, np.zeros((len(kept), len(self.model.labels)), dtype=np.float32))
                own[np.searchsorted(kept, token.index), piece.index] = 1 / n_tokens
        entity = self._entity(group)
        name, score = entity.pop("entity_group"), entity.pop("score")
        return Target(name, {"": [Probe(row, "logits", own) for row, own in weights.items()]}, score, entity)

    def _tokens(self, text: str, sequence: Encoded, rows: Sequence[RowOutputs]) -> Iterator[Token]:
        assert sequence.encoding is not None
        tokenizer, encoding = self.model.tokenizer, sequence.encoding
        ids, offsets = encoding.ids, encoding.offsets
        scores, decided = self._merged(sequence, rows)
        special = np.array(encoding.special_tokens_mask, dtype=bool)
        for index in np.flatnonzero(decided & ~special).tolist():
            start, end = offsets[index]
            token = str(tokenizer.backend.id_to_token(ids[index]))
            if ids[index] == tokenizer.spec.unk_id:
                yield Token(index, text[start:end], start, end, scores[index], continues=False)
            else:
                continues = self._continues(token, text, start)
                yield Token(index, token, start, end, scores[index], continues)

    def _continues(self, token: str, text: str, start: int) -> bool:
        prefix = getattr(self.model.tokenizer.backend.model, "continuing_subword_prefix", None)
        if prefix:
            return token.startswith(prefix)
        # Only WordPiece marks what continues a word; elsewhere a word begins behind a space.
        return start > 0 and " " not in text[start - 1 : start + 1]

    def _merged(self, sequence: Encoded, rows: Sequence[RowOutputs]) -> tuple[FloatArray, BoolArray]:
        """Scores float32 (n_tokens, n_labels) of the whole text, and which of its tokens have any."""
        deciding = deciding_windows(sequence)
        scores = np.zeros((sequence.n_tokens, len(self.model.labels)), dtype=np.float32)
        for i, (kept, row) in enumerate(zip(sequence.windows, rows)):
            own = deciding[kept] == i
            scores[kept[own]] = softmax(self.unpadded(row["logits"], len(kept))[own])
        return scores, deciding >= 0

    def _alone(self, token: Token) -> Piece:
        return self._piece([token], token.scores, int(token.scores.argmax()))

    def _piece(self, tokens: Sequence[Token], scores: FloatArray, label: int) -> Piece:
        return Piece(tokens, self.model.labels[label], label, float(scores[label]))

    def _words(self, tokens: Iterable[Token], strategy: str) -> Iterator[Piece]:
        word: list[Token] = []
        for token in tokens:
            if word and not token.continues:
                yield self._word(word, strategy)
                word = []
            word.append(token)
        if word:
            yield self._word(word, strategy)

    def _word(self, tokens: Sequence[Token], strategy: str) -> Piece:
        if strategy == "first":
            scores = tokens[0].scores
        elif strategy == "max":
            scores = max((token.scores for token in tokens), key=lambda scores: float(scores.max()))
        else:
            scores = np.mean([token.scores for token in tokens], axis=0, dtype=np.float32)
        return self._piece(list(tokens), scores, int(scores.argmax()))

    def _token(self, piece: Piece) -> dict[str, Any]:
        token = piece.tokens[0]
        return {
            "entity": piece.label,
            "score": piece.score,
            "index": token.index,
            "word": token.text,
            "start": token.start,
            "end": token.end,
        }

    def _entity(self, group: Sequence[Piece]) -> dict[str, Any]:
        tokens = [token for piece in group for token in piece.tokens]
        return {
            "entity_group": _group(group[0].label),
            "score": sum(piece.score for piece in group) / len(group),
            "word": self.model.tokenizer.join([token.text for token in tokens]),
            "start": tokens[0].start,
            "end": tokens[-1].end,
        }


def grouped(pieces: Iterable[Piece]) -> Iterator[list[Piece]]:
    """Gather neighbours of one type: B- begins an entity, I- and labels without either go on."""
    group: list[Piece] = []
    for piece in pieces:
        if group and (piece.label.startswith("B-") or _type(piece.label) != _type(group[-1].label)):
            yield group
            group = []
        group.append(piece)
    if group:
        yield group


def _is_ignored(label: str, parameters: Mapping[str, Any]) -> bool:
    """Whether `ignore_labels` has the name that the answer gives this label: as in the pipeline, no other counts."""
    name = label if parameters["aggregation_strategy"] == "none" else _group(label)
    return name in parameters["ignore_labels"]


def _group(label: str) -> str:
    return label.split("-", 1)[-1]


def _type(label: str) -> str:
    return label[2:] if label.startswith(("B-", "I-")) else label
