"""The log in one SQLite file: one writer thread per process, a file lock between processes, readers apart.

It is a persistence module for the eventsourcing library as well, and holds that library's ``Factory``.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from evrt.log.sqlite.factory import Factory as Factory


class _PersistenceModule(ModuleType):
    """This module, with ``Factory`` in it as soon as somebody looks.

    The library finds the factory of a module among the values of its ``__dict__``, and that of a topic
    (``evrt.log.sqlite:Factory``) by its name. Both come here first, so that opening a log, which imports
    this package, does not load the library.
    """

    @property
    def __dict__(self) -> dict[str, Any]:  # type: ignore[override]
        members = super().__dict__
        if "Factory" not in members:
            from evrt.log.sqlite.factory import Factory

            members["Factory"] = Factory
        return members

    def __getattr__(self, name: str) -> Any:
        if name == "Factory":
            return self.__dict__[name]
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


sys.modules[__name__].__class__ = _PersistenceModule
