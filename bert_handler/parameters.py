"""Named, typed, bounded values: the settings of a model and the parameters of a request."""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Callable

from bert_handler import jsonio

MAX_QUOTED = 40
"""Characters of a client's word that an error message repeats."""
MAX_DIGITS = 18
MAX_LISTED = 30
"""Known names that an error message lists."""

_TRUE, _FALSE = {"true", "1", "yes", "on"}, {"false", "0", "no", "off"}


@dataclass(frozen=True)
class Parameter:
    """One setting or request parameter.

    kind: bool, int, float, str or list (of strings).  None as the default makes it optional.
    minimum, maximum: inclusive bounds of numbers, and of the length of lists.
    request: whether a request may set it, or the configuration alone.
    commas: a string in the place of a list has its entries between commas, or is the list's JSON.
    """

    name: str
    kind: type
    default: Any = None
    doc: str = ""
    minimum: float | None = None
    maximum: float | None = None
    choices: tuple[str, ...] | None = None
    request: bool = True
    commas: bool = False

    def parse(self, value: Any, *, text: bool = False) -> Any:
        """Return `value` as this parameter's kind.

        text: also take the spelled forms of a file or an environment ("150", "true", "a,b", '["a", "b"]').
        Raises ValueError with what is allowed, naming the parameter.
        """
        if value is None and self.default is None:
            return None
        if (text or self.commas) and isinstance(value, str) and self.kind is not str:
            value = _from_text(value, self.kind)
        parsed = _KINDS[self.kind](value)
        if parsed is None and isinstance(value, list) and self.kind is list:
            index = next(i for i, item in enumerate(value) if not isinstance(item, str))
            raise ValueError(f"{self.name} must be a list of strings; entry {index} is {describe(value[index])}")
        if parsed is None:
            raise ValueError(f"{self.name} must be {_NAMES[self.kind]}, not {describe(value)}")
        for item in parsed if isinstance(parsed, list) else [parsed]:
            if isinstance(item, str):
                check_unicode(self.name, item)
        self._check_bounds(parsed)
        return parsed

    def _check_bounds(self, value: Any) -> None:
        if self.choices is not None and value not in self.choices:
            raise ValueError(f"{self.name}={quoted(value)} is unknown; choose from {', '.join(self.choices)}")
        if self.minimum is None and self.maximum is None:
            return
        size = len(value) if isinstance(value, list) else value
        low = self.minimum is not None and not size >= self.minimum
        high = self.maximum is not None and not size <= self.maximum
        if low or high:
            what = f"{self.name} has {size} entries" if isinstance(value, list) else f"{self.name}={_digits(value)}"
            raise ValueError(f"{what}; it must be {self._range()}")

    def _range(self) -> str:
        if self.maximum is None:
            return f"at least {self.minimum}"
        if self.minimum is None:
            return f"at most {self.maximum}"
        return f"between {self.minimum} and {self.maximum}"


def unknown(name: str, known: Iterable[str], what: str, unlisted: Iterable[str] = ()) -> str:
    """Say that `name` is unknown, and which known name is the nearest.

    unlisted: names that may be meant too, and that are not listed where none is near.
    """
    names = sorted(known)
    meant = difflib.get_close_matches(name, [*names, *unlisted], n=1, cutoff=0.6) if len(name) <= MAX_QUOTED else []
    more = f", and {len(names) - MAX_LISTED} more" if len(names) > MAX_LISTED else ""
    hint = f"did you mean {meant[0]!r}?" if meant else f"known: {', '.join(names[:MAX_LISTED])}{more}"
    return f"unknown {what} {quoted(name)}; {hint}"


def quoted(value: str) -> str:
    """A client's own word where it is short; its length alone where it may be a text."""
    return repr(value) if len(value) <= MAX_QUOTED else f"({len(value)} characters)"


def check_unicode(name: str, text: str, error: type[Exception] = ValueError) -> None:
    """Raise `error` where a text has half of a character, which JSON can spell and nothing can encode."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as exc:
        raise error(f"{name} is not valid Unicode (a lone surrogate at {exc.start})") from exc


def whole_number(text: str) -> int | None:
    """The number that a few decimal digits spell; None of anything else, and of more digits than a number here has."""
    return int(text) if text.isdecimal() and len(text) <= MAX_DIGITS else None


def describe(value: Any) -> str:
    """Name the JSON type of a value without repeating it: it may be a client's text."""
    for kind, name in ((bool, "a boolean"), (str, "a string"), (int, "an integer"), (float, "a number")):
        if isinstance(value, kind):
            return name
    if value is None:
        return "null"
    return "an object" if isinstance(value, Mapping) else "a list" if isinstance(value, list) else "bytes"


def _digits(value: float) -> str:
    text = str(value)
    return text if len(text) <= MAX_QUOTED else f"(a number of {len(text)} digits)"


def _bool(value: Any) -> bool | None:
    return value if isinstance(value, bool) else None


def _int(value: Any) -> int | None:
    if isinstance(value, bool):
        return None
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value if isinstance(value, int) else None


def _float(value: Any) -> float | None:
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


def _str(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def _list(value: Any) -> list[str] | None:
    if isinstance(value, str):
        return [value]
    return value if isinstance(value, list) and all(isinstance(item, str) for item in value) else None


_KINDS: Mapping[type, Callable[[Any], Any]] = {bool: _bool, int: _int, float: _float, str: _str, list: _list}
_NAMES = {
    bool: "true or false",
    int: "an integer",
    float: "a number",
    str: "a string",
    list: "a list of strings",
}


def _from_text(value: str, kind: type) -> Any:
    word = value.strip()
    if kind is bool:
        return True if word.lower() in _TRUE else False if word.lower() in _FALSE else value
    if kind is list and word.startswith("["):
        with suppress(ValueError):
            return jsonio.loads(word)
    if kind is list:
        return [item.strip() for item in word.split(",") if item.strip()]
    try:
        return kind(word)
    except ValueError:
        return value
