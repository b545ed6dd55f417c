"""Score a file of any size: constant memory, and what is done stays done when the process is killed.

Answers go to parts of `batch_rows` rows beside the output, each written whole or not at all. A second
run counts them and goes on behind the last; when all are there they are joined into the output.
"""

from __future__ import annotations

import csv
import os
import shutil
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, Callable

import numpy as np

from bert_handler import jsonio
from bert_handler.config import HandlerConfig
from bert_handler.errors import ConfigError, MissingExtraError, QueueFullError
from bert_handler.predictor import Pending, Predictor
from bert_handler.schema import Failure, Instance, OutputSpec, Prediction, Request, Response

Record = Mapping[str, Any]
Part = tuple[int, Callable[[Path], None]]
"""The rows of a part, and what writes it to a path."""
Progress = Callable[[int, int], None]

IN_FLIGHT = 2
"""Batches with the engine at a time: the next one is tokenized while one is computed."""
STATE = "state.json"


@dataclass(frozen=True)
class Job:
    """What is read and what is written, in parts of `batch_rows` rows.  columns: of the input."""

    source: Path
    target: Path
    batch_rows: int
    columns: Sequence[str]

    @classmethod
    def of(cls, source: Path, target: Path, batch_rows: int, config: HandlerConfig) -> Job:
        """Check both files' formats; no part is more than one request to the model may be.

        Raises ConfigError on a missing file and an unknown format.
        """
        if not source.is_file():
            raise ConfigError(f"{source} does not exist")
        columns = _form(READERS, source).columns(source)
        _form(WRITERS, target)
        batch_rows = min(batch_rows, config.max_instances, max(1, config.max_queue_rows // IN_FLIGHT))
        return cls(source, target, batch_rows, columns)

    def count(self) -> int:
        """Rows of the input."""
        n_rows: int = _form(READERS, self.source).count(self.source)
        return n_rows

    def batches(self, start: int) -> Iterator[list[Record]]:
        """The rows behind the first `start` in batches; an empty input has one that is empty.

        Raises ConfigError at a row that is not readable.
        """
        rows: Iterator[Record] = _form(READERS, self.source).rows(self.source, start)
        batch = list(islice(rows, self.batch_rows))
        if batch or not start:
            yield batch
        while batch := list(islice(rows, self.batch_rows)):
            yield batch

    def write(self, records: Sequence[Record], response: Response, specs: Sequence[OutputSpec], path: Path) -> None:
        """Write one part: each record with its outputs and its error."""
        rows = [_row(record, item, specs) for record, item in zip(records, response.predictions)]
        _form(WRITERS, self.target).write(path, rows, self.columns, specs)

    def join(self, parts: Sequence[Path], path: Path) -> None:
        """Write the output from all its parts."""
        _form(WRITERS, self.target).join(parts, path)


def score(
    predictor: Predictor,
    source: Path,
    target: Path,
    batch_rows: int = 1024,
    progress: Progress = lambda done, total: None,
) -> int:
    """Answer every row of `source` (text, JSONL, CSV, Parquet) into `target` (JSONL, CSV, Parquet).

    A row of the output has the columns of the input, the default outputs, and `error`, which is
    null where there is an answer.  progress: called with rows done and rows in all.
    Returns the number of rows.  Raises ConfigError on a format or a row that is not readable.
    """
    job = Job.of(source, target, batch_rows, predictor.config)
    specs = default_specs(predictor)

    def parts(start: int) -> Iterator[Part]:
        for records, response in _answers(predictor, job.batches(start)):
            yield len(records), partial(job.write, records, response, specs)

    return run(job, parts, progress)


def run(job: Job, parts: Callable[[int], Iterator[Part]], progress: Progress) -> int:
    """Write the parts that are not there yet, and join all.

    parts: from the number of rows that are done to the parts of the others, in order.
    """
    total = job.count()
    finished = _Parts(
        job.target,
        {"source": os.fspath(job.source), "bytes": job.source.stat().st_size, "batch_rows": job.batch_rows},
    )
    done = min(total, len(finished) * job.batch_rows)
    progress(done, total)
    for n_rows, write in parts(done):
        finished.add(write)
        done += n_rows
        progress(done, total)
    finished.join(job.join)
    return done


def default_specs(predictor: Predictor) -> list[OutputSpec]:
    """The outputs that become columns."""
    return [predictor.outputs[name] for name in predictor.default_outputs]


def answer(predictor: Predictor, records: Sequence[Record]) -> Response:
    """Answer one batch."""
    return _finished(predictor, _begun(predictor, records))


class _Parts:
    """The finished parts beside an output, and what they were made from."""

    def __init__(self, target: Path, state: Mapping[str, Any]) -> None:
        self._target = target
        self._directory = target.with_name(f"{target.name}.parts")
        self._directory.mkdir(parents=True, exist_ok=True)
        known = self._directory / STATE
        content = jsonio.dumps(state)
        if known.is_file() and known.read_bytes() != content:
            raise ConfigError(
                f"{self._directory.name} holds parts of another run (input or --batch-rows differ); remove it first"
            )
        _write_whole(known, lambda path: path.write_bytes(content))

    def __len__(self) -> int:
        return len(list(self._directory.glob("*.part")))

    def add(self, write: Callable[[Path], None]) -> None:
        _write_whole(self._directory / f"{len(self):08d}.part", write)

    def join(self, join: Callable[[Sequence[Path], Path], None]) -> None:
        _write_whole(self._target, lambda path: join(sorted(self._directory.glob("*.part")), path))
        shutil.rmtree(self._directory)


def _write_whole(path: Path, write: Callable[[Path], Any]) -> None:
    partial = path.with_name(f"{path.name}.partial")
    write(partial)
    with partial.open("rb") as file:
        os.fsync(file.fileno())
    partial.replace(path)


def _answers(predictor: Predictor, batches: Iterator[list[Record]]) -> Iterator[tuple[list[Record], Response]]:
    waiting: deque[tuple[list[Record], Pending]] = deque()
    for records in batches:
        waiting.append((records, _begun(predictor, records)))
        if len(waiting) == IN_FLIGHT:
            yield _taken(predictor, waiting)
    while waiting:
        yield _taken(predictor, waiting)


def _taken(predictor: Predictor, waiting: deque[tuple[list[Record], Pending]]) -> tuple[list[Record], Response]:
    records, pending = waiting.popleft()
    return records, _finished(predictor, pending)


def _begun(predictor: Predictor, records: Sequence[Record]) -> Pending:
    return predictor.begin([Request([_instance(predictor, record) for record in records])])[0]


def _finished(predictor: Predictor, pending: Pending) -> Response:
    response = pending.wait()
    items = list(response.predictions)
    for index, item in enumerate(items):
        # Windows of long texts may be more rows than the queue takes at once.
        if isinstance(item, Failure) and isinstance(item.error, QueueFullError):
            items[index] = predictor.respond([Request([response.request.instances[index]])])[0].predictions[0]
    return Response(response.request, items, response.outputs)


def _instance(predictor: Predictor, record: Record) -> Instance:
    """What the task reads of a record; its other columns are only handed on."""
    task = predictor.task
    return {name: record[name] for name in (*task.fields, *task.optional_fields) if record.get(name) is not None}


def _row(record: Record, item: Prediction | Failure, specs: Sequence[OutputSpec]) -> dict[str, Any]:
    if isinstance(item, Failure):
        return {**record, **{spec.name: None for spec in specs}, "error": str(item.error)}
    return {**record, **{spec.name: item[spec.name] for spec in specs}, "error": None}


# ---- formats: how rows are read from a file, and written to one --------------------------------


class _Text:
    """One text a line."""

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


def _form(forms: Mapping[str, Any], path: Path) -> Any:
    if path.suffix not in forms:
        raise ConfigError(f"{path.name}: the name must end with one of {', '.join(forms)}")
    return forms[path.suffix]
