"""Forwards before the first request: they tell what rows may share, and no request waits for a compiler."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from typing import Callable

import numpy as np

from bert_handler.batching import Limits, Scheduler
from bert_handler.engines.base import Engine, Shape, snug
from bert_handler.errors import ConfigError, RequestError
from bert_handler.schema import Row
from bert_handler.tasks.base import Outcome, Task

logger = logging.getLogger(__name__)

Compute = Callable[[Sequence[Row], Shape], Sequence[Outcome]]
"""Computes rows together, padded to a shape, without compiling anything."""

MAX_SHAPES = 384
"""The rest is made when it is met."""
MAX_UNLIMITED_LENGTH = 512
"""Tokens of the longest row that is met where the model has no limit of its own."""
FORWARDS = 2
"""The first makes the kernels, the second records the CUDA graph."""
REPORT_EVERY_S = 10.0


def prepare(task: Task, engine: Engine, scheduler: Scheduler, compute: Compute, name: str) -> None:
    """Keep rows apart where they would change each other's answers, and with `warmup` meet every shape of a batch.

    To generate, rows are computed a token at a time, and nothing of that is made ready.
    name: of the model, for the log.
    Raises ConfigError where a model is compiled for shapes to which no row may be padded.  That its sample cannot be
    computed is one with `warmup` only: the other texts may be.
    """
    if task.needs_generation:
        return
    warmup = task.model.config.warmup
    try:
        row = _sample_row(task)
        alone = sees_neighbours(compute, row, engine.shape, engine.rounding)
    except Exception as exc:  # whatever an engine raises
        if warmup:
            raise ConfigError(f"{name} cannot compute the sample of {task.name}: {exc}") from exc
        logger.warning("the sample fails (%s): nobody knows whether answers of %s depend on each other", exc, name)
        return
    if alone and engine.compiles_shapes:
        raise ConfigError(f"compile: answers of {name} change with the padding to compiled shapes; leave it out")
    if alone:
        logger.warning("answers of %s depend on what is computed with them: each is alone", name)
        scheduler.compute_rows_alone()
    if warmup and engine.compiles_shapes:
        limits = scheduler.limits
        longest = task.model.max_length or min(MAX_UNLIMITED_LENGTH, limits.max_batch_tokens)
        warm_up(scheduler, row, limits, longest, engine.shape)


def _sample_row(task: Task) -> Row:
    return task.encode_one(task.parse(task.sample, task.model.config.parameters)).rows[0]


def warm_up(scheduler: Scheduler, sample: Row, limits: Limits, max_length: int, shape: Shape) -> int:
    """Compute batches of each shape and return how many shapes there are; ConfigError where one fails.

    sample: the row that those of all lengths are made from.  max_length: tokens of the longest row.
    """
    batches = smallest_batches(limits, max_length, shape)
    chosen = batches[:MAX_SHAPES]
    started = reported = time.monotonic()
    logger.info("compiling %d shapes of %d: up to %d rows and %d tokens", len(chosen), len(batches), *_bounds(chosen))
    for index, (n_rows, length) in enumerate(chosen):
        row = _sized(sample, length)
        for _ in range(FORWARDS):
            _compute(scheduler, [row] * n_rows)
        if time.monotonic() - reported > REPORT_EVERY_S:
            reported = time.monotonic()
            logger.info("%d shapes of %d are compiled after %.0f s", index + 1, len(chosen), reported - started)
    return len(chosen)


def smallest_batches(limits: Limits, max_length: int, shape: Shape) -> list[tuple[int, int]]:
    """Rows and length of the smallest batch of each shape that the limits allow, in order of their tokens."""
    found: dict[tuple[int, int], tuple[int, int]] = {}
    for length in range(1, max_length + 1):
        for n_rows in range(1, max(1, min(limits.max_batch_rows, limits.max_batch_tokens // length)) + 1):
            found.setdefault(shape(n_rows, length), (n_rows, length))
    return sorted(found.values(), key=lambda batch: batch[0] * batch[1])


def sees_neighbours(compute: Compute, row: Row, shape: Shape, tolerance: float) -> bool:
    """Whether the outputs of a row change with a longer one beside it: its model reads padding, or scales by batch.

    row: the longer one; its first half is the row that is looked at.  shape: what the two are padded to.
    tolerance: relative where outputs exceed 1.
    """
    half = _sized(row, max(1, row.length // 2))
    alone, beside = compute([half], snug)[0], compute([half, row], shape)[0]
    if isinstance(alone, RequestError) or isinstance(beside, RequestError):
        return False
    for name, values in alone.items():
        left, right = values, beside[name]
        if left.shape != right.shape:
            # An output of every token has more of them in a longer batch.
            right = right[: len(left)]
        if np.any(np.abs(left - right) > tolerance * np.maximum(1.0, np.abs(left))):
            return True
    return False


def _bounds(batches: Sequence[tuple[int, int]]) -> tuple[int, int]:
    return max(n_rows for n_rows, _ in batches), max(length for _, length in batches)


def _sized(row: Row, length: int) -> Row:
    """A row of that length: the sample's tokens again and again, up to its last one, which some models look for.

    Inputs that have not one entry a token, as the places of masks, keep their number and stay within the row.
    """
    inputs = {}
    for name, values in row.inputs.items():
        if len(values) == row.length:
            inputs[name] = np.resize(values, length)
            inputs[name][-1] = values[-1]
        else:
            inputs[name] = np.minimum(values, length - 1)
    return row._replace(inputs=inputs, length=length)


def _compute(scheduler: Scheduler, rows: Sequence[Row]) -> None:
    for outcome in scheduler.submit(rows).result():
        if isinstance(outcome, RequestError):
            raise ConfigError(f"{len(rows)} rows of {rows[0].length} tokens cannot be computed: {outcome}")
