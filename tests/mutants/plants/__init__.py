"""Bugs that somebody could make, and the test that notices each: what a suite is worth is what it catches.

``make mutants`` tries all of them.
"""

from __future__ import annotations

from mutants.plants.approving import APPROVING
from mutants.plants.as_of import AS_OF
from mutants.plants.asking import ASKING
from mutants.plants.audit import AUDIT
from mutants.plants.codec import CODEC
from mutants.plants.delegating import DELEGATING
from mutants.plants.disk import DISK
from mutants.plants.families import FAMILIES
from mutants.plants.fitting import FITTING
from mutants.plants.foreign import FOREIGN
from mutants.plants.journeys import JOURNEYS
from mutants.plants.log import LOG
from mutants.plants.model import MODEL
from mutants.plants.moving import MOVING
from mutants.plants.operating import OPERATING
from mutants.plants.outcomes import OUTCOMES
from mutants.plants.projections import PROJECTIONS
from mutants.plants.projector import PROJECTOR
from mutants.plants.queueing import QUEUEING
from mutants.plants.remembering import REMEMBERING
from mutants.plants.run import RUN

MUTANTS = (
    *LOG,
    *DISK,
    *FOREIGN,
    *OPERATING,
    *MOVING,
    *RUN,
    *OUTCOMES,
    *FAMILIES,
    *DELEGATING,
    *CODEC,
    *MODEL,
    *AUDIT,
    *PROJECTIONS,
    *PROJECTOR,
    *AS_OF,
    *ASKING,
    *APPROVING,
    *QUEUEING,
    *REMEMBERING,
    *FITTING,
    *JOURNEYS,
)
