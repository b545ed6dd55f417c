"""Bulk scoring's Parquet: columns keep the types that they have, and those of other formats get some."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

from bert_handler.bulk.values import text
from bert_handler.errors import ConfigError, MissingExtraError
from bert_handler.schema import OutputSpec

Record = Mapping[str, Any]

CHUNK_ROWS = 1024


class Parquet:
    """Columns keep their types; outputs are strings, numbers, or lists of float32."""

    reads_text = False
    stores_types = True

    def survey(self, path: Path) -> tuple[int, dict[str, Any]]:
        with _readable(path):
            file = _pyarrow_parquet().ParquetFile(path)
        check_unique(path, file.schema_arrow.names)
        return int(file.metadata.num_rows), {field.name: field for field in file.schema_arrow}

    def rows(self, path: Path, start: int) -> Iterator[Record]:
        seen = 0
        with _readable(path):
            for batch in _pyarrow_parquet().ParquetFile(path).iter_batches(batch_size=CHUNK_ROWS):
                if seen + batch.num_rows > start:
                    yield from batch.slice(max(0, start - seen)).to_pylist()
                seen += batch.num_rows

    def typed(self, path: Path, columns: Mapping[str, Any]) -> Mapping[str, Any]:
        return columns

    def write(
        self, path: Path, rows: Sequence[Record], columns: Mapping[str, Any], specs: Sequence[OutputSpec]
    ) -> None:
        parquet = _pyarrow_parquet()
        import pyarrow

        own = [pyarrow.field(spec.name, _type_of(spec)) for spec in specs]
        schema = pyarrow.schema([*columns.values(), *own, pyarrow.field("error", pyarrow.string())])
        arrays = [_array(field, [row.get(field.name) for row in rows]) for field in schema]
        parquet.write_table(pyarrow.Table.from_arrays(arrays, schema=schema), path)

    def join(self, parts: Sequence[Path], path: Path, columns: Mapping[str, Any], specs: Sequence[OutputSpec]) -> None:
        parquet = _pyarrow_parquet()
        with parquet.ParquetWriter(path, parquet.read_schema(parts[0])) as writer:
            for part in parts:
                writer.write_table(parquet.read_table(part))


def check_unique(path: Path, names: Sequence[str]) -> None:
    """ConfigError where two columns have one name: a record would keep one of them."""
    for name in names:
        if names.count(name) > 1:
            raise ConfigError(f"{path.name} has two columns named {name!r}; rename one of them")


def text_fields(names: Iterable[str]) -> dict[str, Any]:
    """Columns of texts alone."""
    _pyarrow_parquet()
    import pyarrow

    return {name: pyarrow.field(name, pyarrow.string()) for name in names}


def fields_of(names: Iterable[str], rows: Iterator[Record]) -> dict[str, Any]:
    """Columns of the types that the values of all rows have; of texts where no type is that of all."""
    _pyarrow_parquet()
    import pyarrow

    types = dict.fromkeys(names, pyarrow.null())
    while chunk := list(islice(rows, CHUNK_ROWS)):
        types = {name: _common(kind, [row.get(name) for row in chunk]) for name, kind in types.items()}
    kinds = {name: kind if _is_storable(kind) else pyarrow.string() for name, kind in types.items()}
    return {name: pyarrow.field(name, kind) for name, kind in kinds.items()}


def _common(known: Any, values: Sequence[Any]) -> Any:
    """The type of values that have one so far."""
    import pyarrow

    try:
        both = [pyarrow.schema([("", kind)]) for kind in (known, pyarrow.array(values).type)]
        return pyarrow.unify_schemas(both, promote_options="permissive").field(0).type
    except (pyarrow.ArrowException, OverflowError):
        return pyarrow.string()


def _is_storable(kind: Any) -> bool:
    import pyarrow

    try:
        _pyarrow_parquet().ParquetWriter(pyarrow.BufferOutputStream(), pyarrow.schema([("", kind)])).close()
    except pyarrow.ArrowNotImplementedError:
        # A struct without fields, from objects without keys.
        return False
    return True


def _array(field: Any, values: Sequence[Any]) -> Any:
    import pyarrow

    try:
        return pyarrow.array(
            [text(value) for value in values] if field.type == pyarrow.string() else values, field.type
        )
    except (pyarrow.ArrowException, OverflowError, TypeError) as exc:
        raise ConfigError(
            f"column {field.name!r} is no {field.type} in all rows ({exc}); write .jsonl instead"
        ) from exc


def _type_of(spec: OutputSpec) -> Any:
    import pyarrow

    kinds = {"FP32": pyarrow.float32(), "INT64": pyarrow.int64()}
    kind = kinds.get(spec.datatype, pyarrow.string())
    return pyarrow.list_(kind) if spec.shape and spec.datatype in kinds else kind


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    import pyarrow

    try:
        yield
    except (pyarrow.ArrowException, OSError, ValueError) as exc:
        raise ConfigError(f"{path.name} cannot be read as Parquet: {exc}") from exc


def _pyarrow_parquet() -> Any:
    try:
        from pyarrow import parquet
    except ImportError as exc:
        raise MissingExtraError("pyarrow", "bulk") from exc
    return parquet
