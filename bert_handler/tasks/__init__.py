"""The tasks, by their `mode`.  A new one is a file here and a line below."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bert_handler.errors import ConfigError
from bert_handler.parameters import unknown
from bert_handler.tasks.base import Task
from bert_handler.tasks.fill_mask import FillMask
from bert_handler.tasks.question_answering import QuestionAnswering
from bert_handler.tasks.sequence_classification import PROBLEM_TYPES, SequenceClassification
from bert_handler.tasks.text_embedding import TextEmbedding
from bert_handler.tasks.text_generation import TextGeneration
from bert_handler.tasks.text_ranking import TextRanking
from bert_handler.tasks.token_classification import TokenClassification
from bert_handler.tasks.zero_shot_classification import ZeroShotClassification

TASKS: dict[str, type[Task]] = {
    task.name: task
    for task in (
        SequenceClassification,
        TextGeneration,
        TokenClassification,
        QuestionAnswering,
        FillMask,
        ZeroShotClassification,
        TextRanking,
        TextEmbedding,  # last: every architecture's name ends with "Model" or with a head
    )
}


def task_class(mode: str | None, model_config: Mapping[str, Any]) -> type[Task]:
    """The task that settings name, else the one that the model's architecture was trained for.

    Raises ConfigError on an unknown mode and on an architecture that says nothing.
    """
    if mode is not None:
        if mode in PROBLEM_TYPES:
            raise ConfigError(
                f"unknown mode {mode!r}; use mode: {SequenceClassification.name}, the model's problem_type decides"
            )
        if mode not in TASKS:
            raise ConfigError(unknown(mode, TASKS, "mode"))
        return TASKS[mode]
    architectures = model_config.get("architectures") or [""]
    for task in TASKS.values():
        if str(architectures[0]).endswith(task.architectures):
            return task
    raise ConfigError(
        f"the model's architecture {architectures[0]!r} does not say what it is for; "
        f"set mode in setup_config.json to one of {', '.join(TASKS)}"
    )
