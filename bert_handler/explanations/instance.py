"""The explanation of one encoded instance: its targets, their rows, and the way back to words."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from bert_handler.decisions import Probe, Target
from bert_handler.explanations.clock import Clock
from bert_handler.explanations.document import Explained, Part
from bert_handler.explanations.methods import Method, Question
from bert_handler.explanations.options import Options
from bert_handler.explanations.words import Word, per_word, places, words_of
from bert_handler.schema import IntArray
from bert_handler.tasks.base import Task
from bert_handler.tasks.instances import EncodedExample


class InstanceExplanation:
    """The explanation of one encoded instance, target by target."""

    def __init__(
        self, encoded: EncodedExample, targets: Sequence[Target], options: Options, method: Method, task: Task
    ) -> None:
        self._encoded = encoded
        self.options = options
        self._method = method
        self._task = task
        # The sequence and the window of each row.
        self._home = [(sequence, kept) for sequence in encoded.sequences for kept in sequence.windows]
        self._known: dict[int, dict[Probe, Sequence[float] | None]] = {}
        # What is still to be computed, and shares what is left of the time.
        self._pieces: dict[Hashable, None] = {}
        for probe in (probe for target in targets for probes in target.parts.values() for probe in probes):
            self._known.setdefault(probe.row, {})[probe] = None
            self._pieces[self._piece(probe)] = None
        self._filler = self._baseline_text(max((row.length for row in encoded.rows), default=0))

    def explain(self, target: Target, clock: Clock) -> Explained:
        """Attribute every part of a target, in its share of the time that is left."""
        first = next(iter(target.parts.values()))[0]
        sequence = self._home[first.row][0]
        texts = self._texts(first.row)
        words = self._in_text(words_of(sequence, texts, self._task.model.tokenizer), texts)
        parts = {}
        for name, probes in target.parts.items():
            tokens = np.zeros(sequence.n_tokens, dtype=np.float32)
            attributions = []
            # The windows' deltas add up.
            options = replace(self.options, tolerance=self.options.tolerance / len(probes))
            for probe in probes:
                share = clock.share(max(1, len(self._pieces)))
                found = self._method.attribute(self._question(probe, words), options, share)
                self._pieces.pop(self._piece(probe), None)
                tokens[self._home[probe.row][1]] += found.tokens
                attributions.append(found)
            parts[name] = Part(per_word(words, tokens), attributions)
        return Explained(target, words, parts)

    def _piece(self, probe: Probe) -> Hashable:
        return probe.row if self._method.answers_rows else probe

    def _texts(self, row: int) -> Sequence[str]:
        if self._encoded.example.tokens is not None:
            return ()
        index = [id(sequence) for sequence in self._encoded.sequences].index(id(self._home[row][0]))
        text = self._task.texts(self._encoded.example)[index]
        return (text,) if isinstance(text, str) else text

    def _in_text(self, words: Sequence[Word], texts: Sequence[str]) -> list[Word]:
        """Count characters from the text as sent: some tasks put a prompt before it, whose words have no place."""
        sent = self._encoded.example.fields.get("text")
        shift = len(texts[0]) - len(sent) if texts and isinstance(sent, str) and texts[0].endswith(sent) else 0
        return [_shifted(word, shift) if shift and word.segment == 0 else word for word in words]

    def _question(self, probe: Probe, words: Sequence[Word]) -> Question:
        row = self._encoded.rows[probe.row]
        own = places(words, self._home[probe.row][1])
        replaced = np.zeros(row.length, dtype=bool)
        replaced[np.concatenate([*own, np.empty(0, dtype=np.int64)])] = True
        baseline = self._baseline_ids(row.inputs["input_ids"], replaced)
        return Question(row, probe, self._known[probe.row], baseline, replaced, own)

    def _baseline_ids(self, ids: IntArray, replaced: NDArray[np.bool_]) -> IntArray | None:
        spec = self._task.model.tokenizer.spec
        kind = self.options.baseline
        if kind == "zero":
            return None
        filler = spec.mask_id if kind == "mask" and spec.mask_id is not None else spec.pad_id
        baseline = np.where(replaced, filler, ids)
        places = np.flatnonzero(replaced)[: len(self._filler)]
        baseline[places] = self._filler[: len(places)]
        return baseline

    def _baseline_text(self, most: int) -> IntArray:
        """The tokens of the text that takes the words' places, `most` of them; none without one."""
        if self.options.baseline != "text":
            return np.empty(0, dtype=np.int64)
        backend = self._task.model.tokenizer.backend
        ids = backend.encode(str(self.options.baseline_text), add_special_tokens=False).ids
        return np.array(ids[:most], dtype=np.int64)


def _shifted(word: Word, shift: int) -> Word:
    if word.start is None or word.end is None or word.start < shift:
        return replace(word, start=None, end=None)
    return replace(word, start=word.start - shift, end=word.end - shift)
