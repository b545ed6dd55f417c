"""`asyncio.timeout`, and what stands in for it before Python 3.11.  Needed by the KServe host only."""

from __future__ import annotations

import sys

if sys.version_info >= (3, 11):
    from asyncio import timeout  # novermin: the other branch is for older ones
else:
    from async_timeout import timeout

__all__ = ["timeout"]
