"""KServe's V1 protocol: `{"instances": [...]}` in, `{"predictions": [...]}` out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bert_handler import jsonio
from bert_handler.errors import InvalidRequestError
from bert_handler.parameters import describe, unknown
from bert_handler.protocols.base import (
    Body,
    Protocol,
    check_count,
    element,
    error_document,
    failed,
    object_of,
    parse_json,
    truncation_notes,
)
from bert_handler.protocols.columns import COLUMNS, STOCK_FIELDS
from bert_handler.schema import Failure, Identity, Instance, OutputSpec, Prediction, Reply, Request, Response

KEYS = ("instances", "parameters", "outputs", "signature_name")


class V1(Protocol):
    """A prediction is the bare `predict` output, or an object where other outputs were chosen."""

    name = "v1"

    def decode(self, body: Body, headers: Mapping[str, str], max_instances: int | None = None) -> Request:
        document = parse_json(body)
        if not isinstance(document, dict):
            raise InvalidRequestError(f"the body must be a JSON object, not {describe(document)}")
        for key in document:
            if key not in KEYS:
                raise InvalidRequestError(unknown(key, KEYS, "key"))
        if "instances" not in document:
            raise InvalidRequestError("instances is missing; send a list of texts or objects")
        instances = document["instances"]
        if not isinstance(instances, list):
            raise InvalidRequestError(f"instances must be a list of texts or objects, not {describe(instances)}")
        check_count(len(instances), max_instances)
        parameters = object_of(document.get("parameters"), "parameters")
        checked = [instance_of(item) for item in instances]
        return Request(checked, parameters=parameters, outputs=output_names(document.get("outputs")))

    def encode(self, response: Response, identity: Identity, specs: Mapping[str, OutputSpec]) -> Reply:
        error = failed(response)
        if error is not None:
            return error
        name = "explanations" if response.outputs == ("explanation",) else "predictions"
        answer: dict[str, Any] = {name: [plain(item, response.outputs) for item in response.predictions]}
        notes = truncation_notes(response)
        if notes:
            answer["parameters"] = notes
        return Reply(jsonio.dumps(answer))


def instance_of(item: Any) -> Instance:
    """A text or an object; anything else fails alone."""
    if isinstance(item, dict):
        return _stock(item)
    if isinstance(item, str):
        return item
    return Failure(InvalidRequestError(f"the instance must be a text or an object, not {describe(item)}"))


def _stock(item: dict[str, Any]) -> Instance:
    """The instance that `{"data": ...}` or `{"body": ...}` stands for: a text, or an object or its JSON."""
    name = next((name for name in STOCK_FIELDS if name in item), None)
    if name is None or any(field in item for field in COLUMNS):
        return item
    rest = {key: value for key, value in item.items() if key != name}
    try:
        content = element(item[name]) if isinstance(item[name], str) else item[name]
    except InvalidRequestError as exc:
        return Failure(exc)
    return {**content, **rest} if isinstance(content, dict) else {"text": content, **rest}


def plain(item: Prediction | Failure, outputs: tuple[str, ...]) -> Any:
    """One instance's answer as JSON: the value of a lone output, else an object of them."""
    if isinstance(item, Failure):
        return error_document(item)
    if len(outputs) == 1:
        return item[outputs[0]]
    return {name: item[name] for name in outputs}


def output_names(value: Any) -> tuple[str, ...] | None:
    """Names of requested outputs where the protocol has no form of its own for them."""
    if value is None:
        return None
    if not isinstance(value, list) or not value or not all(isinstance(name, str) for name in value):
        raise InvalidRequestError("outputs must be a list of output names")
    if len(set(value)) < len(value):
        raise InvalidRequestError("outputs names an output twice")
    return tuple(value)
