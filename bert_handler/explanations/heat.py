"""What every picture of an explanation shows: views with words and signed weights between -1 and 1."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

TOP_WORDS = 10
PARTS = {"": "", "_answer_start": "start of ", "_answer_end": "end of "}


@dataclass(frozen=True)
class Cell:
    """One word: its importance, that as a share of the strongest, and whether a space stands before it."""

    text: str
    importance: float
    weight: float
    spaced: bool
    field: str = ""


@dataclass(frozen=True)
class View:
    """One heat map: a target, or one end of an answer."""

    title: str
    facts: Mapping[str, str]
    cells: Sequence[Cell]

    @property
    def top(self) -> list[Cell]:
        """The words with most influence, the strongest first; a repeated word counts each time."""
        ordered = sorted(self.cells, key=lambda cell: -abs(cell.importance))
        return [cell for cell in ordered if cell.importance][:TOP_WORDS]


def views(document: Mapping[str, Any]) -> Iterator[View]:
    """Every heat map of one instance's document."""
    for explanation in document.get("explanations", [document]):
        for suffix, prefix in PARTS.items():
            if f"importances{suffix}" in explanation:
                yield _view(explanation, suffix, prefix)


def _view(explanation: Mapping[str, Any], suffix: str, prefix: str) -> View:
    importances = explanation[f"importances{suffix}"]
    strongest = max((abs(value) for value in importances), default=0.0) or 1.0
    offsets: Any = explanation["offsets"]
    fields: Any = explanation.get("fields")
    cells = []
    for i, (word, value) in enumerate(zip(explanation["words"], importances)):
        new_field = fields is not None and (i == 0 or fields[i] != fields[i - 1])
        gap = i > 0 and (None in (offsets[i], offsets[i - 1]) or offsets[i][0] > offsets[i - 1][1])
        apart = i > 0 and (new_field or gap)
        cells.append(Cell(word, value, value / strongest, apart, fields[i] if new_field and fields else ""))
    facts = {
        "score": _number(explanation.get("score")),
        "predicted": f"{explanation['predicted_label']} {_number(explanation.get('predicted_score'))}".strip(),
        "method": str(explanation["method"]).replace("_", " "),
        "baseline": str(explanation["baseline"]),
        "steps": str(explanation["n_steps"]),
        "delta": _number(explanation[f"delta{suffix.replace('_answer', '')}"]),
    }
    return View(f"{prefix}{explanation['target']}", {name: value for name, value in facts.items() if value}, cells)


def _number(value: Any) -> str:
    return "" if value is None else f"{value:.3f}".replace("-0.000", "0.000")
