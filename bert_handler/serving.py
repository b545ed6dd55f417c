"""From a body to a reply: what both hosts do around the predictor, and nothing else does."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass

from bert_handler.errors import InternalError, InvalidRequestError, RequestError
from bert_handler.parameters import quoted
from bert_handler.predictor import Pending, Predictor
from bert_handler.protocols import Body, Protocol, detect, error_reply
from bert_handler.schema import Reply, Request, Response

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Call:
    """One decoded body: the request and the protocol that its answer is written in, or its error."""

    request: Request | None = None
    protocol: Protocol | None = None
    error: RequestError | None = None


@dataclass(frozen=True)
class Answer:
    """A call with its response, None where the call was refused."""

    call: Call
    response: Response | None = None


def decode(body: Body, headers: Mapping[str, str], protocol: Protocol | None = None) -> Call:
    """Read a body in `protocol`, else in the one that the body speaks.  A refusal is in the call.

    headers have lower-case names.
    """
    try:
        _check_form(body, headers)
        if protocol is None:
            protocol, body = detect(body, headers)
        return Call(protocol.decode(body, headers), protocol)
    except RequestError as exc:
        return Call(error=exc)
    except Exception:
        logger.exception("a body could not be decoded")
        return Call(error=InternalError())


def _check_form(body: Body, headers: Mapping[str, str]) -> None:
    if isinstance(body, (bytes, bytearray)) and not body:
        raise InvalidRequestError("the body is empty; send a text, or JSON with inputs (V2) or instances (V1)")
    encoding = headers.get("content-encoding", "identity").strip().lower()
    if encoding not in ("", "identity"):
        raise InvalidRequestError(f"Content-Encoding {quoted(encoding)} is not taken; send the body uncompressed")


def begin(predictor: Predictor, calls: list[Call], deadline: float | None = None) -> Pending:
    """Hand the requests of all calls to the predictor together."""
    return predictor.begin([call.request for call in calls if call.request is not None], deadline)


def answers(calls: list[Call], pending: Pending) -> list[Answer]:
    """Wait for the responses and give each to its call, in order."""
    responses = iter(pending.responses())
    return [Answer(call, None if call.request is None else next(responses)) for call in calls]


def encode(predictor: Predictor, answer: Answer) -> Reply:
    """Write one answer in the protocol of its request."""
    if answer.call.error is not None:
        return error_reply(answer.call.error)
    assert answer.call.protocol is not None and answer.response is not None
    try:
        return answer.call.protocol.encode(answer.response, predictor.identity, predictor.outputs)
    except Exception:
        logger.exception("a response could not be encoded")
        return error_reply(InternalError())
