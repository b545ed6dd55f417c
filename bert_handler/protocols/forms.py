"""Bodies within forms, taken out as TorchServe's frontend does it, so that all hosts answer them alike."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from email.message import Message
from email.parser import HeaderParser
from urllib.parse import parse_qsl

from bert_handler.errors import InvalidRequestError

URLENCODED = "application/x-www-form-urlencoded"
MULTIPART = "multipart/form-data"
FIELDS = ("body", "data")
"""Of a form, what may hold the body."""
MAX_PARTS = 32
MAX_HEAD = 4096
"""Bytes of a part's headers, and of the content type: Python reads their parameters in the square of the time."""
_FORM = re.compile(rb"(?:[\w.%%+-]*=[^&]*&){0,%d}(?:body|data)=" % (MAX_PARTS - 1))
"""Bounded: the regular expression keeps a place to come back to for each field that it passes."""


def is_form(headers: Mapping[str, str]) -> bool:
    """Whether a body is sent as a form; headers have lower-case names."""
    return headers.get("content-type", "").lower().startswith((URLENCODED, MULTIPART))


def unwrapped(body: bytes, headers: Mapping[str, str]) -> bytes:
    """The body that a form holds; any other is given back as it is.

    It is the field `body` or `data`, or a multipart form's only one; of equal names the last.  curl calls every body
    urlencoded unless told otherwise: only one that has such a field is taken for a form.
    Raises InvalidRequestError where a multipart form is none, or holds no such field.
    """
    if not is_form(headers):
        return body
    content_type = headers["content-type"]
    if content_type.lower().startswith(MULTIPART):
        return _field(_parts(body, content_type))
    if not _FORM.match(body):
        return body
    try:
        pairs = parse_qsl(body.decode(), keep_blank_values=True, max_num_fields=MAX_PARTS)
    except ValueError as exc:
        raise InvalidRequestError(f"the form must be UTF-8 and have {MAX_PARTS} fields at most") from exc
    return _field({name: value.encode() for name, value in pairs})


def holder(fields: Collection[str]) -> str | None:
    """Of a form's fields, the one that holds the body; None where that cannot be told."""
    return next((name for name in (*FIELDS, *(fields if len(fields) == 1 else ())) if name in fields), None)


def _field(fields: Mapping[str, bytes]) -> bytes:
    name = holder(fields)
    if name is None:
        raise InvalidRequestError(
            "the form has no field data; send the text or the JSON document in a field of that name"
        )
    return fields[name]


def _parts(body: bytes, content_type: str) -> dict[str, bytes]:
    """The fields of a multipart form (RFC 7578) by name."""
    if len(content_type) > MAX_HEAD:
        raise InvalidRequestError(f"header content-type has more than {MAX_HEAD} characters")
    boundary = _header("content-type", content_type).get_boundary()
    if boundary is None:
        raise InvalidRequestError(f"header content-type: {MULTIPART} needs a boundary")
    delimiter = b"\r\n--" + boundary.encode("latin-1", "replace")
    _, *parts = (b"\r\n" + body).split(delimiter, MAX_PARTS + 1)
    if not parts or not parts[-1].startswith(b"--"):
        raise InvalidRequestError(f"the body is no {MULTIPART} of {MAX_PARTS} parts at most with the stated boundary")
    fields: dict[str, bytes] = {}
    for part in parts[:-1]:
        head, end, content = part.partition(b"\r\n\r\n")
        if not end or len(head) > MAX_HEAD:
            raise InvalidRequestError(f"a part of the form has no end of its headers, or more than {MAX_HEAD} bytes")
        headers = HeaderParser().parsestr(head.decode("utf-8", "replace").lstrip())
        fields[str(headers.get_param("name", header="content-disposition"))] = content
    return fields


def _header(name: str, value: str) -> Message:
    message = Message()
    message[name] = value
    return message
