"""What commands refuse before their work begins."""

from __future__ import annotations

import errno
import socket
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from bert_handler.errors import ConfigError

MAX_PORT = 65535


def check_ports(host: str, ports: Mapping[str, int]) -> None:
    """Refuse ports, by their options, that a server could not listen on: its model need not be loaded to know.

    0 stands for no server.  Raises ConfigError.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with ExitStack() as held:
        for option, port in ports.items():
            if not port:
                continue
            try:
                held.enter_context(socket.create_server((host, port), family=family))
            except OSError as exc:
                if exc.errno == errno.EADDRINUSE:
                    raise ConfigError(f"{host}:{port} is in use; choose another {option}") from exc
                raise ConfigError(f"{host}:{port} cannot be listened on: {exc.strerror or exc}") from exc


def refuse_given(options: Mapping[str, Any], why: str) -> None:
    """Refuse what was given (neither None nor False) of options that would be without effect, with ConfigError."""
    given = [option for option, value in options.items() if value not in (None, False)]
    if given:
        raise ConfigError(f"{', '.join(given)}: {why}")


def check_output(path: Path) -> None:
    """Raise now the OSError that writing the file would raise after the work; its directories are made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    is_new = not path.exists()
    with path.open("ab"):
        pass
    if is_new:
        path.unlink()
