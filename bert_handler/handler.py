"""TorchServe's entry point: the handler that a worker loads from the archive.

The archive's root has this module's text or a subclass of its one class: TorchServe takes the only
class that the handler file itself defines.
"""

from __future__ import annotations

import logging
import sys
from http import HTTPStatus
from pathlib import Path
from typing import Any, Mapping, Sequence

from ts.torch_handler.base_handler import BaseHandler

from bert_handler import jsonio, serving
from bert_handler.artifact import Artifact, verify
from bert_handler.predictor import Predictor
from bert_handler.protocols import Body
from bert_handler.schema import Identity
from bert_handler.serving import Answer, Call

logger = logging.getLogger(__name__)

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
        verify(directory)
        model = (context.manifest or {}).get("model", {})
        identity = Identity(str(model.get("modelName", directory.name)), str(model.get("modelVersion", "1.0")))
        gpu = properties.get("gpu_id")
        self.predictor = Predictor.load(
            Artifact.of_directory(directory),
            identity=identity,
            device=None if gpu is None else f"cuda:{gpu}",
            model_yaml=context.model_yaml_config or None,
        )
        self.context = context
        self.manifest = context.manifest
        _disarm_envelopes()
        self.initialized = True

    def handle(self, data: Sequence[Mapping[str, Any]], context: Any) -> list[Any]:
        """Answer a batch: one entry a row, each with its own status and headers."""
        self.context = context
        if context.get_request_header(0, "describe") == "True":
            return [self.describe_handle()] * len(data)
        return list(self.postprocess(self.inference(self.preprocess(data))))

    def preprocess(self, data: Sequence[Mapping[str, Any]]) -> list[Call]:
        """Decode each row on its own; a wrong body is an error in its own call."""
        return [serving.decode(_body(row), self._headers(index)) for index, row in enumerate(data)]

    def inference(self, data: list[Call], *args: Any, **kwargs: Any) -> list[Answer]:
        """Predict all instances of all rows together."""
        return serving.answers(data, serving.begin(self.predictor, data))

    def postprocess(self, data: list[Answer]) -> list[Any]:
        """Encode each answer and set its row's status, content type and headers."""
        bodies = []
        for index, answer in enumerate(data):
            reply = serving.encode(self.predictor, answer)
            if reply.status != HTTPStatus.OK:
                self.context.set_response_status(reply.status, HTTPStatus(reply.status).phrase, index)
            self.context.set_response_content_type(index, reply.content_type)
            for name, value in reply.headers.items():
                self.context.set_response_header(index, name, value)
            bodies.append(reply.body)
        return bodies

    def describe_handle(self) -> bytes:
        """The V2 model metadata, for `GET /models/{name}?customized=true`."""
        return jsonio.dumps(self.predictor.metadata())

    def _headers(self, index: int) -> dict[str, str]:
        headers = self.context.get_all_request_header(index)
        return {name.lower(): value for name, value in headers.items() if isinstance(value, str)}


def _body(row: Mapping[str, Any]) -> Body:
    """The body of a row: posted whole, as a multipart field, or taken apart as a form by the frontend."""
    for name in ("body", "data"):
        if name in row:
            value: Body = row[name]
            return value
    # curl's default content type makes the frontend read JSON as a form: the text is in the keys.
    parts = []
    for name, value in row.items():
        text = value.decode("utf-8", "replace") if isinstance(value, (bytes, bytearray)) else str(value)
        parts.append(f"{name}={text}" if text else name)
    return "&".join(parts)


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
