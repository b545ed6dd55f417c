"""From a body to a reply: what both hosts do around the predictor, and nothing else does."""

from __future__ import annotations

import gc
import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Callable, Literal, NamedTuple

from bert_handler import jsonio, tracing
from bert_handler.deadlines import PARAMETER, deadline_of, expired, sooner
from bert_handler.errors import DeadlineError, InternalError, InvalidRequestError, RequestError
from bert_handler.explain import OUTPUTS as EXPLANATION_OUTPUTS
from bert_handler.generation import TextStream
from bert_handler.metrics import caller_of
from bert_handler.parameters import quoted
from bert_handler.pending import Pending
from bert_handler.predictor import Predictor
from bert_handler.protocols import Body, Protocol, detect, error_reply, unwrapped
from bert_handler.protocols.base import media_type
from bert_handler.schema import Failure, Reply, Request, Response
from bert_handler.tracing import ID_HEADER, UNTRACED, Trace

logger = logging.getLogger(__name__)

LATE = "the deadline passed before the answer was computed"
YOUNG_OBJECTS = 10_000
"""That are made before a garbage collection; Python's default is 700."""
EVENT_STREAM = "text/event-stream"
JSON_RANGES = ("application/json", "application/*", "*/*")
"""What an Accept header may call JSON, the most specific first."""
EXPLAIN_HEADER = "explain"
"""TorchServe's own mark, `True`, of a request on its route for explanations; every host here sets it."""


class Call(NamedTuple):
    """One decoded body: the request and the protocol that its answer is written in, or its error.

    reply: set where the host has the answer already.
    kind: whether the request asks for predictions, for a text as it is generated, or for explanations.
    trace: its spans, which end when its answer is encoded.
    """

    request: Request | None = None
    protocol: Protocol | None = None
    error: RequestError | None = None
    reply: Reply | None = None
    kind: Literal["predict", "stream", "explain"] = "predict"
    trace: Trace = UNTRACED

    @property
    def is_apart(self) -> bool:
        """Whether its answer is made of more than predictions."""
        return self.request is not None and self.kind != "predict"

    @property
    def predicted(self) -> Request | None:
        """The request where its answer is made of predictions."""
        return self.request if self.kind == "predict" else None


class Answer(NamedTuple):
    """A call with its response, None where the call was refused."""

    call: Call
    response: Response | None = None


def freeze_heap() -> None:
    """Prepare the process for requests, when all is loaded.

    What is loaded stays out of later garbage collections, each of which would stop requests for long; and
    they come less often: Python's own would look through all that waits for every ten requests.
    Texts are tokenized on the thread that asks: the cores are for forwards, and to hand them some texts
    takes longer than to tokenize them.
    """
    # What was frozen before may be out of use by now.
    gc.unfreeze()
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG_OBJECTS)
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")


def decode(
    body: Body,
    headers: Mapping[str, str],
    protocol: Protocol | None = None,
    *,
    streams: bool = True,
    max_instances: int | None = None,
) -> Call:
    """Read a body in `protocol`, else in the one that the body speaks.  A refusal is in the call.

    headers have lower-case names.  streams: whether the model can answer with server-sent events.
    max_instances: of one request; None for any number.
    """
    trace = tracing.start(headers)
    with trace.measure("decode"):
        call = _decoded(body, headers, protocol, streams, max_instances)
    if trace is UNTRACED:
        return call
    return call._replace(trace=trace, request=call.request and call.request._replace(trace=trace))


def _decoded(
    body: Body, headers: Mapping[str, str], protocol: Protocol | None, streams: bool, max_instances: int | None
) -> Call:
    try:
        body = _taken(body, headers)
        if protocol is None:
            protocol, body = detect(body, headers)
        request = _timed(protocol.decode(body, headers, max_instances), headers)
        if ID_HEADER in headers:
            request = request._replace(caller=caller_of(headers))
        if headers.get(EXPLAIN_HEADER) == "True":
            return Call(request, protocol, kind="explain")
        return Call(request, protocol, kind="stream" if wants_stream(headers, streams=streams) else "predict")
    except RequestError as exc:
        return Call(error=exc)
    except Exception:
        logger.exception("a body could not be decoded, request_id=%a", caller_of(headers))
        return Call(error=InternalError())


def _taken(body: Body, headers: Mapping[str, str]) -> Body:
    """The body, out of its form where it is in one; InvalidRequestError where it is compressed or empty."""
    encoding = headers.get("content-encoding", "identity").strip().lower()
    if encoding not in ("", "identity"):
        raise InvalidRequestError(f"Content-Encoding {quoted(encoding)} is not taken; send the body uncompressed")
    if isinstance(body, bytes):
        body = unwrapped(body, headers)
    # JSON that the host has parsed may be an empty text; no bytes are.
    if body == b"" or (body == "" and media_type(headers) != "application/json"):
        raise InvalidRequestError("the body is empty; send a text, or JSON with inputs (V2) or instances (V1)")
    return body


def _timed(request: Request, headers: Mapping[str, str]) -> Request:
    deadline = deadline_of(headers, request.parameters)
    if PARAMETER not in request.parameters:
        return request if deadline is None else request._replace(deadline=deadline)
    others = {name: value for name, value in request.parameters.items() if name != PARAMETER}
    return request._replace(deadline=deadline, parameters=others)


