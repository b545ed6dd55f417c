"""Imports of other libraries put off until something of what they import is called.

Of what a server imports, much is for others: together a fifth of its memory and half a second of its start.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType
from typing import Any

IN_SERVERS = ("pandas", "kserve.api.kserve_client", "httpx._main")
"""What kserve's server does not call: its requests as data frames, its client of Kubernetes, httpx's command line."""


class _StandIn(ModuleType):
    """Has whatever is asked of it: first as a function that imports when it is called, later as it is."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        if sys.modules.get(self.__name__) is not self:
            return getattr(import_module(self.__name__), name)

        def later(*args: Any, **kwargs: Any) -> Any:
            return getattr(import_module(self.__name__), name)(*args, **kwargs)

        return later


@contextmanager
def deferred(*names: str) -> Iterator[None]:
    """What is imported within gets stand-ins for modules that are installed and that nothing has imported yet.

    They serve where names of the modules are annotations, or are used when all is imported; not where
    one is a base class.
    """
    new = [name for name in names if name not in sys.modules and find_spec(name.partition(".")[0])]
    with ExitStack() as stand_ins:
        for name in new:
            sys.modules[name] = _StandIn(name)
            stand_ins.callback(sys.modules.pop, name)
        yield
