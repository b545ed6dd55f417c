"""A client of the Open Inference Protocol (V2) over REST; `grpc` beside it has its gRPC twin.

It goes where curl goes: through a gateway that routes by Host header and asks for a
session cookie.  Cookies and tokens are sent and never shown: not in errors, logs or reprs.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx

from bert_handler import jsonio
from bert_handler.addresses import environment_proxy
from bert_handler.client.base import Exchange, InferResponse, Retry, V2Client, document
from bert_handler.errors import ConfigError, DeadlineError, NotReadyError

__all__ = ["Client", "InferResponse", "Retry", "document"]


class Client(V2Client):
    """V2 over REST.

    The environment's proxy is used, except for addresses of this machine.
    """

    def _connect(self, headers: dict[str, str], ca_file: Path | None) -> None:
        with environment_proxy():
            # A proxy would see texts and token of what never leaves this machine.
            self._http = httpx.Client(
                headers=headers, timeout=self.timeout_s, verify=_certificates(ca_file), trust_env=not self.local
            )

    def close(self) -> None:
        self._http.close()

    def live(self) -> bool:
        return self._is_well("/v2/health/live")

    def ready(self, model: str | None = None) -> bool:
        return self._is_well(f"/v2/models/{model}/ready" if model else "/v2/health/ready")

    def models(self) -> list[str]:
        listed = self._answered(lambda: self._get("/v2/models")).document
        # Other servers list objects: {"models": [{"name": ...}]}.
        return [item["name"] if isinstance(item, dict) else str(item) for item in listed.get("models", ())]

    def metadata(self, model: str | None = None, version: str | None = None) -> Mapping[str, Any]:
        return self._answered(lambda: self._get(_model_path(model, version) if model else "/v2")).document

    def send(
        self, model: str, body: Mapping[str, Any] | bytes, *, version: str | None = None, explain: bool = False
    ) -> InferResponse:
        path = f"{_model_path(model, version)}/{'explain' if explain else 'infer'}"
        content = body if isinstance(body, bytes) else jsonio.dumps(body)
        headers = {"content-type": "application/json"}
        return self._answered(lambda: self._exchange("POST", path, content=content, headers=headers))

    def _is_well(self, path: str) -> bool:
        response = self._response("GET", path)
        # Triton and MLServer say so with the status alone; a gateway's page of another kind says nothing.
        return response.status_code == 200 and (not response.content or _judged(response).status == 200)

    def _get(self, path: str) -> Exchange:
        return self._exchange("GET", path)

    def _exchange(self, method: str, path: str, **content: Any) -> Exchange:
        return _judged(self._response(method, path, **content))

    def _response(self, method: str, path: str, **content: Any) -> httpx.Response:
        try:
            return self._http.request(method, self.url + path, **content)
        except httpx.TimeoutException as exc:
            raise DeadlineError(f"{self.url} did not answer within {self.timeout_s:g} s") from exc
        except (httpx.HTTPError, httpx.InvalidURL) as exc:
            raise NotReadyError(f"{self.url} cannot be reached: {exc}") from exc


def _judged(response: httpx.Response) -> Exchange:
    headers = {name.lower(): value for name, value in response.headers.items()}
    try:
        content = jsonio.loads(response.content) if response.content else None
    except ValueError:
        content = None
    if response.is_redirect:
        # Followed, it would end on a login page, and take the cookie to another host.
        target = httpx.URL(headers.get("location", "")).copy_with(query=None, fragment=None)
        return Exchange(401, message=f"redirected to {target}: the session cookie is missing or has expired")
    if response.status_code == 200 and content is None:
        return Exchange(502, message=f"the answer is {headers.get('content-type', 'empty')}, not JSON", headers=headers)
    return Exchange(response.status_code, content, _message(content) or response.reason_phrase, headers)


def _message(content: Any) -> str:
    """The words of a refusal: V2's `error`, FastAPI's `detail`, TorchServe's `message`."""
    if not isinstance(content, dict):
        return ""
    found = next((content[key] for key in ("error", "detail", "message") if key in content), "")
    return found if isinstance(found, str) else jsonio.dumps(found).decode()


def _model_path(model: str, version: str | None) -> str:
    return f"/v2/models/{model}" + (f"/versions/{version}" if version else "")


def _certificates(ca_file: Path | None) -> Any:
    if ca_file is None:
        # Here, since a client that does not trust the environment would not look at SSL_CERT_FILE.
        return httpx.create_ssl_context()
    import ssl

    context = ssl.create_default_context()
    try:
        context.load_verify_locations(ca_file)
    except OSError as exc:
        raise ConfigError(f"the certificates {ca_file} cannot be read: {exc}") from exc
    return context
