"""The formats of bulk scoring: how rows are read from a file, and written to one.

A new one is a class here and a line in READERS or WRITERS.  `survey` reads a file to its end once: its
number of rows, and its columns, so that nothing is found unreadable, or too late for a header, hours later.
"""

from __future__ import annotations

import codecs
import csv
import shutil
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO, Protocol, TextIO, TypeVar

from bert_handler import jsonio
from bert_handler.bulk.parquet import Parquet, Record, check_unique, fields_of, text_fields
from bert_handler.bulk.values import cell, document
from bert_handler.errors import ConfigError, require_file
from bert_handler.schema import OutputSpec

Form = TypeVar("Form")
Columns = Mapping[str, Any]
"""Names of columns, each with its Arrow field where types matter."""

MAX_CELL_CHARS = 2**24
"""Of a CSV file: a quotation mark that is never closed would make one cell of what follows it."""
SURPLUS = "more"
"""The column of what stands behind the last column of a CSV file's header."""


class Reader(Protocol):
    """How rows are read from a file of one form."""

    @property
    def reads_text(self) -> bool:
        """Whether the form knows no type but text."""

    def survey(self, path: Path) -> tuple[int, Columns]:
        """The number of rows, and the columns.  ConfigError where the file is not readable to its end."""

    def rows(self, path: Path, start: int) -> Iterator[Record]:
        """The rows behind the first `start`.  ConfigError at one that is not readable."""

    def typed(self, path: Path, columns: Columns) -> Columns:
        """The columns with the types that their values have in all rows."""


class Writer(Protocol):
    """How rows are written to a file of one form: parts first, which are joined.

    columns: of the input.  specs: of the outputs that become columns behind them.
    """

    @property
    def stores_types(self) -> bool:
        """Whether each column has one type, to be known before the first row is written."""

    def write(self, path: Path, rows: Sequence[Record], columns: Columns, specs: Sequence[OutputSpec]) -> None:
        """Write one part."""

    def join(self, parts: Sequence[Path], path: Path, columns: Columns, specs: Sequence[OutputSpec]) -> None:
        """Write the whole from its parts, one at least."""


class _Text:
    """One text a line."""

    reads_text = True

    def survey(self, path: Path) -> tuple[int, Columns]:
        return sum(1 for _ in self.rows(path, 0)), {"text": None}

    def rows(self, path: Path, start: int) -> Iterator[Record]:
        for number, line in enumerate(_lines(path, start), start + 1):
            try:
                yield {"text": line.rstrip(b"\r\n").decode("utf-8")}
            except UnicodeDecodeError as exc:
                raise _not_utf8(path, number) from exc

    def typed(self, path: Path, columns: Columns) -> Columns:
        return text_fields(columns)


class _JsonLines:
    """One JSON object or string a line."""

    reads_text = False
    stores_types = False

    def survey(self, path: Path) -> tuple[int, Columns]:
        return _survey(self.rows(path, 0), {})

    def rows(self, path: Path, start: int) -> Iterator[Record]:
        for number, line in enumerate(_lines(path, start), start + 1):
            try:
                value = jsonio.loads(line)
            except ValueError as exc:
                raise ConfigError(f"{path.name}, line {number}: not JSON: {exc}") from exc
            if not isinstance(value, (str, dict)):
                raise ConfigError(f"{path.name}, line {number}: must be a JSON object or a string")
            yield {"text": value} if isinstance(value, str) else value

    def typed(self, path: Path, columns: Columns) -> Columns:
        return fields_of(columns, self.rows(path, 0))

    def write(self, path: Path, rows: Sequence[Record], columns: Columns, specs: Sequence[OutputSpec]) -> None:
        with path.open("wb") as file:
            for row in rows:
                file.write(document(row) + b"\n")

    def join(self, parts: Sequence[Path], path: Path, columns: Columns, specs: Sequence[OutputSpec]) -> None:
        with path.open("wb") as sink:
            _append(parts, sink)


