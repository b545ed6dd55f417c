"""The few types that a request passes through on its way to an answer.

Those that every request makes are named tuples: a frozen dataclass takes three times as long to make.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Callable, NamedTuple, Union

import numpy as np
from numpy.typing import NDArray

from bert_handler.deadlines import never
from bert_handler.errors import RequestError
from bert_handler.tracing import UNTRACED, Trace

IntArray = NDArray[np.int64]
FloatArray = NDArray[np.float32]

NO_ID = "-"
"""What a request is called in the log whose caller gave it no id."""
NOTHING: Mapping[str, Any] = {}
"""Shared by all that have none, and changed by nobody; a read-only view could not be pickled."""


@dataclass(frozen=True)
class Tokens:
    """One instance that the client tokenized itself: int64 vectors of one length, by input name."""

    inputs: Mapping[str, IntArray]


@dataclass(frozen=True)
class Failure:
    """Why one instance has no prediction; its neighbours are not touched by it."""

    error: RequestError

    def __post_init__(self) -> None:
        # Their frames would keep what was made of the instance, all its tokens for one, until the answer is sent.
        self.error.__traceback__ = self.error.__cause__ = self.error.__context__ = None


Instance = Union[str, Mapping[str, Any], Tokens, Failure]


class Request(NamedTuple):
    """What a client asked, whatever the protocol.

    instances: one entry an answer, in the order of the request.
    scalar: the client sent one instance outside of any list; its answer has no batch dimension.
    outputs: names of the requested outputs, None for the configured default.
    binary_outputs: those of `outputs` that are wanted as raw bytes; None means none was named.
    binary_default: whether an output that was not named apart is wanted as raw bytes.
    deadline: time.monotonic() after which nobody waits for the answer any more.
    trace: its spans, where they are recorded.
    bounded: whether the limits of one request hold, and a full queue refuses it: not for the rows of a file.
    caller: its X-Request-Id, which the log names it by.
    """

    instances: Sequence[Instance]
    id: str | None = None
    parameters: Mapping[str, Any] = NOTHING
    outputs: tuple[str, ...] | None = None
    scalar: bool = False
    binary_outputs: Mapping[str, bool] = NOTHING
    binary_default: bool = False
    deadline: float | None = None
    trace: Trace = UNTRACED
    bounded: bool = True
    caller: str = NO_ID


@dataclass(frozen=True)
class OutputSpec:
    """Name, V2 datatype and shape (without the batch dimension, -1 where it varies) of one output."""

    name: str
    datatype: str
    shape: tuple[int, ...] = ()


@dataclass(frozen=True)
class Prediction:
    """The answer to one instance.

    outputs: every output of the task by name.  Arrays, numbers and strings are elements of a typed
        tensor, a tuple of strings is a row of one, a list or a dict is one JSON document.
    input_tokens: tokens of the instance before anything was cut, special tokens included.
    """

    outputs: Mapping[str, Any]
    input_tokens: int = 0
    truncated: bool = False

    def __getitem__(self, name: str) -> Any:
        return self.outputs[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.outputs)


class Response(NamedTuple):
    """The predictions of one request, in its order, and which outputs of them to send."""

    request: Request
    predictions: Sequence[Prediction | Failure]
    outputs: tuple[str, ...]


class Reply(NamedTuple):
    """Bytes for the wire."""

    body: bytes
    status: int = 200
    content_type: str = "application/json"
    headers: Mapping[str, str] = NOTHING


@dataclass(frozen=True)
class Identity:
    """Name and version of a model as its archive's manifest states them."""

    name: str
    version: str = "1.0"


class Row(NamedTuple):
    """One sequence for the engine.

    inputs: int64 vectors by input name.  length: tokens, what it costs.
    key: rows of different keys never share a forward (decoding options, for instance).
    given_up: asked between the tokens of a generation, whether nobody waits for the row any more.
    """

    inputs: Mapping[str, IntArray]
    length: int
    key: Hashable = None
    trace: Trace = UNTRACED
    given_up: Callable[[], bool] = never
