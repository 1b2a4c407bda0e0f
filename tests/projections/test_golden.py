"""Golden histories come to the documents they came to, by every built-in projection: digests only ever added to.

``python tests/projections/test_golden.py`` adds those that are missing.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from docs_projections import BUILT_IN
from evrt.projection import AnyProjection, digest, fold
from evrt.testing import check_projection, history_of
from histories import golden

DIGESTS = Path(__file__).parent / "digests.json"
HISTORIES = {path.stem: history_of(path) for path in sorted(golden.FOLDER.glob("*.jsonl"))}


def found() -> dict[str, str]:
    """Digests of today's folds, by history, projection and the projection's version."""
    return {
        f"{name} {projection.name} {projection.version}": digest(projection, fold(projection, history))
        for name, history in HISTORIES.items()
        for projection in BUILT_IN
    }


def test_golden_histories_come_to_the_documents_that_they_came_to() -> None:
    kept = json.loads(DIGESTS.read_text("utf-8"))
    today = found()
    assert {place: kept.get(place) for place in today} == today, (
        "A built-in projection makes other documents than it did. If it means to, it needs a new version, so that views "
        "are rebuilt; then run python tests/projections/test_golden.py. Digests of a version are never edited."
    )


@pytest.mark.parametrize("projection", BUILT_IN, ids=lambda projection: projection.name)
def test_golden_histories_fold_in_every_way_to_the_same(projection: AnyProjection) -> None:
    check_projection(projection, HISTORIES.values())


if __name__ == "__main__":
    before = json.loads(DIGESTS.read_text("utf-8")) if DIGESTS.exists() else {}
    DIGESTS.write_text(json.dumps(found() | before, indent=1, sort_keys=True) + "\n", "utf-8")