class _Csv:
    """Comma-separated with a header; values that are no text or number are JSON."""

    reads_text = True
    stores_types = False

    def survey(self, path: Path) -> tuple[int, Columns]:
        header = _names(next(_cells(path), []))
        check_unique(path, header)
        return _survey(self.rows(path, 0), dict.fromkeys(header))

    def rows(self, path: Path, start: int) -> Iterator[Record]:
        cells = _cells(path)
        header = _names(next(cells, []))
        for row in islice(filter(None, cells), start, None):
            record: dict[str, Any] = {**dict.fromkeys(header, ""), **dict(zip(header, row))}
            if len(row) > len(header):
                if SURPLUS in record:
                    raise ConfigError(
                        f"{path.name} has a column {SURPLUS!r}, and a row with cells behind its last column, "
                        "which are named so; rename the column"
                    )
                record[SURPLUS] = row[len(header) :]
            yield record

    def typed(self, path: Path, columns: Columns) -> Columns:
        return text_fields(columns)

    def write(self, path: Path, rows: Sequence[Record], columns: Columns, specs: Sequence[OutputSpec]) -> None:
        with path.open("w", encoding="utf-8", newline="") as file:
            names = _header(columns, specs)
            csv.writer(_LineFeeds(file)).writerows([[cell(row.get(name)) for name in names] for row in rows])

    def join(self, parts: Sequence[Path], path: Path, columns: Columns, specs: Sequence[OutputSpec]) -> None:
        with path.open("w", encoding="utf-8", newline="") as file:
            csv.writer(_LineFeeds(file)).writerow(_header(columns, specs))
        with path.open("ab") as sink:
            _append(parts, sink)


def _header(columns: Columns, specs: Sequence[OutputSpec]) -> list[str]:
    return [*columns, *(spec.name for spec in specs), "error"]


class _LineFeeds:
    """Ends rows with a line feed alone.

    csv.writer quotes the characters of its own line end and, before Python 3.13, no other, whereas
    readers take a lone carriage return for a line's end as well; so it keeps its default, which has both.
    """

    def __init__(self, file: TextIO) -> None:
        self._file = file

    def write(self, row: str) -> None:
        self._file.write(row.removesuffix("\r\n") + "\n")


def _append(parts: Sequence[Path], sink: BinaryIO) -> None:
    for part in parts:
        with part.open("rb") as source:
            shutil.copyfileobj(source, sink, 1 << 20)


def _names(header: Sequence[str]) -> list[str]:
    """Names of columns; one without has its place for a name, as pandas calls it."""
    return [name or f"Unnamed: {place}" for place, name in enumerate(header)]


def _cells(path: Path) -> Iterator[list[str]]:
    """The rows of a CSV file, the header and empty ones among them."""
    csv.field_size_limit(max(csv.field_size_limit(), MAX_CELL_CHARS))
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.reader(file, strict=True)
        try:
            yield from reader
        except csv.Error as exc:
            raise ConfigError(f"{path.name}, line {reader.line_num}: not CSV: {exc}") from exc
        except UnicodeDecodeError as exc:
            raise _not_utf8(path, _undecodable(path)) from exc


def _not_utf8(path: Path, line: int) -> ConfigError:
    return ConfigError(
        f"{path.name}, line {line}: not UTF-8; convert the file, for example with iconv -f WINDOWS-1252 -t UTF-8"
    )


def _undecodable(path: Path) -> int:
    """The first line of a file that is not UTF-8."""
    for number, line in enumerate(_lines(path, 0), 1):
        try:
            line.decode("utf-8")
        except UnicodeDecodeError:
            return number
    raise AssertionError(f"{path} is UTF-8")


def _lines(path: Path, start: int) -> Iterator[bytes]:
    """The lines behind the first `start`, without a byte order mark."""
    with path.open("rb") as file:
        if file.read(len(codecs.BOM_UTF8)) != codecs.BOM_UTF8:
            file.seek(0)
        yield from islice(file, start, None)


def _survey(rows: Iterator[Record], columns: Columns) -> tuple[int, Columns]:
    n_rows, known = 0, dict(columns)
    for row in rows:
        n_rows += 1
        if not row.keys() <= known.keys():
            known.update(dict.fromkeys(row))
    return n_rows, known


READERS: Mapping[str, Reader] = {".txt": _Text(), ".jsonl": _JsonLines(), ".csv": _Csv(), ".parquet": Parquet()}
WRITERS: Mapping[str, Writer] = {".jsonl": _JsonLines(), ".csv": _Csv(), ".parquet": Parquet()}


def forms_of(source: Path, target: Path) -> tuple[Reader, Writer]:
    """The reader of an input and the writer of an output; ConfigError where there is no input, or no such form."""
    require_file(source)
    return form_of(READERS, source), form_of(WRITERS, target)


def form_of(forms: Mapping[str, Form], path: Path) -> Form:
    """The entry of READERS or WRITERS for a file; ConfigError names the endings that there are."""
    if path.suffix not in forms:
        raise ConfigError(f"{path.name}: the name must end with one of {', '.join(forms)}")
    return forms[path.suffix]
