"""How a store's package is a persistence module of the eventsourcing library, without loading that library."""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import Any


def offer_factory(name: str) -> None:
    """Make the package of that name a persistence module, whose factory is ``Factory`` of its module ``factory``."""
    sys.modules[name].__class__ = _PersistenceModule


class _PersistenceModule(ModuleType):
    """A module with ``Factory`` in it as soon as somebody looks.

    The library finds the factory of a module among the values of its ``__dict__``, and that of a topic
    (``evrt.log.sqlite:Factory``) by its name. Both come here first, so that opening a log, which imports
    the package, does not load the library.
    """

    @property
    def __dict__(self) -> dict[str, Any]:  # type: ignore[override]
        members = super().__dict__
        if "Factory" not in members:
            members["Factory"] = import_module(f"{members['__name__']}.factory").Factory
        return members

    def __getattr__(self, name: str) -> Any:
        if name == "Factory":
            return self.__dict__[name]
        raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