def begin(predictor: Predictor, calls: Sequence[Call]) -> list[Pending]:
    """Hand the requests of all calls to the predictor together, each with its own deadline or the setting's."""
    requests = [request for call in calls if (request := call.predicted) is not None]
    return predictor.begin(requests, predictor.latest())


def answers(calls: Sequence[Call], pendings: Sequence[Pending]) -> list[Answer]:
    """Wait for the responses and give each to its call, in order; what comes too late is refused."""
    waiting = iter(pendings)
    return [Answer(call) if call.predicted is None else _waited(call, next(waiting)) for call in calls]


def _waited(call: Call, pending: Pending) -> Answer:
    return in_time(call, pending.wait(), pending.deadline)


def in_time(call: Call, response: Response, deadline: float | None) -> Answer:
    """The answer to a call, or its refusal where something was computed after its deadline."""
    late = expired(deadline) and any(not isinstance(item, Failure) for item in response.predictions)
    return refused(call, DeadlineError(LATE)) if late else Answer(call, response)


def refused(call: Call, error: RequestError) -> Answer:
    """The refusal of a call that was decoded."""
    return Answer(call._replace(error=error))


def explained(predictor: Predictor, call: Call, started: float | None = None) -> Answer:
    """Answer a request for explanations on this thread.

    started: time.monotonic() from which deadlines count, default now.
    """
    assert call.request is not None
    request = predictor.explainer.timed(call.request, started)
    return in_time(call, predictor.explainer.respond(request, started), request.deadline)


def encode(predictor: Predictor, answer: Answer) -> Reply:
    """Write one answer in the protocol of its request."""
    with answer.call.trace.measure("encode"):
        reply = _encoded(predictor, answer)
    n_instances = 0 if answer.response is None else len(answer.response.predictions)
    ended(predictor, answer.call, reply.status, n_instances)
    return reply


def ended(predictor: Predictor, call: Call, status: int, n_instances: int = 0) -> None:
    """End the trace of a call that has its answer, or whose client is gone."""
    identity = predictor.identity
    call.trace.end(status, model=identity.name, version=identity.version, instances=n_instances)


def _encoded(predictor: Predictor, answer: Answer) -> Reply:
    if answer.call.reply is not None:
        return answer.call.reply
    if answer.call.error is not None:
        return error_reply(answer.call.error)
    assert answer.call.protocol is not None and answer.response is not None
    try:
        specs = EXPLANATION_OUTPUTS if answer.call.kind == "explain" else predictor.outputs
        return answer.call.protocol.encode(answer.response, predictor.identity, specs)
    except Exception:
        logger.exception("a response could not be encoded, request_id=%a", answer.response.request.caller)
        return error_reply(InternalError())


def wants_stream(headers: Mapping[str, str], *, streams: bool = True) -> bool:
    """Whether the client is to get server-sent events.

    streams: whether the model has them; where it has not, who takes JSON as well gets that.
    """
    accepted = headers.get("accept", "").lower()
    if EVENT_STREAM not in accepted:
        return False
    weights = dict(map(_weighed, accepted.split(",")))
    events, whole = weights.get(EVENT_STREAM, 0), next((weights[name] for name in JSON_RANGES if name in weights), 0)
    return events > 0 and (not whole or (streams and events >= whole))


def _weighed(accepted: str) -> tuple[str, float]:
    """A media type of an Accept header and its weight (RFC 9110, section 12.5.1)."""
    name, *parameters = (part.strip() for part in accepted.split(";"))
    stated = next((text[2:] for text in parameters if text.startswith("q=")), "1")
    try:
        return name, float(stated)
    except ValueError:
        return name, 1.0


def open_stream(
    predictor: Predictor, request: Request, wake: Callable[[], None] | None = None, started: float | None = None
) -> TextStream:
    """Start generating the answer to a request of one instance; RequestError where it is refused.

    wake: as in TextStream, for a reader that must not block.  started: as in `explained`.
    """
    return predictor.stream(request, sooner(request.deadline, predictor.latest(started)), wake)


def events(stream: TextStream, outputs: tuple[str, ...]) -> Iterator[bytes]:
    """The stream as server-sent events: `{"text": ...}` for each piece, then the outputs as a whole,
    with `truncated` and `input_tokens` where the text was cut.

    An error after the first piece is an event named `error`: its status can no longer be sent.
    """
    try:
        for piece in stream:
            yield b"data: " + jsonio.dumps({"text": piece}) + b"\n\n"
    except RequestError as exc:
        yield error_event(exc)
        return
    if stream.prediction is not None:
        whole = {name: stream.prediction[name] for name in outputs}
        if stream.prediction.truncated:
            whole.update(truncated=True, input_tokens=stream.prediction.input_tokens)
        yield b"data: " + jsonio.dumps(whole) + b"\n\n"


def error_event(error: RequestError) -> bytes:
    """The event that ends a stream which cannot go on."""
    return b"event: error\ndata: " + error_reply(error).body + b"\n\n"
