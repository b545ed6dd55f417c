"""What a protocol is: bytes to Request, Response to bytes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Union

from bert_handler import jsonio
from bert_handler.errors import InvalidRequestError, QueueFullError, RequestError, RequestTooLargeError
from bert_handler.parameters import describe
from bert_handler.schema import Failure, Identity, OutputSpec, Prediction, Reply, Request, Response

Body = Union[bytes, bytearray, str, Mapping[str, Any], Sequence[Any]]
"""A body as it arrives: raw, or parsed already by TorchServe's worker."""


class Protocol(ABC):
    """One form of request and answer."""

    name: ClassVar[str]

    @abstractmethod
    def decode(self, body: Body, headers: Mapping[str, str], max_instances: int | None = None) -> Request:
        """Read a body; headers have lower-case names.  RequestError names the field that is wrong.

        max_instances: RequestTooLargeError above it, before any is made; None for any number.
        """

    @abstractmethod
    def encode(self, response: Response, identity: Identity, specs: Mapping[str, OutputSpec]) -> Reply:
        """Write the answer to a request of this protocol; an error where every instance has failed."""


def parse_json(body: Body) -> Any:
    """Parse a body that must be JSON, unless the host has parsed it already."""
    if not isinstance(body, (bytes, bytearray, str)):
        return body
    try:
        return jsonio.loads(body)
    except ValueError as exc:
        raise InvalidRequestError(f"the body is not JSON: {_where(exc)}") from exc


def media_type(headers: Mapping[str, str]) -> str:
    """That of the body without its parameters, in lower case; headers have lower-case names."""
    return headers.get("content-type", "").partition(";")[0].strip().lower()


def check_count(n_instances: int, max_instances: int | None) -> None:
    """RequestTooLargeError where a request has more instances than one may have; None for any number.

    The protocols ask before they make them: a refused one may take four hundred times its bytes.
    """
    if max_instances is not None and n_instances > max_instances:
        raise RequestTooLargeError(f"the request has {n_instances} instances; max_instances is {max_instances}")


def object_of(value: Any, field: str) -> dict[str, Any]:
    """A copy of an optional JSON object; InvalidRequestError names the field where it is something else."""
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise InvalidRequestError(f"{field} must be an object, not {describe(value)}")
    return dict(value)


def element(text: str | bytes) -> Any:
    """One text, or the JSON object that it spells.

    Raises InvalidRequestError when it is not UTF-8, or begins like an object and is none.
    """
    if isinstance(text, (bytes, bytearray)):
        try:
            text = text.decode("utf-8")
        except UnicodeDecodeError as exc:
            raise InvalidRequestError(f"the element is not UTF-8 (byte {exc.start})") from exc
    if not text.lstrip().startswith("{"):
        return text
    try:
        return jsonio.loads(text)
    except ValueError as exc:
        raise InvalidRequestError(
            f'the element begins with "{{" but is not JSON ({_where(exc)}); send such a text as {{"text": ...}}'
        ) from exc


def error_reply(error: RequestError, message: str | None = None) -> Reply:
    """The contract's answer to a refused request."""
    headers = {"Retry-After": str(error.retry_after_s)} if isinstance(error, QueueFullError) else {}
    return Reply(jsonio.dumps({"error": message or str(error)}), error.status, headers=headers)


def failed(response: Response) -> Reply | None:
    """The error to answer with when no instance has a prediction, else None."""
    first = response.predictions[0] if response.predictions else None
    if not isinstance(first, Failure) or any(isinstance(item, Prediction) for item in response.predictions):
        return None
    different = {str(item.error) for item in response.predictions if isinstance(item, Failure)}
    prefix = "instance 0: " if len(different) > 1 else ""
    return error_reply(first.error, f"{prefix}{first.error}")


def error_document(failure: Failure) -> dict[str, Any]:
    """What stands in the place of an instance's answer when its neighbours have one."""
    return {"error": str(failure.error), "status": failure.error.status}


def truncation_notes(response: Response) -> dict[str, Any]:
    """What the client is told when a text was cut: `truncated` and `input_tokens`, of every instance.

    One instance: a boolean and an integer.  More: JSON lists as text, since V2 parameters are scalars.
    """
    items = response.predictions
    truncated = [isinstance(item, Prediction) and item.truncated for item in items]
    if not any(truncated):
        return {}
    tokens = [item.input_tokens if isinstance(item, Prediction) else 0 for item in items]
    if len(items) == 1:
        return {"truncated": True, "input_tokens": tokens[0]}
    return {"truncated": jsonio.dumps(truncated).decode(), "input_tokens": jsonio.dumps(tokens).decode()}


def _where(exc: BaseException) -> str:
    if isinstance(exc, jsonio.DepthError):
        return str(exc)
    # The parser's own message may quote the text; position alone is safe to repeat and to log.
    line, column = getattr(exc, "lineno", None), getattr(exc, "colno", None)
    return f"line {line}, column {column}" if line is not None else "it cannot be parsed"
