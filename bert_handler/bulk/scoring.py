"""Score a file of any size: constant memory, and what is done stays done when the process is killed.

Answers go to parts of `batch_rows` rows beside the output, each written whole or not at all. A second
run counts them and goes on behind the last; when all are there they are joined into the output.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, Callable

from bert_handler.bulk.formats import READERS, WRITERS, Columns, form_of, forms_of
from bert_handler.bulk.parquet import Record
from bert_handler.bulk.parts import Parts
from bert_handler.errors import ConfigError, InvalidRequestError
from bert_handler.parameters import Parameter
from bert_handler.pending import Pending
from bert_handler.predictor import Predictor
from bert_handler.schema import Failure, Instance, OutputSpec, Prediction, Request, Response
from bert_handler.tasks.base import Task

Part = tuple[int, Callable[[Path], None]]
"""The rows of a part, and what writes it to a path."""
Progress = Callable[[int, int], None]

IN_FLIGHT = 2
"""Batches with the engine at a time: the next one is tokenized while one is computed."""
SETTINGS_OF_ANSWERS = ("do_lower_case", "max_length", "dtype", "quantization")
"""Beside the parameters; with the other settings a run is stopped, changed, and gone on with."""


@dataclass(frozen=True)
class Job:
    """What is read and what is written, in parts of `batch_rows` rows.

    n_rows, columns: of the input.  specs: of the outputs that become columns.
    model: what answers depend on.
    """

    source: Path
    target: Path
    batch_rows: int
    n_rows: int
    columns: Columns
    specs: Sequence[OutputSpec]
    model: Mapping[str, Any]

    @classmethod
    def of(cls, source: Path, target: Path, batch_rows: int, task: Task, engine: str) -> Job:
        """Read the input to its end once.

        Raises ConfigError on a missing file, an unknown format, an input that is not readable, and a column
        that an output would take the place of.
        """
        reader, writer = forms_of(source, target)
        n_rows, columns = reader.survey(source)
        specs = task.select_outputs()
        missing = [name for name in task.fields if n_rows and name not in columns]
        if missing:
            raise ConfigError(f"{source.name} has no column {missing[0]!r}; it has {', '.join(columns)}")
        for name in (*(spec.name for spec in specs), "error"):
            if name in columns:
                raise ConfigError(f"{source.name} has a column {name!r}, which the output adds; rename or remove it")
        if writer.stores_types:
            columns = reader.typed(source, columns)
        return cls(source, target, batch_rows, n_rows, columns, specs, _model_state(task, engine, specs))

    @property
    def reads_text(self) -> bool:
        """Whether the input knows no other type."""
        return form_of(READERS, self.source).reads_text

    def batches(self, start: int) -> Iterator[list[Record]]:
        """The rows behind the first `start` in batches; an empty input has one that is empty.

        Raises ConfigError at a row that is not readable.
        """
        rows = form_of(READERS, self.source).rows(self.source, start)
        batch = list(islice(rows, self.batch_rows))
        if batch or not start:
            yield batch
        while batch := list(islice(rows, self.batch_rows)):
            yield batch

    @property
    def state(self) -> Mapping[str, Any]:
        """What the parts are made from: those of another state are not gone on with."""
        source = self.source.stat()
        modified = datetime.fromtimestamp(source.st_mtime, timezone.utc).isoformat()
        own = {"input": os.fspath(self.source), "input_bytes": source.st_size, "input_modified": modified}
        return {**own, "batch_rows": self.batch_rows, **self.model}

    def write(self, records: Sequence[Record], response: Response, path: Path) -> None:
        """Write one part: each record with its outputs and its error."""
        rows = [_row(record, item, self.specs) for record, item in zip(records, response.predictions)]
        form_of(WRITERS, self.target).write(path, rows, self.columns, self.specs)

    def join(self, parts: Sequence[Path], path: Path) -> None:
        """Write the output from all its parts."""
        form_of(WRITERS, self.target).join(parts, path, self.columns, self.specs)


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
    job = Job.of(source, target, batch_rows, predictor.task, predictor.engine.name)

    def parts(start: int) -> Iterator[Part]:
        for records, response in _answers(predictor, job, start):
            yield len(records), partial(job.write, records, response)

    return run(job, parts, progress)


def run(job: Job, parts: Callable[[int], Iterator[Part]], progress: Progress) -> int:
    """Write the parts that are not there yet, and join all.

    parts: from the number of rows that are done to the parts of the others, in order.
    Raises ConfigError where another run writes the same output, and where the input has other rows than before.
    """
    with Parts.held(job.target, job.state) as finished:
        done = min(job.n_rows, len(finished) * job.batch_rows)
        progress(done, job.n_rows)
        for n_rows, write in parts(done):
            finished.add(write)
            done += n_rows
            progress(done, job.n_rows)
        if done != job.n_rows:
            raise ConfigError(f"{job.source.name} had {job.n_rows} rows, and now {done}; it must not change meanwhile")
        finished.join(job.join)
    return done


def answer(predictor: Predictor, job: Job, records: Sequence[Record]) -> Response:
    """Answer one batch."""
    return _begun(predictor, job, records).wait()


def _model_state(task: Task, engine: str, specs: Sequence[OutputSpec]) -> Mapping[str, Any]:
    """The model's files, the engine, and the settings that change an answer."""
    config = task.model.config
    settings = {**{name: getattr(config, name) for name in SETTINGS_OF_ANSWERS}, **config.parameters}
    own = {"task": task.name, "model": task.model.fingerprint()[:16], "engine": engine}
    outputs = {"outputs": [spec.name for spec in specs]}
    return {**own, **outputs, **{f"setting {name}": value for name, value in settings.items()}}


def _answers(predictor: Predictor, job: Job, start: int) -> Iterator[tuple[list[Record], Response]]:
    waiting: deque[tuple[list[Record], Pending]] = deque()
    try:
        for records in job.batches(start):
            waiting.append((records, _begun(predictor, job, records)))
            if len(waiting) == IN_FLIGHT:
                yield _taken(waiting)
        while waiting:
            yield _taken(waiting)
    finally:
        for _, pending in waiting:
            pending.waiter.cancel()


def _taken(waiting: deque[tuple[list[Record], Pending]]) -> tuple[list[Record], Response]:
    records, pending = waiting.popleft()
    return records, pending.wait()


def _begun(predictor: Predictor, job: Job, records: Sequence[Record]) -> Pending:
    task = predictor.task
    fields = (*task.fields, *task.optional_fields)
    parameters = [parameter for parameter in task.parameters if parameter.request]
    instances = [_instance(record, fields, parameters, text=job.reads_text) for record in records]
    return predictor.begin([Request(instances, bounded=False)])[0]


def _instance(record: Record, fields: Sequence[str], parameters: Sequence[Parameter], *, text: bool) -> Instance:
    """A record's fields and parameters of the request; its other columns are only handed on.

    text: parameters are spelled, and an empty one is not given.
    """
    instance = {name: record[name] for name in fields if record.get(name) is not None}
    for parameter in parameters:
        value = record.get(parameter.name)
        if value is None or (text and value == ""):
            continue
        try:
            instance[parameter.name] = parameter.parse(value, text=True) if text else value
        except ValueError as exc:
            return Failure(InvalidRequestError(f"parameter {exc}"))
    return instance


def _row(record: Record, item: Prediction | Failure, specs: Sequence[OutputSpec]) -> dict[str, Any]:
    if isinstance(item, Failure):
        return {**record, **{spec.name: None for spec in specs}, "error": str(item.error)}
    return {**record, **{spec.name: item[spec.name] for spec in specs}, "error": None}
