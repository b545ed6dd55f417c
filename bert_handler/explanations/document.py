"""The answer: one JSON document an instance, with TorchServe's keys and what it lacks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bert_handler.decisions import Decision, Target
from bert_handler.explanations.methods import Attribution
from bert_handler.explanations.words import Word
from bert_handler.schema import FloatArray


@dataclass(frozen=True)
class Part:
    """One part of a target, over the whole sequence: an importance a word, and the windows' attributions."""

    importances: FloatArray
    attributions: Sequence[Attribution]

    def fields(self, suffix: str) -> dict[str, Any]:
        """The keys of the answer; `suffix` says which end of an answer."""
        own = f"_answer_{suffix}" if suffix else ""
        end = f"_{suffix}" if suffix else ""
        return {
            f"importances{own}": [float(value) for value in self.importances],
            f"delta{end}": sum(item.delta for item in self.attributions),
            f"value{end}": sum(item.value for item in self.attributions),
            f"baseline_value{end}": sum(item.baseline_value for item in self.attributions),
        }


@dataclass(frozen=True)
class Explained:
    """One target with the words of its sequence and the importances of its parts."""

    target: Target
    words: Sequence[Word]
    parts: Mapping[str, Part]

    @property
    def attributions(self) -> list[Attribution]:
        return [item for part in self.parts.values() for item in part.attributions]


def document(
    decision: Decision, explained: Sequence[Explained], common: Mapping[str, Any], segments: Sequence[str]
) -> dict[str, Any]:
    """The first target's explanation; `explanations` has all of them where there are several."""
    label, score = decision.label, decision.score
    items = [
        {**_explanation(item, segments), "predicted_label": label, "predicted_score": score, **common}
        for item in explained
    ]
    return {**items[0], "explanations": items} if len(items) > 1 else items[0]


def _explanation(item: Explained, segments: Sequence[str]) -> dict[str, Any]:
    found: dict[str, Any] = {"words": [word.text for word in item.words]}
    for name, part in item.parts.items():
        found.update(part.fields(name))
    found["offsets"] = [None if word.start is None else [word.start, word.end] for word in item.words]
    if any(word.segment for word in item.words):
        found["fields"] = [segments[word.segment] for word in item.words]
    found.update(target=item.target.name, score=item.target.score)
    if item.target.details:
        found["target_place"] = dict(item.target.details)
    found["n_steps"] = max(attribution.n_steps for attribution in item.attributions)
    if not all(attribution.complete for attribution in item.attributions):
        found["deadline_reached"] = True
    return found


class Explanation:
    """One instance's explanation: its JSON document as a mapping, and as a picture in a notebook."""

    def __init__(self, content: Mapping[str, Any]) -> None:
        self.content = content

    def __getitem__(self, key: str) -> Any:
        return self.content[key]

    def __contains__(self, key: object) -> bool:
        return key in self.content

    def __iter__(self) -> Iterator[str]:
        return iter(self.content)

    def __repr__(self) -> str:
        return f"Explanation(target={self['target']!r}, words={len(self['words'])}, method={self['method']!r})"

    def _repr_html_(self) -> str:
        from bert_handler.explanations.page import fragment

        return fragment([self.content])
