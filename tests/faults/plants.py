"""Bugs to plant into a worker, each of which the fault tests have to catch. They exist in those processes only."""

from __future__ import annotations


def plant(name: str | None) -> None:
    if name is not None:
        raise ValueError(f"There is no plant {name!r}.")
