"""Whether a log may be written, as the log itself says: not where it has moved away, nor before it has all come."""

from __future__ import annotations

from typing import NamedTuple

from evrt.errors import Denied


class Standing(NamedTuple):
    """Where a log has moved to, and where it is still being copied from. Most logs have neither."""

    moved_to: str | None = None
    copied_from: str | None = None

    def check(self, place: str) -> None:
        """Raises Denied where the log at this place takes nothing more, or nothing yet."""
        if self.moved_to is not None:
            raise Denied(
                f"The log {place} has moved to {self.moved_to} and can only be read here. Write to it there: with --db, "
                "EVRT_DB, or as the app's URL."
            )
        if self.copied_from is not None:
            raise Denied(
                f"{place} is a copy of {self.copied_from} that is not finished, so it can only be read. `evrt db copy` "
                "with the same two logs goes on with it."
            )


class Origin(NamedTuple):
    """What a copy takes over from the log that it is of: its id, when it was made (µs since 1970), where it is."""

    log: str
    created: int
    place: str
