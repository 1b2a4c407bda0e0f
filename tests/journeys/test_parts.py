"""What journeys are made of: states, templates, schemas of tools, closing phrases, guesses by keywords."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from enum import Enum, StrEnum
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import Field

import evrt
from evrt.agents.journeys.closing import CLOSING_PHRASES, is_closing
from evrt.agents.journeys.state import changes
from evrt.effects.tools import Tool
from evrt.errors import InvalidInput, UsageError


class Step(StrEnum):
    FIRST = "first"
    SECOND = "second"


class Number(Enum):
    ONE = 1
    TWO = 2


class Everything(evrt.JourneyState[Step]):
    """Types that states have."""

    step: Step = Step.FIRST
    text: str = ""
    number: int | None = None
    price: Decimal = Decimal(0)
    when: datetime | None = None
    lasts: timedelta = timedelta(0)
    choice: Number = Number.ONE
    tags: set[str] = Field(default_factory=set)
    counts: dict[str, int] = Field(default_factory=dict)
    nested: list[dict[str, list[int]]] = Field(default_factory=list)


safe = st.text(st.characters(codec="utf-8"), max_size=8)
FEW = settings(max_examples=(settings.default or settings()).max_examples // 4)
states = st.builds(
    Everything,
    step=st.sampled_from(Step),
    is_complete=st.booleans(),
    text=safe,
    number=st.none() | st.integers(-(2**53), 2**53),
    price=st.decimals(allow_nan=False, allow_infinity=False, places=2),
    when=st.none() | st.datetimes(timezones=st.just(UTC)),
    lasts=st.timedeltas(timedelta(0), timedelta(days=9)),
    choice=st.sampled_from(Number),
    tags=st.sets(safe, max_size=4),
    counts=st.dictionaries(safe, st.integers(0, 9), max_size=3),
    nested=st.lists(st.dictionaries(safe, st.lists(st.integers(0, 9), max_size=2), max_size=2), max_size=2),
)

# --------------------------------------------------------------------------------------- the state


@FEW
@given(state=states)
def test_a_state_goes_to_json_and_back(state: Everything) -> None:
    """S4.3"""
    assert Everything.from_dict(orjson.loads(orjson.dumps(state.to_dict()))) == state


def test_keys_that_are_missing_take_their_defaults_and_others_are_passed_over() -> None:
    """S4.3"""
    state = Everything.from_dict({"step": "second", "text": "kept", "gone": 7})
    assert state == Everything(step=Step.SECOND, text="kept")
    assert not state.is_complete
    assert "gone" not in state.to_dict()


@FEW
@given(before=states, after=states)
def test_what_has_changed_leads_from_the_one_state_to_the_other(
    before: Everything, after: Everything
) -> None:
    """S4.6"""
    kept = {**before.to_dict(), "of_an_older_class": 1}
    changed = {**kept, **changes(kept, after.to_dict())}
    assert Everything.from_dict(changed) == after
    assert changed["of_an_older_class"] == 1
    assert changes(before.to_dict(), before.to_dict()) == {}


def test_sets_are_written_in_the_same_order_by_every_process() -> None:
    tags = {f"tag {number}" for number in range(20)}
    state = Everything(tags=tags, nested=[])
    assert state.to_dict()["tags"] == sorted(tags)


# --------------------------------------------------------------------------------------- templates


@pytest.mark.parametrize(
    "text, rendered",
    [
        ("Hello $name.", "Hello Ann."),
        ("Hello ${name}!", "Hello Ann!"),
        ("$name$name", "AnnAnn"),
        ("${name}s", "Anns"),
        ("It costs $5, or $$name.", "It costs $5, or $name."),
        ("$company and $name", "ACME and Ann"),
        ("At the step ${step}.", "At the step second."),
        ("$$", "$"),
        ("72°F, naïve, 日本", "72°F, naïve, 日本"),
        ("", ""),
    ],
)
def test_a_template_is_filled_from_variables_and_defaults(text: str, rendered: str) -> None:
    """S4.13"""
    template = evrt.PromptTemplate(text, defaults={"company": "ACME", "name": "nobody"})
    assert template.render(name="Ann", step=Step.SECOND) == rendered


def test_a_missing_variable_is_an_error_that_names_it_and_those_there_are() -> None:
    """S4.13"""
    template = evrt.PromptTemplate("Dear $title $name", defaults={"greeting": "x"})
    with pytest.raises(
        UsageError, match=r"\$name, \$title, and there is no such variable.*: company, greeting\."
    ):
        template.render(company="ACME")


@pytest.mark.parametrize("text", ["${}", "${not a name}", "${1}", "${a-b}"])
def test_a_template_that_names_nothing_is_refused_when_it_is_made(text: str) -> None:
    """S4.13"""
    with pytest.raises(UsageError, match="names nothing"):
        evrt.PromptTemplate(text)


@FEW
@given(value=st.text())
def test_a_value_can_open_no_paragraph_of_the_prompt(value: str) -> None:
    rendered = evrt.PromptTemplate("Name: $name").render(name=value)
    assert len(rendered.splitlines()) == 1


def test_prompts_of_steps_have_a_default_can_be_added_to_and_take_variables() -> None:
    """S4.13"""
    prompts = evrt.StepPrompts[Everything, Step](
        {Step.FIRST: "One for $name."}, default="At ${step}.", defaults={"name": "you"}
    )
    assert prompts.get(Step.FIRST) == "One for you."
    assert prompts.get(Step.FIRST, name="Ann") == "One for Ann."
    assert prompts.get(Step.SECOND) == "At second."
    prompts.add(Step.SECOND, "Two.")
    assert prompts.get(Step.SECOND) == "Two."
    assert prompts.steps == {Step.FIRST, Step.SECOND}


def test_prompts_are_filled_from_the_state_and_from_what_enriches_it() -> None:
    """S4.14, fault 57"""
    prompts = evrt.StepPrompts[Everything, Step](
        mapping={
            Step.FIRST: "$text, $number times: $twice",
            Step.SECOND: lambda state: f"no. {state.number}",
        },
        enrich=lambda state: {"twice": 2 * (state.number or 0)},
    )
    assert prompts.render(Everything(text="tea", number=2)) == "tea, 2 times: 4"
    assert prompts.render(Everything(step=Step.SECOND, number=2)) == "no. 2"
    with pytest.raises(UsageError, match="function of the state"):
        prompts.get(Step.SECOND)


# --------------------------------------------------------------------------------- schemas of tools


def test_a_schema_is_put_together_parameter_by_parameter() -> None:
    """S4.16, B59"""
    schema = (
        evrt.ToolSchema("book")
        .description("Book a table.")
        .param("day", "string", "Which day.", enum=["sat", "sun"])
        .param("people", "integer", "How many.", default=2, minimum=1)
        .param("names", "array", items={"type": "string"}, required=False)
        .build()
    )
    assert schema["name"] == "book"
    assert schema["description"] == "Book a table."
    assert schema["parameters"] == {
        "type": "object",
        "properties": {
            "day": {"type": "string", "description": "Which day.", "enum": ["sat", "sun"]},
            "people": {"type": "integer", "description": "How many.", "default": 2, "minimum": 1},
            "names": {"type": "array", "items": {"type": "string"}},
        },
        "required": ["day"],
        "additionalProperties": False,
    }


async def test_a_tool_made_of_a_schema_is_called_with_what_it_says() -> None:
    """S4.16"""
    seen: list[dict[str, Any]] = []

    async def book(**arguments: Any) -> str:
        seen.append(arguments)
        return "booked"

    schema = evrt.ToolSchema("book").param("day", "string", enum=["sat", "sun"]).build()
    tool = Tool.from_schema(book, **schema, effect="read")
    app = evrt.App("memory://")

    @app.workflow
    async def books(ctx: evrt.Context[Any], day: str) -> Any:
        return await ctx.call(tool, day=day)

    async with app:
        assert (await app.run(books, "sat")).output == "booked"
        refused = await app.run(books, "mon")
    assert refused.failure is not None
    assert "day" in refused.failure.message
    assert seen == [{"day": "sat"}]


@pytest.mark.parametrize(
    "arguments, keywords, text",
    [
        (("day", "date"), {}, "is no type of a parameter"),
        (("day", "string"), {"items": {"type": "string"}}, "is no array"),
    ],
)
def test_a_schema_that_no_model_could_follow_is_refused(arguments: Any, keywords: Any, text: str) -> None:
    """S4.16"""
    with pytest.raises(UsageError, match=text):
        evrt.ToolSchema("book").param(*arguments, **keywords)


def test_a_parameter_is_given_once() -> None:
    """S4.16"""
    schema = evrt.ToolSchema("book").param("day", "string")
    with pytest.raises(UsageError, match="has a parameter day already"):
        schema.param("day", "integer")


def test_a_result_says_whether_it_went_well() -> None:
    """B59"""
    assert evrt.ToolResult.ok({"a": 1}).unwrap() == {"a": 1}
    with pytest.raises(InvalidInput, match="no table"):
        evrt.ToolResult.fail("no table").unwrap()


# ------------------------------------------------------------------------- closing phrases, keywords


@pytest.mark.parametrize(
    "text, closing",
    [
        ("Thanks!", True),
        ("thank you so much", True),
        ("Ok, thanks. Bye!", True),
        ("That\u2019s all 🙂", True),
        ("  BYE  ", True),
        ("Thanks, but please change my email", False),
        ("Thanks, bye, and one more thing", False),
        ("Is that all?", False),
        ("thanksgiving", False),
        ("no", False),
        ("", False),
        ("...", False),
    ],
)
def test_only_a_message_that_is_nothing_else_closes_a_conversation(text: str, closing: bool) -> None:
    """B60, fault 65"""
    assert is_closing(text) is closing


@FEW
@given(phrases=st.lists(st.sampled_from(sorted(CLOSING_PHRASES)), min_size=1, max_size=4))
def test_closing_phrases_after_one_another_close_as_well(phrases: list[str]) -> None:
    """B60"""
    assert is_closing(". ".join(phrases).upper())
    assert not is_closing(". ".join([*phrases, "please change my email"]))


def test_keywords_speak_for_a_route_by_their_share() -> None:
    """B57"""
    detector = evrt.KeywordDetector(
        {"book": ["book", "table", "make a reservation"], "cancel": ["cancel", "call off"]}
    )
    assert detector.detect("I want to BOOK a table!") == ("book", 1.0)
    assert detector.detect("Cancel the table, I cannot come: call off") == ("cancel", 2 / 3)
    assert detector.detect("make a reservation") == ("book", 1.0)
    assert detector.detect("booking tables") is None
    with pytest.raises(UsageError, match="a list of words"):
        evrt.KeywordDetector({"book": "book"})
