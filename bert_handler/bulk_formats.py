"""The formats of bulk scoring: how rows are read from a file, and written to one.

A new one is a class here and a line in READERS or WRITERS.
"""

from __future__ import annotations

import csv
import shutil
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from bert_handler import jsonio
from bert_handler.errors import ConfigError, MissingExtraError
from bert_handler.schema import OutputSpec

Record = Mapping[str, Any]


class _Text:
    """One text a line."""

    reads_text = True

    @staticmethod
    def count(path: Path) -> int:
        with path.open("rb") as file:
            return sum(1 for _ in file)

    @staticmethod
    def columns(path: Path) -> list[str]:
        return ["text"]

    @staticmethod
    def rows(path: Path, start: int) -> Iterator[Record]:
        with path.open("rb") as file:
            for line in islice(file, start, None):
                yield {"text": line.rstrip(b"\r\n").decode("utf-8", "replace")}


class _JsonLines:
    """One JSON object or string a line."""

    reads_text = False

    count = _Text.count

    @staticmethod
    def columns(path: Path) -> list[str]:
        first = next(_JsonLines.rows(path, 0), {})
        return list(first)

    @staticmethod
    def rows(path: Path, start: int) -> Iterator[Record]:
        with path.open("rb") as file:
            for number, line in enumerate(islice(file, start, None), start + 1):
                try:
                    value = jsonio.loads(line)
                except ValueError as exc:
                    raise ConfigError(f"{path.name}, line {number}: not JSON: {exc}") from exc
                if not isinstance(value, (str, dict)):
                    raise ConfigError(f"{path.name}, line {number}: must be a JSON object or a string")
                yield {"text": value} if isinstance(value, str) else value

    @staticmethod
    def write(path: Path, rows: Sequence[Record], columns: Sequence[str], specs: Sequence[OutputSpec]) -> None:
        with path.open("wb") as file:
            for row in rows:
                file.write(jsonio.dumps(row) + b"\n")

    @staticmethod
    def join(parts: Sequence[Path], path: Path) -> None:
        with path.open("wb") as sink:
            for part in parts:
                with part.open("rb") as source:
                    shutil.copyfileobj(source, sink, 1 << 20)


class _Csv:
    """Comma-separated with a header; values that are no text or number are JSON."""

    reads_text = True

    @staticmethod
    def count(path: Path) -> int:
        return sum(1 for _ in _Csv.rows(path, 0))

    @staticmethod
    def columns(path: Path) -> list[str]:
        with path.open(encoding="utf-8-sig", newline="") as file:
            return next(csv.reader(file), [])

    @staticmethod
    def rows(path: Path, start: int) -> Iterator[Record]:
        with path.open(encoding="utf-8-sig", newline="") as file:
            yield from islice(csv.DictReader(file, restkey="more", restval=""), start, None)

    @staticmethod
    def write(path: Path, rows: Sequence[Record], columns: Sequence[str], specs: Sequence[OutputSpec]) -> None:
        with path.open("w", encoding="utf-8", newline="") as file:
            names = dict.fromkeys([*columns, *(spec.name for spec in specs), "error"])
            writer = csv.DictWriter(file, list(names), extrasaction="ignore", lineterminator="\n")
            writer.writeheader()
            writer.writerows([{name: _cell(row.get(name)) for name in names} for row in rows])

    @staticmethod
    def join(parts: Sequence[Path], path: Path) -> None:
        with path.open("wb") as sink:
            for number, part in enumerate(parts):
                with part.open("rb") as source:
                    header = source.readline()
                    sink.write(header if number == 0 else b"")
                    shutil.copyfileobj(source, sink, 1 << 20)


class _Parquet:
    """Columns keep their types; outputs are strings, float32, or lists of float32."""

    reads_text = False

    @staticmethod
    def count(path: Path) -> int:
        return int(_pyarrow_parquet().ParquetFile(path).metadata.num_rows)

    @staticmethod
    def columns(path: Path) -> list[str]:
        return list(_pyarrow_parquet().ParquetFile(path).schema_arrow.names)

    @staticmethod
    def rows(path: Path, start: int) -> Iterator[Record]:
        seen = 0
        for batch in _pyarrow_parquet().ParquetFile(path).iter_batches(batch_size=1024):
            if seen + batch.num_rows > start:
                yield from batch.slice(max(0, start - seen)).to_pylist()
            seen += batch.num_rows

    @staticmethod
    def write(path: Path, rows: Sequence[Record], columns: Sequence[str], specs: Sequence[OutputSpec]) -> None:
        parquet = _pyarrow_parquet()
        import pyarrow

        kinds = {spec.name: _arrow_type(spec) for spec in specs}
        arrays = {}
        for name in dict.fromkeys([*columns, *kinds, "error"]):
            values = [row.get(name) for row in rows]
            kind = kinds.get(name, pyarrow.string() if name == "error" else None)
            text = kind == pyarrow.string()
            arrays[name] = pyarrow.array([_cell(value) if text else _plain(value) for value in values], type=kind)
        parquet.write_table(pyarrow.table(arrays), path)

    @staticmethod
    def join(parts: Sequence[Path], path: Path) -> None:
        import pyarrow

        parquet = _pyarrow_parquet()
        # A column that is null throughout one part has its type from another.
        schemas = [parquet.read_schema(part) for part in parts]
        schema = pyarrow.unify_schemas(schemas, promote_options="permissive")
        with parquet.ParquetWriter(path, schema) as writer:
            for part in parts:
                writer.write_table(parquet.read_table(part).cast(schema))


def _cell(value: Any) -> str | float | int | None:
    value = _plain(value)
    if value is None or isinstance(value, (str, float, int)):
        return value
    return jsonio.dumps(value).decode()


def _plain(value: Any) -> Any:
    return value.tolist() if isinstance(value, (np.ndarray, np.generic)) else value


def _arrow_type(spec: OutputSpec) -> Any:
    import pyarrow

    if spec.datatype != "FP32":
        return pyarrow.string()
    return pyarrow.list_(pyarrow.float32()) if spec.shape else pyarrow.float32()


def _pyarrow_parquet() -> Any:
    try:
        from pyarrow import parquet
    except ImportError as exc:
        raise MissingExtraError("pyarrow", "bulk") from exc
    return parquet


READERS: dict[str, Any] = {".txt": _Text, ".jsonl": _JsonLines, ".csv": _Csv, ".parquet": _Parquet}
WRITERS: dict[str, Any] = {".jsonl": _JsonLines, ".csv": _Csv, ".parquet": _Parquet}


def form_of(forms: Mapping[str, Any], path: Path) -> Any:
    """The entry of READERS or WRITERS for a file; ConfigError names the endings that there are."""
    if path.suffix not in forms:
        raise ConfigError(f"{path.name}: the name must end with one of {', '.join(forms)}")
    return forms[path.suffix]
