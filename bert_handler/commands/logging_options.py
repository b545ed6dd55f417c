"""Logging of the commands that run a server; the library itself configures none."""

from __future__ import annotations

import logging


def configure_logging(level: str = "INFO") -> None:
    """Log to standard error, one line a record."""
    logging.basicConfig(level=level.upper(), format="%(asctime)s %(name)s %(levelname)s: %(message)s")
    # A line for each readiness poll and each forwarded request says nothing.
    logging.getLogger("httpx").setLevel(logging.WARNING)
