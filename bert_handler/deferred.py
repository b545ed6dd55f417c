"""Imports of other libraries put off until something of what they import is called.

Of what a server imports, much is for others: together a fifth of its memory and half a second of its start.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from pkgutil import iter_modules
from types import ModuleType
from typing import Any

IN_SERVERS = ("pandas", "kserve.api.kserve_client", "kserve.models.*", "httpx._main")
"""What kserve's server does not call.

Its requests as data frames, its client and its objects of Kubernetes, httpx's command line.
"""


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

    names: `package.*` is the package and each of its modules.
    They serve where names of the modules are annotations, or are used when all is imported; not where
    one is a base class.
    """
    new = [name for each in names for name in _installed(each) if name not in sys.modules]
    with ExitStack() as stand_ins:
        for name in new:
            sys.modules[name] = _StandIn(name)
            stand_ins.callback(_withdraw, name)
        yield


def _withdraw(name: str) -> None:
    """Let the next import of the module be a real one; as an attribute of its package the stand-in remains."""
    stand_in = sys.modules.pop(name)
    package, _, leaf = name.rpartition(".")
    if package in sys.modules and not hasattr(sys.modules[package], leaf):
        setattr(sys.modules[package], leaf, stand_in)


def _installed(name: str) -> list[str]:
    """The modules that a name of `deferred` stands for, found without an import of any."""
    package, every, _ = name.partition(".*")
    top, *inner = package.split(".")
    spec = find_spec(top)
    if spec is None:
        return []
    if not every:
        return [package]
    directories = [str(Path(root, *inner)) for root in spec.submodule_search_locations or ()]
    return [package, *(f"{package}.{item.name}" for item in iter_modules(directories))]
