"""Every error of the package: one tree, each class with the HTTP status that it becomes."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


class BertHandlerError(Exception):
    """Root of the package's errors; also what a defect looks like to a client."""

    status = 500


class ConfigError(BertHandlerError):
    """The model, its settings or its labels do not fit together: found at load, never per request."""


class ArchiveError(BertHandlerError):
    """An archive is damaged, unsafe to unpack, or not what its manifest says."""


class DeploymentError(BertHandlerError):
    """A step of a deployment failed: names the step, the reason, and what is in place already."""


class MissingExtraError(ConfigError):
    """An optional dependency is needed and not installed."""

    def __init__(self, package: str, extra: str) -> None:
        super().__init__(
            f"{package} is not installed; install it with: pip install '{package}', or all that is needed with: "
            f"pip install '.[{extra}]' in a clone"
        )


class RequestError(BertHandlerError):
    """A request, or one instance of it, is refused; the text is for the client."""

    status = 400


class InvalidRequestError(RequestError):
    """The request does not say what it should; the message names the field and the instance."""

    status = 400


class UnauthorizedError(RequestError):
    """No valid token came with the request, to a server with tokens."""

    status = 401


class ForbiddenError(RequestError):
    """The server does this for nobody; models are loaded and unloaded with `--enable-repository` alone."""

    status = 403


class ModelNotFoundError(RequestError):
    """No model, or no version of it, has the name in the route."""

    status = 404


class NoRouteError(RequestError):
    """The path is none that the server has."""

    status = 404


class WrongMethodError(RequestError):
    """The path is there, and takes other methods."""

    status = 405


class SlowBodyError(RequestError):
    """The client took too long to send its body."""

    status = 408


class RequestTooLargeError(RequestError):
    """A stated limit of bytes, instances or tokens is exceeded."""

    status = 413


class UnservableError(RequestError):
    """The request is well formed and this model cannot answer it."""

    status = 422


class QueueFullError(RequestError):
    """Too much is waiting already; `Retry-After` says when to try again, in seconds."""

    status = 429

    def __init__(self, message: str, retry_after_s: int = 1) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class NotReadyError(RequestError):
    """The model is not loaded yet or being unloaded, the server is stopping, or the server behind this one is away."""

    status = 503


class DeviceLostError(NotReadyError):
    """The device has failed and computes nothing any more for this process."""

    def __init__(self, message: str = "the model's device has failed; the server must be started again") -> None:
        super().__init__(message)


class DeadlineError(RequestError):
    """The time that the caller or the settings allow ran out before the answer was computed."""

    status = 504


class InternalError(RequestError):
    """A defect: the log has the traceback, the client gets none of it."""

    status = 500

    def __init__(self, message: str = "internal error; the server's log has the details") -> None:
        super().__init__(message)


def of_status(status: int, message: str) -> RequestError:
    """The error that another server's refusal stands for; it keeps a status that no class here has."""
    # Of two classes with one status, the first is the general one.
    kinds = {kind.status: kind for kind in reversed(RequestError.__subclasses__())}
    error: RequestError = kinds.get(status, RequestError)(message)
    error.status = status
    return error


def require_file(path: Path) -> None:
    """Raise ConfigError where a path that somebody gave is no file."""
    if not path.is_file():
        raise ConfigError(f"{path} is not a file" if path.exists() else f"{path} does not exist")
