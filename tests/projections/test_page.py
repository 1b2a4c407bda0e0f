"""The page of projections is that of the code, and leads to the page on writing one."""

from __future__ import annotations

import tomllib

import docs_projections
from docs_pages import ROOT


def test_the_page_of_projections_is_up_to_date() -> None:
    assert docs_projections.PAGE.read_text("utf-8") == docs_projections.render(), (
        "Run python tests/docs_projections.py."
    )


def test_every_projection_that_is_registered_has_a_section() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    registered = project["entry-points"]["evrt.projections"]
    page = docs_projections.PAGE.read_text("utf-8")
    assert {name for name in registered if f"\n## {name}\n" not in page} == set()
    assert set(registered) == {projection.name for projection in docs_projections.BUILT_IN}


def test_the_page_leads_to_how_one_is_written() -> None:
    assert "](writing-a-projection.md)" in docs_projections.PAGE.read_text("utf-8")
