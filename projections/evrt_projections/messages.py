"""Messages: what was said in a conversation, one document per message, and one per run with its input and its end.

Its key is the conversation's ref, for a run without one the run itself. Its part is the run, for the run's own document,
else the run, a slash and the operation. What happened to the conversation itself has documents too: it was rewound, or it
is a fork; their part is the conversation, a slash and the version of the event. ``evrt.folds.chats`` makes the list of
messages of such documents: in order, without those of failed runs unless asked for, and of what was superseded.
"""

from __future__ import annotations

from evrt.events import Envelope
from evrt.folds.said import HANDLES, NOTHING, Said, evolve_said, key_of, part_of
from evrt.projection import Correlation, Projection

MESSAGES_BYTES_MAX = 32 * 1024


def _evolve(before: Said, envelope: Envelope) -> Said | None:
    return evolve_said(before, envelope, MESSAGES_BYTES_MAX)


PROJECTION = Projection[Said](
    name="messages",
    version=2,
    document=Said,
    handles=HANDLES,
    key=key_of,
    source=Correlation,
    initial=lambda key, part: NOTHING,
    evolve=_evolve,
    part=part_of,
    indexes=(("run", "at"), "at", "status"),
)
