"""An instance on its way to the engine, and what is known of the model that it goes to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from pathlib import Path
from typing import Any, Callable, NamedTuple

from bert_handler.config import HandlerConfig
from bert_handler.labels import Labels
from bert_handler.schema import Row, Tokens
from bert_handler.tokenization import Encoded, TextTokenizer


@dataclass(frozen=True)
class Model:
    """What a task knows of the model that it serves."""

    tokenizer: TextTokenizer
    labels: Labels
    model_config: Mapping[str, Any]
    config: HandlerConfig
    directory: Path | None = None
    """Where the model's files are: some tasks read settings that are stored beside the weights."""
    fingerprint: Callable[[], str] = lambda: ""
    """Makes the SHA-256 over the files that its answers depend on."""

    @cached_property
    def max_length(self) -> int | None:
        """Most tokens of a sequence: the smaller of the model's limit and the configured one."""
        limits = [limit for limit in (self.tokenizer.spec.max_length, self.config.max_length) if limit]
        return min(limits) if limits else None


class Example(NamedTuple):
    """One checked instance: its fields, or what the client tokenized itself, and its parameters."""

    fields: Mapping[str, Any]
    parameters: Mapping[str, Any]
    tokens: Tokens | None = None

    @property
    def n_characters(self) -> int:
        """Of all its texts, each once."""
        total = 0
        for value in self.fields.values():
            total += len(value) if isinstance(value, str) else sum(map(len, value))
        return total


class EncodedExample(NamedTuple):
    """One instance ready for the engine: its sequences, and the rows of all their windows."""

    example: Example
    sequences: Sequence[Encoded]
    rows: Sequence[Row]

    @property
    def n_kept(self) -> int:
        """Tokens that are kept for it: those of its rows, and where offsets are needed all that its texts have."""
        whole = in_rows = 0
        for sequence in self.sequences:
            if sequence.encoding is not None:
                whole += sequence.n_tokens
        for row in self.rows:
            in_rows += row.length
        return max(whole, in_rows)

    @property
    def n_tokens(self) -> int:
        return sum(sequence.n_tokens for sequence in self.sequences)

    @property
    def row_ranges(self) -> list[range]:
        """The rows of each sequence, one a window."""
        ends = list(accumulate(len(sequence.windows) for sequence in self.sequences))
        return list(map(range, [0, *ends], ends))

    @property
    def truncated(self) -> bool:
        return any(sequence.truncated for sequence in self.sequences)
