"""TorchServe's entry point: the handler that a worker loads from the archive.

The archive's root has this module's text or a subclass of its one class: TorchServe takes the only
class that the handler file itself defines.
"""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from pathlib import Path
from typing import Any

from ts.handler_utils.utils import send_intermediate_predict_response
from ts.metrics.metric_type_enum import MetricTypes

from bert_handler import jsonio, serving
from bert_handler.artifact import Artifact
from bert_handler.deferred import deferred
from bert_handler.errors import InvalidRequestError, RequestError
from bert_handler.memory import bound_caches
from bert_handler.metrics import Count, record
from bert_handler.predictor import Predictor
from bert_handler.protocols import Body, is_form
from bert_handler.protocols.forms import FIELDS, URLENCODED, holder
from bert_handler.schema import NO_ID, Identity, Reply, Request
from bert_handler.serving import Answer, Call
from bert_handler.tracing import ID_HEADER
from bert_handler.unpacking import verify

# Torch, which it imports, reads them once.
bound_caches()
# It imports what other handlers build on: with OpenVINO, 145 MB and nearly two seconds of every worker.
with deferred("onnxruntime", "openvino", "openvino.torch"):
    from ts.torch_handler.base_handler import BaseHandler

logger = logging.getLogger(__name__)

REPORT_EVERY_S = 5.0
"""A metric costs TorchServe a line of the worker's log; figures reach it with the next request after this."""
_ENVELOPES = ("body", "json", "kserve", "kservev2")


