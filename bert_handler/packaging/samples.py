"""Instances that engines are calibrated, checked and measured on, encoded and batched."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from bert_handler.engines.base import Batch, collate
from bert_handler.errors import ConfigError, RequestError
from bert_handler.parameters import quoted
from bert_handler.schema import Instance, Row
from bert_handler.tasks.base import Task
from bert_handler.tasks.instances import EncodedExample

BATCH_TOKENS = 512
TEXTS = (
    "Yes.",
    "Where is it?",
    "The quick brown fox jumps over the lazy dog.",
    "She has lived in a small town by the sea for more than twenty years, and she would not leave it.",
    "Results were better than expected; prices, however, rose by 3.5 % in the second quarter of the year.",
    "On Monday the committee will meet again in order to discuss the proposal that was put forward last week by "
    "two of its members, who had asked for more time, more money, and above all a clearer idea of what was wanted.",
)


@dataclass(frozen=True)
class Samples:
    """Encoded instances and their rows in batches of like length."""

    encoded: Sequence[EncodedExample]
    rows: Sequence[Row]
    order: Sequence[Sequence[int]]
    batches: Sequence[Batch]


def default_instances(task: Task) -> Sequence[Instance]:
    """The task's sample with texts of different lengths in it."""
    if isinstance(task.sample, str):
        return [f"{task.sample} {text}" for text in TEXTS] + [task.sample]
    assert isinstance(task.sample, Mapping)
    fields = [name for name in task.fields if isinstance(task.sample.get(name), str)]
    grown = [{**task.sample, fields[-1]: f"{task.sample[fields[-1]]} {text}"} for text in TEXTS]
    return [dict(task.sample), *grown]


def encode(task: Task, instances: Sequence[Instance]) -> Samples:
    """Encode instances and batch their rows by length; ConfigError where one is refused."""
    encoded = [_encoded(task, instance) for instance in instances]
    rows = [row for item in encoded for row in item.rows]
    order: list[list[int]] = []
    for index in sorted(range(len(rows)), key=lambda index: rows[index].length):
        if not order or (len(order[-1]) + 1) * rows[index].length > BATCH_TOKENS:
            order.append([])
        order[-1].append(index)
    batches = [_collate(task, [rows[index] for index in indices]) for indices in order]
    return Samples(encoded, rows, order, batches)


def _encoded(task: Task, instance: Instance) -> EncodedExample:
    try:
        return task.encode_one(task.parse(instance, task.model.config.parameters))
    except RequestError as exc:
        shown = quoted(instance) if isinstance(instance, str) else "of several fields"
        raise ConfigError(f"the calibration instance {shown} is none of {task.name}: {exc}") from exc


def mixed(task: Task, taken: Samples) -> Batch:
    """Two rows of different lengths, the longer first, so that no size is taken for a constant."""
    longest = sorted(taken.rows, key=lambda row: -row.length)
    return _collate(task, [longest[0], longest[len(longest) // 2]])


def _collate(task: Task, rows: Sequence[Row]) -> Batch:
    return collate(rows, task.model.tokenizer.spec.padding)
