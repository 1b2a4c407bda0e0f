"""Whose a run is: somebody who has logged in, somebody who has not, or nobody. Pure.

The kind of the ref says which (``user-…``, ``anonymous-…``), so that whatever goes by a run's user knows it too.
"""

from __future__ import annotations

ANONYMOUS = "anonymous"


class Anonymous(str):
    """The id of somebody who has not logged in, such as that of a session: ``App.start(…, user=Anonymous("s41"))``.

    Of them nothing is remembered beyond the conversation.
    """

    __slots__ = ()


def kind_of(user: str) -> str:
    """The kind of ref that stands for a user in the log."""
    return ANONYMOUS if isinstance(user, Anonymous) else "user"


def is_anonymous(ref: str) -> bool:
    """Whether a ref is of somebody who has not logged in."""
    return ref.startswith(f"{ANONYMOUS}-")
