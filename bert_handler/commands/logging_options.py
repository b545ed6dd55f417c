"""Logging of the commands that run a server; the library itself configures none."""

from __future__ import annotations

import logging

from bert_handler.errors import ConfigError

LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")


def configure_logging(level: str = "INFO") -> None:
    """Log to standard error, one line a record.  Raises ConfigError on an unknown level."""
    if level.upper() not in LEVELS:
        raise ConfigError(f"log level {level!r} is unknown; choose from {', '.join(LEVELS)}")
    logging.basicConfig(level=level.upper(), format="%(asctime)s %(name)s %(levelname)s: %(message)s")
    # A line for each readiness poll and each forwarded request says nothing.
    logging.getLogger("httpx").setLevel(logging.WARNING)
