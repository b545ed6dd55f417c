"""What a request for explanations can ask."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from bert_handler import jsonio
from bert_handler.errors import InvalidRequestError
from bert_handler.parameters import Parameter, check_unicode, describe, whole_number
from bert_handler.tasks.explanation_parameters import EXPLANATION_FIELDS, EXPLANATION_PARAMETERS

MAX_STEPS = 1000
MAX_TARGETS = 16

_DEFAULTS = {parameter.name: parameter.default for parameter in EXPLANATION_PARAMETERS}
_BY_NAME = {parameter.name: parameter for parameter in EXPLANATION_PARAMETERS}


@dataclass(frozen=True)
class Options:
    """One instance's options, checked.  n_steps: None for as many as the tolerance needs."""

    method: str | None
    baseline: str | None
    baseline_text: str | None
    tolerance: float
    internal_batch_size: int | None
    deadline_ms: int | None
    on_deadline: str
    targets: tuple[str | int, ...] = ()
    n_steps: int | None = 50

    @classmethod
    def parse(cls, given: Mapping[str, Any]) -> Options:
        """Check the explanation's keys of a request or an instance; InvalidRequestError names a wrong one."""
        values: dict[str, Any] = {}
        for name, value in given.items():
            if name == "target":
                values["targets"] = _targets(value)
            elif name == "n_steps":
                values[name] = _n_steps(value)
            elif name in _BY_NAME:
                values[name] = _parameter(_BY_NAME[name], value)
        if values.get("baseline_text") is not None:
            if values.setdefault("baseline", "text") not in ("text", None):
                raise InvalidRequestError("parameter baseline_text needs baseline: text")
        elif values.get("baseline") == "text":
            raise InvalidRequestError("parameter baseline_text is missing; baseline is text")
        return cls(**{**_DEFAULTS, **values})


def split(document: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Part the explanation's keys of a document from all others: (own, others)."""
    own = {name: value for name, value in document.items() if name in EXPLANATION_FIELDS}
    return own, {name: value for name, value in document.items() if name not in EXPLANATION_FIELDS}


def _parameter(parameter: Parameter, value: Any) -> Any:
    try:
        return parameter.parse(value, text=True)
    except ValueError as exc:
        raise InvalidRequestError(f"parameter {exc}") from exc


def _n_steps(value: Any) -> int | None:
    if value == "auto":
        return None
    if isinstance(value, str):
        value = whole_number(value)
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= MAX_STEPS:
        raise InvalidRequestError(f'parameter n_steps must be an integer from 1 to {MAX_STEPS}, or "auto"')
    return value


def _targets(value: Any) -> tuple[str | int, ...]:
    if isinstance(value, str) and value.lstrip().startswith("["):
        # Parameters of V2 are scalars: a list travels as its JSON.
        try:
            value = jsonio.loads(value)
        except ValueError:
            value = [value]
    targets = value if isinstance(value, list) else [] if value is None else [value]
    if len(targets) > MAX_TARGETS:
        raise InvalidRequestError(f"target has {len(targets)} entries; at most {MAX_TARGETS} are explained")
    for target in targets:
        if isinstance(target, bool) or not isinstance(target, (str, int)):
            raise InvalidRequestError(f"target must be a name, an index, or a list of them, not {describe(target)}")
        if isinstance(target, str):
            check_unicode("target", target, InvalidRequestError)
    return tuple(targets)
