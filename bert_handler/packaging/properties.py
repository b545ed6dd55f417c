"""Java's form of properties, in which TorchServe reads its settings and writes its snapshots.

As `java.util.Properties` has it: a backslash at the end of a line continues it, elsewhere it begins an escape.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

_BLANK = " \t\f"
_ESCAPE = re.compile(r"\\(u[0-9a-fA-F]{4}|.)", re.DOTALL)
_PAIR = re.compile(r"((?:\\.|[^\\=: \t\f])*)[ \t\f]*[=:]?(.*)", re.DOTALL)
_CONTROLS = {"t": "\t", "n": "\n", "r": "\r", "f": "\f"}
_VALUE = re.compile(r"[^\x20-\x7e]|\\|^ ")
_KEY = re.compile(rf"{_VALUE.pattern}|[=:#! ]")
"""What has to be escaped."""


def read_properties(path: Path) -> dict[str, str]:
    """Keys and values of a file, as `decode_properties`."""
    return decode_properties(path.read_bytes())


def decode_properties(content: bytes) -> dict[str, str]:
    """Keys and values in UTF-8, or else in Latin-1, which is what TorchServe takes every file for."""
    try:
        return parse_properties(content.decode("utf-8"))
    except UnicodeDecodeError:
        return parse_properties(content.decode("latin-1"))


def parse_properties(text: str) -> dict[str, str]:
    """Keys and values, decoded; white space around a value is none of it."""
    pairs = (_PAIR.fullmatch(line) for line in _lines(text))
    return {_decoded(pair[1]): _decoded(pair[2].strip()) for pair in pairs if pair}


def properties_text(properties: Mapping[str, object]) -> str:
    """Lines that both `parse_properties` and Java read as these keys and values."""
    return "".join(f"{_KEY.sub(_escape, key)}={_VALUE.sub(_escape, str(value))}\n" for key, value in properties.items())


def _lines(text: str) -> Iterator[str]:
    """Lines as they are meant: without comments and blank ones, those that are continued in one."""
    begun = None
    for physical in re.split(r"\r\n|\r|\n", text):
        line = physical.lstrip(_BLANK)
        if begun is None and line[:1] in ("", "#", "!"):
            continue
        line = (begun or "") + line
        n_backslashes = len(line) - len(line.rstrip("\\"))
        if n_backslashes % 2:
            begun = line[:-1]
            continue
        begun = None
        yield line
    if begun is not None:
        yield begun


def _decoded(text: str) -> str:
    def meant(escape: re.Match[str]) -> str:
        sign = escape[1]
        return chr(int(sign[1:], 16)) if len(sign) > 1 else _CONTROLS.get(sign, sign)

    # Java's characters are halves of a pair beyond the first 65,536.
    return _ESCAPE.sub(meant, text).encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _escape(sign: re.Match[str]) -> str:
    if " " <= sign[0] <= "~":
        return f"\\{sign[0]}"
    for letter, control in _CONTROLS.items():
        if sign[0] == control:
            return f"\\{letter}"
    # TorchServe reads Latin-1, whatever was written.
    return re.sub("....", r"\\u\g<0>", sign[0].encode("utf-16-be", "surrogatepass").hex())