class TransformerHandler(BaseHandler):  # type: ignore[misc, unused-ignore]
    """Serves any task of the package; override preprocess, inference or postprocess as usual.

    preprocess: rows as TorchServe gives them -> list[Call].
    inference: list[Call] -> list[Answer], whose `response.predictions` hold every output.
    postprocess: list[Answer] -> one entry a row: bytes, str, or anything that is JSON.
    """

    def initialize(self, context: Any) -> None:
        """Load the model of the unpacked archive and answer the task's sample once."""
        properties = context.system_properties
        directory = Path(properties["model_dir"])
        digests = verify(directory, compiled=True)
        model = (context.manifest or {}).get("model", {})
        identity = Identity(str(model.get("modelName", directory.name)), str(model.get("modelVersion", "1.0")))
        gpu = properties.get("gpu_id")
        self.predictor = Predictor.load(
            Artifact.of_directory(directory, digests),
            identity=identity,
            offered_device=None if gpu is None else f"cuda:{gpu}",
            model_yaml=context.model_yaml_config or None,
        )
        self._statuses: list[int] = []
        self._reported: Mapping[Count, float] = {}
        self._next_report = 0.0
        serving.freeze_heap()
        self.context = context
        self.manifest = context.manifest
        _disarm_envelopes()
        self.initialized = True

    def handle(self, data: Sequence[Mapping[str, Any]], context: Any) -> list[Any]:
        """Answer a batch: one entry a row, each with its own status and headers."""
        self.context = context
        started = time.perf_counter()
        bodies = list(self.postprocess(self.inference(self.preprocess(data))))
        self._count(len(bodies), time.perf_counter() - started)
        if self.predictor.engine.lost:
            # TorchServe answers the batch itself, and starts another worker.
            raise SystemExit(1)
        return bodies

    def preprocess(self, data: Sequence[Mapping[str, Any]]) -> list[Call]:
        """Decode each row on its own; a wrong body is an error in its own call."""
        return [self._decode(row, index) for index, row in enumerate(data)]

    def inference(self, data: list[Call], *args: Any, **kwargs: Any) -> list[Answer]:
        """Predict all instances of all rows together; meanwhile explain and stream, one row after another.

        TorchServe answers a batch as a whole, so that the time of all its rows counts from here on.
        """
        started = time.monotonic()
        pendings = serving.begin(self.predictor, data)
        others = {index: self._apart(call, index, started) for index, call in enumerate(data) if call.is_apart}
        return [others.get(index, answer) for index, answer in enumerate(serving.answers(data, pendings))]

    def postprocess(self, data: list[Answer]) -> list[Any]:
        """Encode each answer and set its row's status, content type and headers."""
        bodies = []
        self._statuses = []
        for index, answer in enumerate(data):
            reply = serving.encode(self.predictor, answer)
            self._statuses.append(reply.status)
            if reply.status != HTTPStatus.OK:
                self.context.set_response_status(reply.status, HTTPStatus(reply.status).phrase, index)
            self.context.set_response_content_type(index, reply.content_type)
            for name, value in reply.headers.items():
                self.context.set_response_header(index, name, value)
            bodies.append(reply.body)
        return bodies

    def describe_handle(self) -> bytes:
        """The V2 model metadata: TorchServe asks for it with `GET /models/{name}?customized=true`."""
        return jsonio.dumps(self.predictor.metadata())

    def _count(self, n_rows: int, seconds: float) -> None:
        """Count a batch, and hand what was counted to the frontend's metrics every few seconds."""
        # An overridden postprocess sets statuses of its own.
        statuses = self._statuses if len(self._statuses) == n_rows else [int(HTTPStatus.OK)] * n_rows
        for index, status in enumerate(statuses):
            record(self.predictor.identity.name, self.predictor.metrics, self._identified(index), status, seconds)
        now = time.monotonic()
        cache = getattr(self.context, "metrics", None)
        if cache is None or now < self._next_report:
            return
        self._next_report = now + REPORT_EVERY_S
        counted = self.predictor.metrics.counters()
        for (name, labels), count in counted.items():
            before = self._reported.get((name, labels))
            # Zeros count once: a percentile is wrong where a histogram lacks its lower buckets.
            if count != before:
                self._report(cache, name, count - (before or 0), dict(labels), MetricTypes.COUNTER)
        self._reported = counted
        self._report(cache, "bert_handler_model_info", 1, self.predictor.info(), MetricTypes.GAUGE)

    def _report(self, cache: Any, name: str, value: float, labels: Mapping[str, str], kind: Any) -> None:
        labels = {"model": self.predictor.identity.name, **labels}
        cache.add_metric_to_cache(name, "count", list(labels), kind).add_or_update(value, list(labels.values()))

    def _decode(self, row: Mapping[str, Any], index: int) -> Call:
        headers = self._identified(index)
        if headers.get("describe") == "True":
            return Call(reply=Reply(self.describe_handle()))
        try:
            if is_form(headers):
                # The frontend has taken it apart.  Of JSON that it took for fields, nothing reliable is left.
                kind = headers.pop("content-type").lower()
                if kind.startswith(URLENCODED) and not set(FIELDS) & set(row):
                    row = {}
            streams, limit = self.predictor.task.needs_generation, self.predictor.config.max_instances
            return serving.decode(_body(row), headers, streams=streams, max_instances=limit)
        except InvalidRequestError as exc:
            return Call(error=exc)

    def _apart(self, call: Call, index: int, started: float) -> Answer:
        """Answer what is no plain prediction, in the time that counts from `started`."""
        if call.kind == "explain":
            return serving.explained(self.predictor, call, started)
        assert call.request is not None
        return Answer(self._streamed(call.request, index, started)._replace(trace=call.trace))

    def _streamed(self, request: Request, index: int, started: float) -> Call:
        """Send all events but the last as intermediate responses; the last one is the row's answer."""
        outputs = tuple(request.outputs or self.predictor.outputs)
        event = b""
        try:
            with serving.open_stream(self.predictor, request, started=started) as stream:
                self.context.set_response_content_type(index, serving.EVENT_STREAM)
                row = {index: self.context.get_request_id(index)}
                for following in serving.events(stream, outputs):
                    if event:
                        send_intermediate_predict_response({index: event}, row, "event", 200, self.context)
                    event = following
        except RequestError as exc:
            return Call(error=exc)
        return Call(reply=Reply(event, content_type=serving.EVENT_STREAM))

    def _identified(self, index: int) -> dict[str, str]:
        """A row's headers; without the client's id, TorchServe's own, which its answer carries too."""
        headers = self.context.get_all_request_header(index)
        own = {name.lower(): value for name, value in headers.items() if isinstance(value, str)}
        return {ID_HEADER: self.context.get_request_id(index) or NO_ID, **own}


def _body(row: Mapping[str, Any]) -> Body:
    """The body of a row: posted whole, or the one field of a multipart form.

    Raises InvalidRequestError where the frontend has taken the body apart: curl's default content
    type makes it read JSON as a form, of which nothing reliable is left.
    """
    name = holder(row)
    if name is None:
        raise InvalidRequestError(
            "TorchServe has read the body as a form and dropped it; send Content-Type: application/json "
            "(curl: -H 'Content-Type: application/json'), or text/plain for a bare text"
        )
    value: Body = row[name]
    return value


def _disarm_envelopes() -> None:
    """Keep TorchServe's service envelopes from rewriting requests and answers.

    They drop all but the first row of a batch and all but the first character of a bare string;
    every body says itself which protocol it speaks.
    """
    for name in _ENVELOPES:
        module = sys.modules.get(f"ts.torch_handler.request_envelope.{name}")
        for envelope in vars(module).values() if module else ():
            if isinstance(envelope, type) and envelope.__module__ == module.__name__:  # type: ignore[union-attr]
                envelope.parse_input = _unchanged  # type: ignore[attr-defined]
                envelope.format_output = _unchanged  # type: ignore[attr-defined]
                logger.info("service_envelope=%s is on: requests are decoded by the handler itself", name)


def _unchanged(self: Any, data: Any) -> Any:
    return data
