"""One instance with nothing around it: a text, or a JSON object with the task's fields."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bert_handler import jsonio
from bert_handler.errors import InvalidRequestError
from bert_handler.parameters import describe
from bert_handler.protocols.base import Body, Protocol, check_count, failed, truncation_notes
from bert_handler.protocols.v1 import instance_of, output_names, plain
from bert_handler.schema import Failure, Identity, Instance, OutputSpec, Reply, Request, Response

MAX_HEADER = 2048
"""Characters of `X-Truncated`: many clients and proxies take no answer with a header of 4 or 8 KB."""


class Raw(Protocol):
    """A lone label answers as plain text, anything else as JSON.

    A JSON list is N instances, never a pair. Truncation is told in the header `X-Truncated`; of a long list, only
    that something was cut.
    """

    name = "raw"

    def decode(self, body: Body, headers: Mapping[str, str], max_instances: int | None = None) -> Request:
        if isinstance(body, (bytes, bytearray)):
            try:
                body = bytes(body).decode("utf-8")
            except UnicodeDecodeError as exc:
                raise InvalidRequestError(f"the body is not UTF-8 (byte {exc.start})") from exc
        if isinstance(body, list):
            check_count(len(body), max_instances)
            return Request([instance_of(item) for item in body])
        instance: Any = body
        outputs = None
        if isinstance(body, Mapping):
            instance = dict(body)
            outputs = output_names(instance.pop("outputs", None))
        checked: Instance = instance_of(instance)
        if isinstance(checked, Failure):
            raise InvalidRequestError(f"the body must be a text or a JSON object, not {describe(body)}")
        return Request([checked], outputs=outputs, scalar=True)

    def encode(self, response: Response, identity: Identity, specs: Mapping[str, OutputSpec]) -> Reply:
        error = failed(response)
        if error is not None:
            return error
        answers = [plain(item, response.outputs) for item in response.predictions]
        value = answers[0] if response.request.scalar else answers
        headers = _truncation_header(response)
        if isinstance(value, str):
            return Reply(value.encode("utf-8"), content_type="text/plain; charset=utf-8", headers=headers)
        return Reply(jsonio.dumps(value), headers=headers)


def _truncation_header(response: Response) -> dict[str, str]:
    notes = truncation_notes(response)
    if not notes:
        return {}
    told = jsonio.dumps(notes).decode()
    return {"X-Truncated": told if len(told) <= MAX_HEADER else '{"truncated":true}'}
