"""The protocols, and which one a body speaks.  A new one is a file here and a line below."""

from __future__ import annotations

from codecs import BOM_UTF8
from collections.abc import Mapping
from typing import Any

from bert_handler import jsonio
from bert_handler.errors import InvalidRequestError
from bert_handler.parameters import unknown
from bert_handler.protocols.base import Body, Protocol, error_reply, media_type, parse_json
from bert_handler.protocols.columns import COLUMNS, STOCK_FIELDS
from bert_handler.protocols.forms import is_form, unwrapped
from bert_handler.protocols.raw import Raw
from bert_handler.protocols.v1 import V1
from bert_handler.protocols.v2 import HEADER_LENGTH, KEYS, V2

RAW, V1_REST, V2_REST = Raw(), V1(), V2()
PROTOCOLS: dict[str, Protocol] = {protocol.name: protocol for protocol in (RAW, V1_REST, V2_REST)}

_FIELDS = (*COLUMNS, *STOCK_FIELDS)

PROTOCOL_HEADER = "x-inference-protocol"
"""Names the protocol where a route in front has fixed it: the body is not asked then."""

__all__ = [
    "PROTOCOLS",
    "PROTOCOL_HEADER",
    "RAW",
    "V1_REST",
    "V2_REST",
    "Body",
    "Protocol",
    "detect",
    "error_reply",
    "is_form",
    "unwrapped",
]


def detect(body: Body, headers: Mapping[str, str]) -> tuple[Protocol, Body]:
    """Tell the protocol from the body itself; also the body, parsed where that was needed.

    headers have lower-case names.  A body that begins like a JSON object must be one, unless it is
    sent as text/plain; InvalidRequestError says so.  What is sent as text/plain is a text, unless it is a request
    in JSON: browsers' fetch names no other type.
    """
    stated = PROTOCOLS.get(headers.get(PROTOCOL_HEADER, ""))
    if stated is not None:
        return stated, body
    if HEADER_LENGTH in headers:
        return V2_REST, body
    content_type = media_type(headers)
    if isinstance(body, (bytes, bytearray, str)):
        if content_type == "text/plain":
            body = _request_in(body)
        else:
            body = _parsed(body, must_be_json=content_type == "application/json")
    if not isinstance(body, Mapping):
        return RAW, body
    if "inputs" in body:
        return V2_REST, body
    if "instances" in body:
        return V1_REST, body
    if any(name in body for name in _FIELDS):
        return RAW, body
    # Without a field of any task, what is missing is more likely `inputs` than `text`.
    other = next((key for key in body if key not in KEYS), None)
    if other is not None:
        raise InvalidRequestError(unknown(other, ("inputs", "instances", *COLUMNS), "key"))
    return V2_REST, body


def _request_in(text: bytes | bytearray | str) -> Any:
    """The object that a text spells where it has a request's keys, else the text itself."""
    if text.lstrip()[:1] not in ("{", b"{"):
        return text
    try:
        document = jsonio.loads(text)
    except ValueError:
        return text
    return document if any(name in document for name in ("inputs", "instances", *_FIELDS)) else text


def _parsed(body: bytes | bytearray | str, *, must_be_json: bool) -> Any:
    start = body.lstrip()[:1]
    if body[:3] == BOM_UTF8 or start == "\ufeff":
        return _marked(body, must_be_json=must_be_json)
    if must_be_json or start in ("{", b"{"):
        try:
            return parse_json(body)
        except InvalidRequestError:
            if must_be_json and isinstance(body, str):
                return body  # TorchServe's worker has parsed a JSON string already
            raise
    if start in ("[", b"[", '"', b'"'):
        try:
            return jsonio.loads(body)
        except ValueError:
            return body
    return body


def _marked(body: bytes | bytearray | str, *, must_be_json: bool) -> Any:
    """The body itself where a plain text begins with a byte order mark; JSON may not."""
    rest = body.lstrip()[1:] if isinstance(body, str) else body[len(BOM_UTF8) :]
    if _parsed(rest, must_be_json=must_be_json) is rest:
        return body
    raise InvalidRequestError("the body is JSON behind a byte order mark; send it without the mark")
